"""An ONNX model as nodes and weights: nothing but what `mrs.export` writes. Field numbers are those of onnx.proto."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from mrs.runtime.onnx_guard.wire import FLOAT, INNER, NUMBER, TEXT, message, read

# Types of values, by the numbers of ONNX, and bytes of one.
FLOAT32, INT8, INT64, FLOAT16, FLOAT8 = 1, 3, 7, 10, 17
ITEM_BYTES = {FLOAT32: 4, INT8: 1, INT64: 8, FLOAT16: 2, FLOAT8: 1}
RANK = 4
Attribute = float | int | str | tuple[int, ...]

MODEL = message(ir_version=(1, NUMBER), producer=(2, TEXT), graph=(7, INNER), opset=(8, INNER))
OPSET = message(domain=(1, INNER), version=(2, NUMBER))
GRAPH = message(
    node=(1, INNER, True),
    name=(2, TEXT),
    initializer=(5, INNER, True),
    input=(11, INNER, True),
    output=(12, INNER, True),
)
NODE = message(
    input=(1, TEXT, True), output=(2, TEXT, True), name=(3, TEXT), operator=(4, TEXT), attribute=(5, INNER, True)
)
ATTRIBUTE = message(
    name=(1, TEXT), f=(2, FLOAT, False, False), i=(3, NUMBER, False, False), s=(4, TEXT, False, False),
    ints=(8, NUMBER, True), type=(20, NUMBER),
)  # fmt: skip
TENSOR = message(dims=(1, NUMBER, True), type=(2, NUMBER), name=(8, TEXT), raw=(9, INNER))
VALUE = message(name=(1, TEXT), type=(2, INNER))
TYPE = message(tensor=(1, INNER))
TENSOR_TYPE = message(type=(1, NUMBER), shape=(2, INNER))
SHAPE = message(dim=(1, INNER, True))
DIM = message(number=(1, NUMBER, False, False), name=(2, TEXT, False, False))
# The field in which an attribute of a type has its value.
ATTRIBUTE_TYPES = {1: "f", 2: "i", 3: "s", 7: "ints"}


class Tensor(NamedTuple):
    """A weight; its values are the bytes from `begin` to `end` of the model."""

    type: int
    dims: tuple[int, ...]
    begin: int
    end: int


class Node(NamedTuple):
    """One operation; `operators.ATTRIBUTES` has the values that its attributes may have."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: Mapping[str, Any]


class Port(NamedTuple):
    """An input or output; each side is a number or a name."""

    name: str
    type: int
    sides: tuple[int | str, ...]


class Model(NamedTuple):
    """What a file holds."""

    ir_version: int
    opset: int
    nodes: list[Node]
    weights: dict[str, Tensor]
    inputs: list[Port]
    outputs: list[Port]


def read_model(content: bytes) -> Model:
    """Read a serialised model.

    Raises:
        ValueError: for what is no model, and for a field that no model of ours has.
    """
    model = read(content, (0, len(content)), MODEL)
    # Some engines tell the format of a file by how it begins.
    if content[:1] != b"\x08":
        raise ValueError("it does not begin with its version")
    graph, opset = read(content, model["graph"], GRAPH), read(content, model["opset"], OPSET)
    if opset["domain"][0] != opset["domain"][1]:
        raise ValueError("operators of another domain")
    attributes: dict[bytes, tuple[str, Attribute]] = {}
    weights: dict[str, Tensor] = {}
    for span in graph["initializer"]:
        name, tensor = _tensor(content, span)
        if name in weights:
            raise ValueError(f"two weights {name}")
        weights[name] = tensor
    return Model(
        model["ir_version"], opset["version"], [_node(content, span, attributes) for span in graph["node"]], weights,
        *([_port(content, span) for span in graph[each]] for each in ("input", "output")),
    )  # fmt: skip


def whole_numbers(content: bytes, tensor: Tensor) -> tuple[int, ...]:
    """The values of a weight of 64-bit integers."""
    return struct.unpack_from(f"<{(tensor.end - tensor.begin) // 8}q", content, tensor.begin)


def _tensor(content: bytes, span: tuple[int, int]) -> tuple[str, Tensor]:
    fields = read(content, span, TENSOR)
    begin, end = fields["raw"]
    dims = tuple(fields["dims"])
    if fields["type"] not in ITEM_BYTES or len(dims) > RANK or min(dims, default=1) < 1:
        raise ValueError(f"weight {fields['name']} of type {fields['type']} with {len(dims)} sides")
    if math.prod(dims) * ITEM_BYTES[fields["type"]] != end - begin:
        raise ValueError(f"weight {fields['name']} does not have the bytes of its sides")
    return fields["name"], Tensor(fields["type"], dims, begin, end)


def _node(content: bytes, span: tuple[int, int], known: dict[bytes, tuple[str, Attribute]]) -> Node:
    """A node; attributes that are written alike are read once."""
    fields = read(content, span, NODE)
    attributes: dict[str, Attribute] = {}
    for begin, end in fields["attribute"]:
        written = content[begin:end]
        if written not in known:
            known[written] = _attribute(written)
        name, value = known[written]
        if name in attributes:
            raise ValueError(f"{fields['operator']} with two attributes {name}")
        attributes[name] = value
    return Node(fields["operator"], fields["input"], fields["output"], attributes)


def _attribute(content: bytes) -> tuple[str, Attribute]:
    fields = read(content, (0, len(content)), ATTRIBUTE)
    given = {name: fields[name] for name in ATTRIBUTE_TYPES.values() if fields[name] not in (None, [])}
    if list(given) != [ATTRIBUTE_TYPES.get(fields["type"])]:
        raise ValueError(f"attribute {fields['name']} of type {fields['type']}")
    (value,) = given.values()
    return fields["name"], tuple(value) if isinstance(value, list) else value


def _port(content: bytes, span: tuple[int, int]) -> Port:
    fields = read(content, span, VALUE)
    tensor = read(content, read(content, fields["type"], TYPE)["tensor"], TENSOR_TYPE)
    sides = [read(content, side, DIM) for side in read(content, tensor["shape"], SHAPE)["dim"]]
    if any((side["number"] is None) == (side["name"] is None) for side in sides):
        raise ValueError(f"{fields['name']} has a side that is neither a number nor a name")
    named = (side["name"] if side["number"] is None else side["number"] for side in sides)
    return Port(fields["name"], tensor["type"], tuple(named))
