"""A plan's ONNX graph as an object, for backends that do not take it as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mrs.runtime.errors import BackendError
from mrs.runtime.system.libraries import first_line

if TYPE_CHECKING:
    import onnx


def parse(graph: bytes) -> onnx.ModelProto:
    """The model that is serialised as `graph`.

    Raises:
        BackendError: where it cannot be read, or has no node.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_from_string(graph)
    except DecodeError as error:
        raise BackendError(f"the graph cannot be read: {first_line(error)}") from None
    if not model.graph.node:
        raise BackendError("the graph is empty", hint="build the plan again")
    return model


def with_sides(graph: bytes, sides: Mapping[str, int]) -> bytes:
    """The same model with these lengths of the sides that it leaves open.

    Args:
        graph: an ONNX model.
        sides: by their names.

    Raises:
        BackendError: where it cannot be read.
    """
    model = parse(graph)
    for value in (*model.graph.input, *model.graph.output):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param in sides:
                side.dim_value = sides[side.dim_param]
    return bytes(model.SerializeToString())


def context_length(model: onnx.ModelProto) -> int:
    """Length of the vector that depends on the whole picture; 0 for a network that is not told of it."""
    found = [value for value in model.graph.input if value.name == "context"]
    return int(found[0].type.tensor_type.shape.dim[1].dim_value) if found else 0
