"""A conditioner whose encoder is none of ours is refused: patches, tokens and halved weights that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from mrs.export.architectures.clip import Encoder, EncoderWeights, graph
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.unet import ConditionalUNet
from mrs.export.graph_variant import GraphVariant
from mrs.runtime.errors import InputError, PlanError
from mrs.runtime.onnx_guard import check_conditioner, check_network
from tests.runtime.onnx_guard.test_tokens import Change, attribute, between, nodes, put

TOLD = ConditionalUNet(32, (32, 32), middle="transformer", context=4, prompt=True)


def conditioner(encoder: Encoder) -> bytes:
    state = {key: torch.ones(shape) for key, shape in encoder.weight_shapes().items()}
    weights = {key: value.numpy() for key, value in TOLD.module().state_dict().items()}
    found = TOLD.conditioner(weights, EncoderWeights(encoder, state, "", Path("encoder.pt")))
    assert found is not None
    return found.graph.SerializeToString()


@pytest.fixture(scope="module")
def halved() -> bytes:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(graph, "LARGEST", 0)
        return conditioner(Encoder(4, 1, 16, 32, 4, 2))


def first(operator: str, change: Callable[[onnx.ModelProto, onnx.NodeProto], Any]) -> Change:
    """A change of the first node of an operator."""
    return lambda model: change(model, nodes(model, operator)[0])


def numbers(place: int, *values: int) -> Callable[[onnx.ModelProto, onnx.NodeProto], Any]:
    """Other whole numbers as an input."""
    return lambda model, node: put(model, node, place, values, np.int64)


def sides(**values: list[int]) -> Callable[[onnx.ModelProto, onnx.NodeProto], Any]:
    """Other numbers as attributes."""
    return lambda model, node: [
        attribute(node, name).ints.__setitem__(slice(None), each) for name, each in values.items()
    ]


CHANGES: dict[str, tuple[Change, str]] = {
    "patches that overlap": (first("Conv", sides(strides=[8, 8])), "Conv .* with inputs that do not fit"),
    "patches of other pixels": (
        first("Conv", sides(kernel_shape=[8, 8], strides=[8, 8])), "Conv .* with inputs that do not fit",
    ),
    "patches of no kind": (first("Conv", sides(strides=[15, 15])), r"Conv .* with attribute strides \(15, 15\)"),
    "a picture of half a patch": (
        lambda model: [dim.__setattr__("dim_value", 24) for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]],
        "Conv .* with inputs that do not fit",
    ),
    "two rows more": (first("Pad", numbers(1, 0, 0, 2, 0, 0, 0, 0, 0)), "Pad .* with inputs that do not fit"),
    "a row after": (first("Pad", numbers(1, 0, 0, 0, 0, 0, 0, 1, 0)), "Pad .* with inputs that do not fit"),
    "a row less": (first("Pad", numbers(1, 0, 0, -1, 0, 0, 0, 0, 0)), "Pad .* with inputs that do not fit"),
    "zeros of floats": (
        first("Pad", lambda model, node: put(model, node, 1, [0, 0, 1, 0, 0, 0, 0, 0])),
        "Pad .* with inputs that do not fit",
    ),
    "what is filled in": (
        first("Pad", lambda model, node: node.attribute.append(helper.make_attribute("mode", "wrap"))),
        "Pad .* with attributes mode",
    ),
    "another number than zero": (
        first("Pad", lambda model, node: node.input.append(node.input[0])), "Pad .* with 3 inputs",
    ),
    "the second token": (first("Slice", numbers(1, 1)), "Slice .* with inputs that do not fit"),
    "two tokens": (first("Slice", numbers(2, 2)), "Slice .* with inputs that do not fit"),
    "the first number": (first("Slice", numbers(3, 3)), "Slice .* with inputs that do not fit"),
    "tokens by steps": (first("Slice", lambda model, node: node.input.append(node.input[2])), "Slice .* with 5 inputs"),
    "a norm's bias of others": (
        first("LayerNormalization", lambda model, node: put(model, node, 2, np.zeros(3))),
        "LayerNormalization .* with inputs that do not fit",
    ),
    "a matrix of halves into halves": (
        first("Cast", lambda model, node: attribute(node, "to").__setattr__("i", 10)), "Cast .* with attribute to 10",
    ),
    "halves that are no matrix": (
        first("Cast", lambda model, node: put(model, node, 0, np.zeros((1, 1, 4, 4)), np.float16)),
        "Cast .* with inputs that do not fit",
    ),
    "halves by themselves": (
        lambda model: nodes(model, "MatMul")[0].input.__setitem__(1, nodes(model, "Cast")[0].input[0]),
        "MatMul .* with inputs that do not fit",
    ),
}  # fmt: skip


def test_a_halved_encoder_passes(halved: bytes) -> None:
    assert check_conditioner(halved, "plan") == (3, 32, 128 + 32)


@pytest.mark.parametrize(("change", "match"), list(CHANGES.values()), ids=list(CHANGES))
def test_what_does_not_fit(halved: bytes, change: Change, match: str) -> None:
    model = onnx.load_from_string(halved)
    change(model)
    with pytest.raises(PlanError, match=match):
        check_conditioner(model.SerializeToString(), "plan")


def test_sides_that_a_graph_leaves_open_are_no_tokens() -> None:
    arch = NAFNet(4, (), 1, ())
    state = {key: value.numpy() for key, value in arch.module().state_dict().items()}
    model = arch.graph(state, GraphVariant())
    picture = nodes(model, "Conv")[0].output[0]
    between(model, "Pad", picture)
    pad = nodes(model, "Pad")[0]
    pad.input.append("")
    put(model, pad, 1, [0, 0, 1, 0, 0, 0, 0, 0], np.int64)
    with pytest.raises(PlanError, match=r"Pad .* with inputs that do not fit"):
        check_network(model.SerializeToString(), "plan")


def test_patches_that_no_plan_takes_are_not_written() -> None:
    with pytest.raises(InputError, match=r"has patches of 10 pixels \(a plan takes those of 8, 14, 16, 32\)"):
        conditioner(Encoder(4, 1, 10, 20, 4, 2))


def test_a_published_encoder_is_not_too_much() -> None:
    """As many blocks as ViT-L-14: elementwise operations in a row are not counted on through them."""
    assert check_conditioner(conditioner(Encoder(4, 24, 14, 28, 4, 2)), "plan").length == 160
