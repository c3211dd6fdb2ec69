"""Graphs for int8 and fp8: what is quantised, on which values, and what is said where it cannot be."""

from __future__ import annotations

import importlib.util
import inspect
import logging
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mrs.export import quantise as quantisation
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.autotune.calibrated import CalibratedGraphs, feeds_of, graph_of
from mrs.export.autotune.candidates import candidates
from mrs.export.autotune.workload import Pair, Target
from mrs.export.graph_variant import GraphVariant, first_variant
from mrs.export.quantise import quantised
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Loop
from mrs.runtime.errors import BackendError
from tests.export.modelopt_double import ARGUMENTS, ModelOpt, install
from tests.random_nafnet import nafnet_bytes, random_nafnet

GATES = ("split", "weights")
STEPS = 3


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's advice to change the graph first is for others."""
    monkeypatch.setattr(logging.root, "disabled", True)


@pytest.fixture
def modelopt(monkeypatch: pytest.MonkeyPatch) -> ModelOpt:
    return install(monkeypatch)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "modelopt" else find(name))


def graph(net: ConditionalNAFNet, gate: str = "split") -> bytes:
    return nafnet_bytes(net, GraphVariant("layernorm", gate))


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8)


@pytest.fixture(scope="module")
def net() -> ConditionalNAFNet:
    return random_nafnet(NAFNet(16, (1, 1), 1, (1, 1)), gains=0.25, contrast=None)


@pytest.fixture(scope="module")
def loop(net: ConditionalNAFNet) -> Loop:
    table = tableau(Schedule(), Solver(steps=STEPS), "data")
    return Loop(table, modulation_table(net, table.times[:-1]))


@pytest.fixture(scope="module")
def feeds(net: ConditionalNAFNet, loop: Loop) -> Any:
    engine = backends.get("onnxruntime")
    return feeds_of(engine, graph(net), loop, [Pair(picture(0)), Pair(picture(1))], CompileSettings(1))


def quantised_weights(content: bytes) -> set[str]:
    """Of the convolutions whose input and weights are dequantised."""
    model = onnx.load_from_string(content)
    by_output = {name: node for node in model.graph.node for name in node.output}
    found = set()
    for node in model.graph.node:
        sources = [by_output.get(name) for name in node.input[:2]]
        if node.op_type == "Conv" and all(each and each.op_type == "DequantizeLinear" for each in sources):
            _, weight = sources
            assert weight is not None
            found.add(by_output[weight.input[0]].input[0])
    return found


# Values to calibrate on


