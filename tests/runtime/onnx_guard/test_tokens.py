"""Attention that is none of ours is refused: matrices and shapes that do not fit, numbers for each pair of pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mrs.export.architectures.unet import ConditionalUNet
from mrs.export.graph_variant import GraphVariant
from mrs.runtime.onnx_guard import check_network
from tests.runtime.networks import refused

Change = Callable[[onnx.ModelProto], Any]
ARCH = ConditionalUNet(32, (32, 32, 32), middle="transformer", transformers=1, context=4)


@pytest.fixture(scope="module")
def attending() -> bytes:
    state = {key: value.numpy() for key, value in ARCH.module().state_dict().items()}
    return ARCH.graph(state, GraphVariant()).SerializeToString()


def nodes(model: onnx.ModelProto, operator: str, reads: str = "") -> list[onnx.NodeProto]:
    """Those of an operator, that read a value or weight whose name ends so."""
    return [node for node in model.graph.node
            if node.op_type == operator and any(name.endswith(reads) for name in node.input)]  # fmt: skip


def put(model: onnx.ModelProto, node: onnx.NodeProto, place: int, values: Any, dtype: Any = np.float32) -> None:
    """A weight of its own as an input of a node."""
    name = f"new_{len(model.graph.initializer)}"
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), name))
    node.input[place] = name


def reshaped(*sides: int) -> Change:
    """The first shape of tokens is another."""
    return lambda model: put(model, nodes(model, "Reshape")[0], 1, sides, np.int64)


def scores(model: onnx.ModelProto) -> onnx.NodeProto:
    """What makes a number for each pair of pixels: its softmax is along the last axis of a product."""
    made = {node.output[0]: node for node in model.graph.node}
    softmax = next(node for node in nodes(model, "Softmax") if made[node.input[0]].op_type == "MatMul")
    return made[softmax.input[0]]


def between(model: onnx.ModelProto, operator: str, value: str, **attributes: Any) -> None:
    """A node after one value, which all read instead."""
    place = next(i for i, node in enumerate(model.graph.node) if value in node.output)
    for node in model.graph.node:
        node.input[:] = ["new" if name == value else name for name in node.input]
    model.graph.node.insert(place + 1, helper.make_node(operator, [value], ["new"], name="new", **attributes))


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(each for each in node.attribute if each.name == name)


CHANGES: dict[str, tuple[Change, str]] = {
    "a shape of more": (reshaped(0, 1, -1, 64), "MatMul|LayerNormalization .* with inputs that do not fit"),
    "a shape that leaves a rest": (reshaped(0, 1, -1, 7), "Reshape .* with inputs that do not fit"),
    "a shape of less": (reshaped(0, 1, 5, 32), "Reshape .* with inputs that do not fit"),
    "two sides left over": (reshaped(0, -1, -1, 32), "Reshape .* with inputs that do not fit"),
    "a negative side": (reshaped(0, -2, -1, 32), "Reshape .* with inputs that do not fit"),
    "three sides": (reshaped(0, -1, 32), "Reshape .* with inputs that do not fit"),
    "sides as they were": (reshaped(0, 0, 0, -1), "MatMul .* with inputs that do not fit"),
    "a shape of another value": (
        lambda model: nodes(model, "Reshape")[0].input.__setitem__(1, model.graph.node[-1].input[0]),
        "Reshape .* with inputs that do not fit|reads what is not there",
    ),
    "a shape as floats": (
        lambda model: put(model, nodes(model, "Reshape")[0], 1, [0, 1, -1, 32]),
        "Reshape .* with inputs that do not fit",
    ),
    "sides of a side": (
        lambda model: attribute(next(node for node in nodes(model, "Shape") if node.attribute), "start").__setattr__(
            "i", 1
        ),
        "Shape .* with attribute start 1",
    ),
    "a matrix of other rows": (
        lambda model: put(model, nodes(model, "MatMul", "attn1.to_q.weight")[0], 1, np.ones((31, 32))),
        "MatMul .* with inputs that do not fit",
    ),
    "three matrices": (
        lambda model: put(model, nodes(model, "MatMul", "attn1.to_q.weight")[0], 1, np.ones((3, 32, 32))),
        "MatMul .* with inputs that do not fit",
    ),
    "a matrix for each of other heads": (
        lambda model: put(model, nodes(model, "MatMul", "fn.v.weight")[0], 1, np.ones((1, 3, 32, 32))),
        "MatMul .* with inputs that do not fit",
    ),
    "a product of weights": (
        lambda model: put(model, nodes(model, "MatMul", "fn.v.weight")[0], 0, np.ones((1, 4, 32, 32))),
        "MatMul .* with inputs that do not fit",
    ),
    "a product of whole numbers": (
        lambda model: put(model, nodes(model, "MatMul", "attn1.to_q.weight")[0], 1, np.ones((32, 32)), np.int64),
        "MatMul .* with inputs that do not fit",
    ),
    "a softmax over the channels of a picture": (
        lambda model: attribute(nodes(model, "Softmax")[0], "axis").__setattr__("i", 1),
        "Softmax .* with attribute axis 1",
    ),
    "a cast into whole numbers": (
        lambda model: attribute(nodes(model, "Cast")[0], "to").__setattr__("i", 7),
        "Cast .* with attribute to 7",
    ),
    "a cast of a picture": (
        lambda model: nodes(model, "Cast")[0].input.__setitem__(0, model.graph.node[0].output[0]),
        "Cast .* with inputs that do not fit|is not read",
    ),
    "a cast of a weight": (
        lambda model: put(model, nodes(model, "Cast")[0], 0, [3], np.int64),
        "Cast .* with inputs that do not fit",
    ),
    "a quotient by several sides": (
        lambda model: [
            node.attribute.remove(attribute(node, "end")) for node in nodes(model, "Shape") if node.attribute
        ],
        "Div .* with inputs that do not fit",
    ),
    "groups without a vector each": (
        lambda model: put(model, nodes(model, "InstanceNormalization")[0], 2, np.zeros(31)),
        "InstanceNormalization .* with inputs that do not fit",
    ),
    "another epsilon": (
        lambda model: attribute(nodes(model, "InstanceNormalization")[0], "epsilon").__setattr__("f", 0.0),
        "InstanceNormalization .* with attribute epsilon 0",
    ),
    "a gain of other channels": (
        lambda model: put(model, nodes(model, "Mul", "to_out.1.g")[0], 1, np.ones(31)),
        "Mul .* with inputs that do not fit",
    ),
    "a transposed kernel of other channels": (
        lambda model: put(model, nodes(model, "ConvTranspose")[0], 1, np.ones((31, 32, 4, 4))),
        "ConvTranspose .* with inputs that do not fit",
    ),
    "a transposed kernel of another side": (
        lambda model: put(model, nodes(model, "ConvTranspose")[0], 1, np.ones((32, 32, 5, 4))),
        "ConvTranspose .* with inputs that do not fit",
    ),
    "a transposed kernel in groups": (
        lambda model: attribute(nodes(model, "ConvTranspose")[0], "group").__setattr__("i", 2),
        "ConvTranspose .* with group 2",
    ),
    "a bias of others": (
        lambda model: put(model, nodes(model, "ConvTranspose")[0], 2, np.ones(31)),
        "ConvTranspose .* with inputs that do not fit",
    ),
    "elementwise for each pair of pixels": (
        lambda model: between(model, "Sigmoid", scores(model).output[0]),
        "a number for each pair of pixels",
    ),
    "a copy of all pairs of pixels": (
        lambda model: between(model, "Transpose", scores(model).output[0], perm=[0, 1, 3, 2]),
        "a number for each pair of pixels",
    ),
}


def test_an_attending_network_passes(attending: bytes) -> None:
    assert check_network(attending, "plan").context == 3 * 32


@pytest.mark.parametrize(("change", "match"), list(CHANGES.values()), ids=list(CHANGES))
def test_what_does_not_fit(attending: bytes, change: Change, match: str) -> None:
    model = onnx.load_from_string(attending)
    change(model)
    refused(model.SerializeToString(), match)
