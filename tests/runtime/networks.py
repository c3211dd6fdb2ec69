"""The smallest network that a plan may hold, and ways to look at it and at what is none."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mrs.runtime.errors import PlanError
from mrs.runtime.onnx_guard import check_network


def smallest(channels: int = 3, modulation: int = 5, opset: int = 18) -> onnx.ModelProto:
    """Two convolutions and a product, of pictures of any size.

    Args:
        channels: of pictures.
        modulation: length of the vector that depends on time.
        opset: 18, or 19 for one that stands for a quantised network.
    """
    geometry = {"kernel_shape": [1, 1], "pads": [0] * 4, "strides": [1, 1], "group": 1}
    nodes = [
        helper.make_node("Conv", ["packed", "w"], ["x"], name="x", **geometry),
        helper.make_node("Conv", ["modulation", "v"], ["m"], name="m", **geometry),
        helper.make_node("Mul", ["x", "m"], ["output"], name="output"),
    ]
    weights = {"w": (channels, 2 * channels, 1, 1), "v": (channels, modulation, 1, 1)}
    sides = ["height", "width"]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("packed", TensorProto.FLOAT, ["batch", 2 * channels, *sides]),
            helper.make_tensor_value_info("modulation", TensorProto.FLOAT, [1, modulation, 1, 1]),
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", channels, *sides])],
        [numpy_helper.from_array(np.ones(dims, np.float32), key) for key, dims in weights.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, producer_name="mrs-trt", ir_version=9)


def raw(model: onnx.ModelProto, name: str) -> TensorProto:
    """A weight by its name."""
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def refused(content: bytes, match: str) -> None:
    """By the guard, in one line."""
    with pytest.raises(PlanError, match=f"plan p: its network is none of this program's: {match}") as caught:
        check_network(content, "plan p")
    assert caught.value.hint == "build it again"
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