def test_every_evaluation_of_every_picture(feeds: Any, loop: Loop) -> None:
    assert len(feeds) == 2 * STEPS
    for index, feed in enumerate(feeds):
        assert feed["packed"].shape == (1, 6, 16, 24)
        # The second half is the degraded picture.
        degraded = picture(index // STEPS).transpose(2, 0, 1)[None] / np.float32(255)
        np.testing.assert_allclose(feed["packed"][:, 3:], degraded, atol=1e-6)
        np.testing.assert_array_equal(feed["modulation"].ravel(), loop.modulation[index % STEPS])
        assert feed["modulation"].shape == (1, loop.modulation.shape[1], 1, 1)
    # Each is a copy of its own moment: noise becomes less.
    spread = [feed["packed"][:, :3].std() for feed in feeds[:STEPS]]
    assert len(set(spread)) == STEPS


# What is quantised


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_the_convolutions_that_pay(modelopt: ModelOpt, net: Any, feeds: Any, gate: str, precision: str) -> None:
    made = quantised(graph(net, gate), precision, feeds)
    found = {name.split(".weight")[0] for name in quantised_weights(made)}
    # At full resolution it has 16 channels.
    blocks = ("encoders.1.0", "middle_blks.0", "decoders.0.0")
    assert found == {f"{block}.conv{n}" for block in blocks for n in (1, 3, 4, 5)} | {"downs.1"}
    halves = 2 if gate == "weights" else 1
    assert len(quantised_weights(made)) == len(blocks) * (2 + 2 * halves) + 1
    model = onnx.load_from_string(made)
    onnx.checker.check_model(model, full_check=True)
    dtypes = {tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith("zero_point")}
    assert dtypes == {{"int8": onnx.TensorProto.INT8, "fp8": onnx.TensorProto.FLOAT8E4M3FN}[precision]}


def test_it_is_asked_for_on_any_machine_and_leaves_the_rest_float32(modelopt: ModelOpt, net: Any, feeds: Any) -> None:
    quantised(graph(net), "fp8", feeds)
    (call,) = modelopt.calls
    assert call["calibration_eps"] == ["cpu"]
    assert (call["high_precision_dtype"], call["calibration_method"]) == ("fp32", "max")
    # Patterns of whole names: Conv_1 is not Conv_12.
    assert all(pattern.endswith("$") for pattern in call["nodes_to_quantize"])


def test_made_once_for_each_form_and_precision(modelopt: ModelOpt, net: Any, loop: Loop) -> None:
    engine = backends.get("onnxruntime")
    shapes = {GraphVariant("layernorm", gate): graph(net, gate) for gate in GATES}
    shapes[first_variant(engine)] = nafnet_bytes(net, first_variant(engine))
    told: list[str] = []
    graphs = CalibratedGraphs(
        shapes, [Pair(picture(0))], loop, Target(engine.name, settings=CompileSettings(1, report=told.append))
    )
    split = GraphVariant("layernorm", "split")
    assert (graph_of(graphs, split, "bf16"), dict(graphs)) == (shapes[split], shapes)
    assert not told
    assert graph_of(graphs, split, "int8") == graph_of(graphs, split, "int8") != shapes[split]
    graph_of(graphs, split, "fp8")
    assert [call["quantize_mode"] for call in modelopt.calls] == ["int8", "fp8"]
    assert told[0] == "values to calibrate on, onnxruntime"
    assert len(told) == 3


# What is said


def test_no_modelopt(absent: None, net: Any, feeds: Any) -> None:
    with pytest.raises(BackendError, match=r"int8 needs NVIDIA ModelOpt, .* pip install 'mrs-trt\[modelopt\]'"):
        quantised(graph(net), "int8", feeds)
    assert quantisation.missing("bf16") is None


def test_a_modelopt_without_what_it_needs(monkeypatch: pytest.MonkeyPatch, net: Any, feeds: Any) -> None:
    install(monkeypatch)
    import sys

    monkeypatch.setitem(sys.modules, "modelopt.onnx.quantization", None)
    with pytest.raises(BackendError, match="ModelOpt cannot quantise for int8: import of modelopt"):
        quantised(graph(net), "int8", feeds)


def test_a_modelopt_that_fails(modelopt: ModelOpt, net: Any, feeds: Any) -> None:
    modelopt.fails = RuntimeError("\n  no rule for this\nand a long text")
    with pytest.raises(BackendError, match=r"ModelOpt cannot quantise for fp8: no rule for this$"):
        quantised(graph(net), "fp8", feeds)


def test_a_network_with_too_few_channels(modelopt: ModelOpt, net: Any, feeds: Any) -> None:
    modelopt.least = 1000
    with pytest.raises(BackendError, match="ModelOpt finds no convolution in this network for fp8"):
        quantised(graph(net), "fp8", feeds)


def test_a_network_of_narrow_convolutions(modelopt: ModelOpt, net: Any, feeds: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(quantisation, "LEAST", 1000)
    with pytest.raises(BackendError, match="this network has no convolution of 1000 channels for int8"):
        quantised(graph(net), "int8", feeds)
    assert not modelopt.calls


def test_plain_graphs_were_not_calibrated() -> None:
    with pytest.raises(BackendError, match="nothing was calibrated for int8"):
        graph_of({GraphVariant(): b""}, GraphVariant(), "int8")


# Candidates


@pytest.fixture
def runs_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(backends.get("onnxruntime")), "precisions", lambda self: ("fp32", "int8"))


@pytest.mark.usefixtures("runs_int8")
def test_a_candidate_only_where_it_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    find, there = importlib.util.find_spec, [True]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there[0] if name == "modelopt" else find(name))
    assert [each.precision for each in candidates(Target("onnxruntime", "auto", "cpu"))] == ["fp32", "int8"]
    there[0] = None  # type: ignore[call-overload]
    assert [each.precision for each in candidates(Target("onnxruntime", "auto", "cpu"))] == ["fp32"]
    with pytest.raises(BackendError, match="int8 needs NVIDIA ModelOpt, which is not installed: pip install"):
        candidates(Target("onnxruntime", "int8", "cpu"))


def test_a_gpu_without_it_is_told_first(absent: None) -> None:
    with pytest.raises(BackendError, match=r"nothing can run fp8 here \(onnxruntime: no fp8 here\)"):
        candidates(Target("onnxruntime", "fp8", "cpu"))


# The real one


@pytest.mark.skipif(importlib.util.find_spec("modelopt") is None, reason="NVIDIA ModelOpt is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_the_real_modelopt(net: Any, feeds: Any, precision: str) -> None:
    from modelopt.onnx.quantization import quantize

    assert set(inspect.signature(quantize).parameters) >= ARGUMENTS
    made = quantised(graph(net), precision, feeds)
    found = quantised_weights(made)
    assert all(quantisation.CONVOLUTIONS.search(name) for name in found)
    assert len(found) == 3 * 4 + 1
    onnx.checker.check_model(onnx.load_from_string(made), full_check=True)
