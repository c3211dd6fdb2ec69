"""Ways to change a network into one that is none of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

Model = onnx.ModelProto
Change = Callable[[Model], Any]


def changed(network: bytes, change: Change) -> bytes:
    model = onnx.load_from_string(network)
    change(model)
    return model.SerializeToString()


def first(model: Model, operator: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == operator)


def attribute(model: Model, operator: str, name: str) -> AttributeProto:
    return next(each for each in first(model, operator).attribute if each.name == name)


def put(model: Model, name: str, values: Any, dtype: Any = np.float32) -> str:
    """Add a weight, or replace it."""
    for place, tensor in enumerate(model.graph.initializer):
        if tensor.name == name:
            del model.graph.initializer[place]
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), name))
    return name


def before(model: Model, operator: str, *inputs: str, into: int = 0, **attributes: Any) -> None:
    """A node in front of the last one, which then reads what it makes as its input `into`."""
    last = model.graph.node[-1]
    node = helper.make_node(operator, [*inputs], ["new"], name="new", **attributes)
    last.input[into] = "new"
    model.graph.node.insert(len(model.graph.node) - 1, node)


def last_input(model: Model) -> str:
    return str(model.graph.node[-1].input[0])


def rename(model: Model, number: int) -> None:
    """The node before the last makes another value than `new`."""
    node, last = model.graph.node[-2], model.graph.node[-1]
    node.output[0] = node.name = f"new_{number}"
    last.input[0] = f"new_{number}"
