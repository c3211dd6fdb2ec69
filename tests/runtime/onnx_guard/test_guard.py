"""Networks that are none of ours are refused by PlanError alone, in one line, wherever they hide what they do."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper

from mrs.runtime.onnx_guard import Network, check_network
from tests.runtime.networks import raw, refused, smallest
from tests.runtime.onnx_guard.changes import Change, Model, attribute, before, changed, first, last_input, put, rename


def test_the_smallest_network_passes() -> None:
    wanted = Network(channels=4, modulation=7, context=0, multiple=1, bytes_per_pixel=32)
    assert check_network(smallest(4, 7).SerializeToString(), "plan") == wanted


# What ended the process, or never came to an end

CRASHES: dict[str, tuple[Change, str]] = {
    # OpenVINO read out of bounds.
    "GatherND": (
        lambda model: before(model, "GatherND", last_input(model), put(model, "at", [[9, 9, 9, 9]], np.int64)),
        "GatherND new with an operator of no plan",
    ),
    # Both engines divided by -1, which no 64-bit integer holds.
    "a quotient of integers": (
        lambda model: (
            put(model, "low", [-(2**63)], np.int64),
            put(model, "minus", [-1], np.int64),
            model.graph.node.insert(0, helper.make_node("Div", ["low", "minus"], ["q"], name="q")),
        ),
        "Div q with inputs that do not fit",
    ),
    "a circle": (
        lambda model: first(model, "Add").input.__setitem__(0, "output"),
        "Add .* reads what is not there",
    ),
    "group -1": (
        lambda model: setattr(attribute(model, "Conv", "group"), "i", -1),
        "Conv .* with group -1",
    ),
    "an input that nobody sets": (
        lambda model: (
            model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1, 4, 1, 1])),
            before(model, "Add", last_input(model), "other"),
        ),
        "inputs packed, modulation, other",
    ),
    "a thousand roots": (
        lambda model: [before(model, "Sqrt", last_input(model)) or rename(model, i) for i in range(1000)],
        "more than 9 elementwise operations in a row",
    ),
    "one value, added again and again": (
        lambda model: [before(model, "Mul", last_input(model), "Conv_1") or rename(model, i) for i in range(6)],
        "more than 9 elementwise operations in a row, or 3 of one value",
    ),
}


@pytest.mark.parametrize(("change", "match"), list(CRASHES.values()), ids=list(CRASHES))
def test_what_ends_or_stops_a_process(tiny: Any, change: Change, match: str) -> None:
    refused(changed(tiny.graph, change), match)


# Outside of its own bytes


def external(tensor: TensorProto) -> None:
    onnx.external_data_helper.set_external_data(tensor, "../../secret")


HIDDEN: dict[str, tuple[Change, str]] = {
    "external data": (lambda model: external(model.graph.initializer[0]), "a field 13"),
    "a location": (
        lambda model: setattr(model.graph.initializer[0], "data_location", TensorProto.EXTERNAL),
        "a field 14",
    ),
    "a sparse weight": (
        lambda model: model.graph.sparse_initializer.append(onnx.SparseTensorProto(dims=[4])),
        "a field 15",
    ),
    "a function": (
        lambda model: model.functions.append(helper.make_function("here", "F", [], ["c"], [], [])),
        "a field 25",
    ),
    "training": (lambda model: model.training_info.append(onnx.TrainingInfoProto()), "a field 20"),
    "metadata": (lambda model: helper.set_model_props(model, {"a": "b"}), "a field 14"),
    "a subgraph": (
        lambda model: model.graph.node[0].attribute.append(AttributeProto(name="g", type=5, g=onnx.GraphProto())),
        "a field 6",
    ),
    "subgraphs": (
        lambda model: model.graph.node[0].attribute.append(
            AttributeProto(name="g", type=10, graphs=[onnx.GraphProto()])
        ),
        "a field 11",
    ),
    "a tensor": (
        lambda model: model.graph.node[0].attribute.append(AttributeProto(name="t", type=4, t=TensorProto())),
        "a field 5",
    ),
    "another domain": (lambda model: setattr(model.graph.node[0], "domain", "com.microsoft"), "a field 7"),
    "operators of another domain": (
        lambda model: setattr(model.opset_import[0], "domain", "com.microsoft"),
        "operators of another domain",
    ),
    "two opsets": (lambda model: model.opset_import.append(helper.make_opsetid("x", 1)), "two fields 8"),
    "another opset": (lambda model: setattr(model.opset_import[0], "version", 21), "ONNX 9 with operators 21"),
    "another version": (lambda model: setattr(model, "ir_version", 10), "ONNX 10 with operators 18"),
    "no version": (lambda model: model.ClearField("ir_version"), "no ir_version"),
}


@pytest.mark.parametrize(("change", "match"), list(HIDDEN.values()), ids=list(HIDDEN))
def test_what_could_reach_outside(change: Change, match: str) -> None:
    refused(changed(smallest().SerializeToString(), change), match)


# Weights, values, inputs, the output


def side(model: Model, value: onnx.ValueInfoProto, axis: int, number: int) -> None:
    value.type.tensor_type.shape.dim[axis].dim_value = number


ILL_FITTING: dict[str, tuple[Change, str]] = {
    "fewer bytes": (lambda model: setattr(raw(model, "w"), "raw_data", bytes(8)), "weight w does not have the bytes"),
    "other sides": (lambda model: raw(model, "w").dims.__setitem__(0, 1 << 62), "weight w does not have the bytes"),
    "sides that overflow": (
        lambda model: raw(model, "w").dims.__setitem__(slice(None), [1 << 32, 1 << 32, 1, 1]),
        "weight w",
    ),
    "a negative side": (
        lambda model: raw(model, "w").dims.__setitem__(slice(None), [-3, -6, 1, 1]),
        "weight w of type 1",
    ),
    "no side": (lambda model: raw(model, "w").dims.__setitem__(0, 0), "weight w of type 1"),
    "five sides": (lambda model: raw(model, "w").dims.append(1), "weight w of type 1 with 5 sides"),
    "other values": (lambda model: raw(model, "w").float_data.append(1.0), "a field 4"),
    "text": (lambda model: setattr(raw(model, "w"), "data_type", TensorProto.STRING), "weight w of type 8"),
    "int8": (lambda model: put(model, "w", np.ones((3, 6, 1, 1)), np.int8), "weight w of type 3"),
    "a weight of integers": (lambda model: put(model, "w", np.ones((3, 6, 1, 1)), np.int64), "Conv x with inputs"),
    "two of one name": (lambda model: model.graph.initializer.append(raw(model, "w")), "two weights w"),
    "one that nothing reads": (lambda model: put(model, "z", [1.0]), "z is not read"),
    "a weight for an input": (lambda model: put(model, "packed", [1.0]), "a weight for the input packed"),
    "a weight for a value": (lambda model: put(model, "x", [1.0]), "Conv x is made twice"),
    "a name that is none": (lambda model: setattr(model.graph, "name", "a\nb"), "a name of 3 bytes that is none"),
    "a long name": (lambda model: setattr(model.graph, "name", 129 * "a"), "a name of 129 bytes that is none"),
    "no name": (lambda model: setattr(model.graph.node[0], "name", ""), "a name of 0 bytes that is none"),
    "an absent input": (lambda model: model.graph.node[0].input.append(""), "a name of 0 bytes that is none"),
    "an input too many": (lambda model: model.graph.node[2].input.append("m"), "Mul output with 3 inputs"),
    "an input too few": (lambda model: model.graph.node[2].input.pop(), "Mul output with 1 inputs"),
    "two outputs": (lambda model: model.graph.node[2].output.append("z"), "Mul output with 2 outputs"),
    "one output twice": (lambda model: model.graph.node[2].output.append("output"), "Mul output is made twice"),
    "no outputs": (lambda model: model.graph.node[2].output.pop(), "Mul  with 0 outputs"),
    "a value made twice": (lambda model: model.graph.node[1].output.__setitem__(0, "x"), "Conv x is made twice"),
    "a value that nothing reads": (
        lambda model: model.graph.node.append(helper.make_node("Sqrt", ["x"], ["z"], name="z")),
        "z is not read",
    ),
    "an output that is read by nothing": (lambda model: setattr(model.graph.output[0], "name", "x"), "another output"),
    "no node": (lambda model: model.graph.ClearField("node"), "w is not read|.* is not (read|made)"),
    "another output": (lambda model: side(model, model.graph.output[0], 1, 6), "another output"),
    "a fixed output": (lambda model: side(model, model.graph.output[0], 2, 64), "another output"),
    "half of an output": (
        lambda model: model.graph.output[0].type.tensor_type.shape.dim.pop(),
        "output of type 1 with sides",
    ),
    "two outputs of the graph": (lambda model: model.graph.output.append(model.graph.output[0]), "another output"),
    "no input": (lambda model: model.graph.input.pop(), "inputs packed$|inputs packed .build"),
    "an input twice": (
        lambda model: model.graph.input.append(model.graph.input[0]),
        "inputs packed, modulation, packed",
    ),
    "inputs in another order": (
        lambda model: (model.graph.input.append(model.graph.input[0]), model.graph.input.pop(0)),
        "inputs modulation, packed",
    ),
    "an input of integers": (
        lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", TensorProto.INT64),
        "packed of type 7",
    ),
    "a fixed batch": (lambda model: side(model, model.graph.input[0], 0, 1), "inputs with other sides"),
    "an odd number of planes": (lambda model: side(model, model.graph.input[0], 1, 7), "inputs with other sides"),
    "no planes": (lambda model: side(model, model.graph.input[0], 1, 0), "packed of type 1 with sides batch, 0"),
    "a side like an open one": (
        lambda model: side(model, model.graph.input[0], 0, 1_000_003 << 40),
        "packed of type 1 with sides 1099",
    ),
    "an unknown side": (
        lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", "n"),
        "packed of type 1 with sides n",
    ),
    "a side of no kind": (
        lambda model: model.graph.input[0].type.tensor_type.shape.dim[0].ClearField("value"),
        "packed has a side that is neither",
    ),
    "height by name of width": (
        lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[2], "dim_param", "width"),
        "inputs with other sides",
    ),
    "a modulation for each picture": (
        lambda model: setattr(model.graph.input[1].type.tensor_type.shape.dim[0], "dim_param", "batch"),
        "inputs with other sides",
    ),
    "an input of no type": (
        lambda model: model.graph.input[0].type.ClearField("tensor_type"),
        "no tensor",
    ),
    "a sequence": (
        lambda model: model.graph.input[0].type.sequence_type.elem_type.tensor_type.SetInParent(),
        "a field 4",
    ),
}


@pytest.mark.parametrize(("change", "match"), list(ILL_FITTING.values()), ids=list(ILL_FITTING))
def test_what_does_not_fit(change: Change, match: str) -> None:
    refused(changed(smallest().SerializeToString(), change), match)
