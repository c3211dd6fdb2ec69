"""Nodes with attributes, shapes or constants that are none of ours are refused by their names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from onnx import AttributeProto, helper, numpy_helper

from mrs.runtime.onnx_guard import check_network
from tests.runtime.networks import raw, refused, smallest
from tests.runtime.onnx_guard.changes import Change, Model, attribute, before, changed, first, last_input, put, rename

# The constant by which the vectors of all blocks are cut apart: the first that the graph has.
SIZES = "constant_0"


def axis(model: Model) -> str:
    """The constant by which channels are averaged over."""
    return first(model, "ReduceMean").input[1]


def kernel(model: Model, name: str, values: list[int]) -> None:
    del attribute(model, "Conv", name).ints[:]
    attribute(model, "Conv", name).ints.extend(values)


NODES: dict[str, tuple[Change, str]] = {
    "unknown operator": (
        lambda model: setattr(first(model, "Sqrt"), "op_type", "Loop"),
        "Loop .* with an operator of no plan",
    ),
    "unknown attribute": (
        lambda model: first(model, "Sqrt").attribute.append(helper.make_attribute("axis", 1)),
        "Sqrt .* with attributes axis",
    ),
    "an attribute twice": (
        lambda model: first(model, "Conv").attribute.append(attribute(model, "Conv", "group")),
        "Conv with two attributes group",
    ),
    "an attribute too few": (
        lambda model: first(model, "Conv").attribute.remove(attribute(model, "Conv", "pads")),
        "Conv .* with attribute pads None",
    ),
    "two values of an attribute": (
        lambda model: setattr(attribute(model, "Conv", "group"), "f", 1.0),
        "attribute group of type 2",
    ),
    "another type than its value": (
        lambda model: setattr(attribute(model, "Conv", "group"), "type", AttributeProto.FLOAT),
        "attribute group of type 1",
    ),
    "a reference": (
        lambda model: setattr(attribute(model, "Conv", "group"), "ref_attr_name", "a"),
        "a field 21",
    ),
    "huge pads": (lambda model: kernel(model, "pads", [1 << 40] * 4), "Conv .* with attribute pads"),
    "negative pads": (lambda model: kernel(model, "pads", [-1] * 4), "Conv .* with attribute pads"),
    "many pads": (lambda model: kernel(model, "pads", [1] * 400), "Conv .* with attribute pads"),
    "no stride": (lambda model: kernel(model, "strides", [0, 0]), "Conv .* with attribute strides"),
    "another kernel": (lambda model: kernel(model, "kernel_shape", [1, 1]), "Conv .* with inputs that do not fit"),
    "a dilation": (
        lambda model: first(model, "Conv").attribute.append(helper.make_attribute("dilations", [9, 9])),
        "Conv .* with attributes dilations",
    ),
    "group 2": (lambda model: setattr(attribute(model, "Conv", "group"), "i", 2), "Conv .* with group 2"),
    "a bias of one": (
        lambda model: first(model, "Conv").input.__setitem__(2, put(model, "b", [1.0])),
        "Conv .* with inputs that do not fit",
    ),
    "other blocks": (
        lambda model: setattr(attribute(model, "DepthToSpace", "blocksize"), "i", 1 << 30),
        "DepthToSpace .* with attribute blocksize",
    ),
    "a mode": (
        lambda model: setattr(attribute(model, "DepthToSpace", "mode"), "s", b"DCR"),
        "DepthToSpace .* with attribute mode DCR",
    ),
    "another axis": (
        lambda model: put(model, axis(model), [7], np.int64),
        "ReduceMean .* with another axis than the channels",
    ),
    "axes": (
        lambda model: put(model, axis(model), [1, 1], np.int64),
        "ReduceMean .* with another axis than the channels",
    ),
    "an axis as float": (lambda model: put(model, axis(model), [1.0]), "ReduceMean .* with another axis"),
    "sizes of another sum": (lambda model: put(model, SIZES, [4] * 19 + [5], np.int64), "Split .* with inputs"),
    "sizes that cancel": (
        lambda model: put(model, SIZES, [1 << 62, -(1 << 62), *numbers(model, SIZES)], np.int64),
        "Split .* with inputs",
    ),
    "no size": (
        lambda model: put(model, SIZES, [0, 8, *numbers(model, SIZES)[2:]], np.int64),
        "Split .* with inputs",
    ),
    "a root of a weight": (
        lambda model: before(model, "Sqrt", put(model, "z", np.ones((1, 4, 1, 1)))),
        "Sqrt new with inputs that do not fit",
    ),
    "a sum of other sides": (
        lambda model: before(model, "Add", last_input(model), put(model, "z", np.ones((1, 3, 1, 1)))),
        "Add new with inputs that do not fit",
    ),
    "a sum of other ranks": (
        lambda model: before(model, "Add", last_input(model), put(model, "z", np.ones((4, 1, 1)))),
        "Add new with inputs that do not fit",
    ),
    "weights that are computed": (
        lambda model: first(model, "Conv").input.__setitem__(1, "packed"),
        "Conv .* with inputs that do not fit",
    ),
    "a value of a later node": (
        lambda model: first(model, "Sqrt").input.__setitem__(0, last_input(model)),
        "Sqrt .* reads what is not there",
    ),
}


def numbers(model: Model, name: str) -> list[int]:
    return [int(number) for number in numpy_helper.to_array(raw(model, name))]


@pytest.mark.parametrize(("change", "match"), list(NODES.values()), ids=list(NODES))
def test_a_node_that_is_none_of_ours(tiny: Any, change: Change, match: str) -> None:
    refused(changed(tiny.graph, change), match)


def test_a_constant_that_is_not_finite() -> None:
    model = smallest()
    ones = put(model, "ones", np.ones(3))
    for operator, permutation in (
        ("Transpose", [0, 2, 3, 1]),
        ("LayerNormalization", None),
        ("Transpose", [0, 3, 1, 2]),
    ):
        attributes: dict[str, Any] = {"perm": permutation} if permutation else {"axis": -1, "epsilon": 1e-5}
        before(model, operator, last_input(model), *([] if permutation else [ones]), **attributes)
        rename(model, len(model.graph.node))
    check_network(model.SerializeToString(), "plan")
    for value in (math.nan, math.inf, 0.0, -1e-5, 1e-4):
        attribute(model, "LayerNormalization", "epsilon").f = value
        refused(model.SerializeToString(), "LayerNormalization .* with attribute epsilon")
