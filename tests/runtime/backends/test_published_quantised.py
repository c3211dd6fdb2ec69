"""int8 and fp8 of published UNets: their blocks' convolutions, and nothing that others read."""

from __future__ import annotations

import functools
import logging
from typing import Any

import onnx
import pytest
import torch

from mrs.export import quantise
from mrs.export.architectures.unet import ConditionalUNet
from mrs.export.architectures.unet.graph import build_graph
from mrs.export.architectures.unet.module import module_of
from mrs.export.quantise import quantised
from mrs.runtime.backends.typed_graph import typed_graph
from mrs.runtime.errors import BackendError
from mrs.runtime.onnx_guard import check_network
from tests.export.modelopt_double import install
from tests.runtime.backends.published import case
from tests.runtime.backends.tensorrt import reference

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(30)]
NAME = "daclip_unet_full"
# Largest error, relative to the largest output; of float16 it is below 0.005.
PRECISIONS = {"int8": (0.005, 0.04), "fp8": (0.02, 0.1)}


@functools.cache
def quantised_graph(name: str, precision: str) -> bytes:
    """As ModelOpt's double makes it of the published inputs."""
    given = case(name)
    feeds = [{"packed": given.packed, "modulation": row[None, :, None, None]} for row in given.modulation]
    if given.context is not None:
        feeds = [{**feed, "context": given.context} for feed in feeds]
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        patch.setattr(logging.root, "disabled", True)
        return quantised(given.graph, precision, feeds)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_convolutions_of_blocks_alone_read_what_is_quantised(precision: str) -> None:
    model = onnx.load_from_string(quantised_graph(NAME, precision))
    makers = {name: node for node in model.graph.node for name in node.output}
    left = []
    for node in model.graph.node:
        reads = [name for name in node.input if name in makers and makers[name].op_type == "DequantizeLinear"]
        if node.op_type == "Conv":
            # Both, or none.
            assert reads in ([], list(node.input[:2]))
            left += [] if reads else [node.input[1]]
        elif node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            assert reads == [], node.name
    assert sorted(left) == ["final_conv.weight", "init_conv.weight", "mlps.weight", "ups.3.3.weight"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_plan_may_hold_it(precision: str) -> None:
    plain, made = (check_network(content, "plan", kind) for content, kind in (
        (case(NAME).graph, "fp32"), (quantised_graph(NAME, precision), precision)))  # fmt: skip
    assert plain == made


@pytest.mark.parametrize("precision", PRECISIONS)
def test_near_the_published_outputs_but_for_its_steps(precision: str) -> None:
    given, (least, most) = case(NAME), PRECISIONS[precision]
    count, _, *sides = given.packed.shape
    model = onnx.load_from_string(typed_graph(quantised_graph(NAME, precision), precision, (count, *sides)))
    onnx.checker.check_model(model, full_check=True)
    program, packed = reference.Program.of(model), torch.from_numpy(given.packed).half()
    assert given.context is not None
    for step in range(len(given.outputs)):
        row = torch.from_numpy(given.modulation[step : step + 1, :, None, None].copy())
        with torch.no_grad():
            made = reference.evaluate(program, packed, row, context=torch.from_numpy(given.context))
        assert least < given.error(made.float().numpy(), step) < most


def test_residuals_that_a_quantiser_rounds_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lets whoever reads a convolution's input read what was made of it for that."""
    monkeypatch.setattr(quantise, "_leave_residuals", lambda model: None)
    rounded: Any = onnx.load_from_string(quantised_graph.__wrapped__(NAME, "int8"))
    dequantised = {node.output[0] for node in rounded.graph.node if node.op_type == "DequantizeLinear"}
    assert any(node.op_type == "Add" and dequantised & set(node.input) for node in rounded.graph.node)


def test_a_network_that_is_too_narrow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    net = module_of(ConditionalUNet(4, (4, 16)))
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    with pytest.raises(BackendError, match="this network has no convolution of 32 channels for int8"):
        quantised(build_graph(state, net.arch).SerializeToString(), "int8", [])
