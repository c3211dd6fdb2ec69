"""Refuse ONNX models that reach outside their own bytes, without loading the onnx package.

Weights may live in other files ("external data"), whose paths can lead anywhere. Models of ours never have any, nor
subgraphs, functions or training steps that could hide some, so all are refused. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

from mrs.runtime.errors import PlanError

MODEL_GRAPH, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 20, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE = 1, 5, 15
NODE_ATTRIBUTE = 5
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES = 22, 23
TENSOR_EXTERNAL, TENSOR_LOCATION = 13, 14


def check_self_contained(model: bytes, name: str) -> None:
    """Walk a serialised model.

    Raises:
        PlanError: where it is not a readable model, has external data, sparse weights, subgraphs or functions.
    """
    view = memoryview(model)
    try:
        if not any(True for _ in _fields(view, MODEL_GRAPH)):
            raise ValueError("it has no graph")
        if any(True for hidden in (MODEL_TRAINING, MODEL_FUNCTIONS) for _ in _fields(view, hidden)):
            raise PlanError(f"{name}: its network holds functions", hint="build it again")
        for graph in _fields(view, MODEL_GRAPH):
            if any(True for _ in _fields(graph, GRAPH_SPARSE)):
                raise PlanError(f"{name}: its network holds sparse weights", hint="build it again")
            for tensor in _fields(graph, GRAPH_INITIALIZER):
                _check_tensor(tensor, name)
            for node in _fields(graph, GRAPH_NODE):
                for attribute in _fields(node, NODE_ATTRIBUTE):
                    _check_attribute(attribute, name)
    except PlanError:
        raise
    except (IndexError, ValueError) as error:
        reason = "it is cut short" if isinstance(error, IndexError) else error
        raise PlanError(f"{name}: its network is no readable ONNX model: {reason}", hint="build it again") from None


def _check_attribute(attribute: memoryview, name: str) -> None:
    for hidden in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES):
        if any(True for _ in _fields(attribute, hidden)):
            raise PlanError(f"{name}: its network holds subgraphs", hint="build it again")
    for kind in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
        for tensor in _fields(attribute, kind):
            _check_tensor(tensor, name)


def _check_tensor(tensor: memoryview, name: str) -> None:
    for number in (TENSOR_EXTERNAL, TENSOR_LOCATION):
        if any(True for _ in _fields(tensor, number)):
            raise PlanError(f"{name}: its network keeps weights in other files", hint="build it again")


def _fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The values of one field of a protobuf message; a number's value is given as empty bytes."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            # Some parsers drop the bits above; they would see another field than this walk.
            raise ValueError(f"field {number}")
        start = position
        if kind == 0:
            _, position = _varint(message, position)
            start = position
        elif kind == 1:
            position += 8
        elif kind == 2:
            length, start = _varint(message, position)
            position = start + length
        elif kind == 5:
            position += 4
        else:
            raise ValueError(f"wire type {kind}")
        if position > end:
            raise ValueError("it is cut short")
        if number == wanted:
            yield message[start:position]


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
