"""Nodes and constants of a graph under construction, with the few compound operations that a sampler needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class Nodes:
    """Collects nodes and weights. Calling it adds a node and returns the name of the value that it makes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.shapes: list[onnx.ValueInfoProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def __call__(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"sampler/{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def shaped(self, name: str, *shape: int | str) -> str:
        """A float32 value whose sides are said by name, where they are not whole numbers."""
        self.shapes.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape)))
        return name

    def constant(self, value: NDArray[np.generic]) -> str:
        """The name of a constant; equal ones are kept once."""
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = f"sampler/constant_{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(value, self._constants[key]))
        return self._constants[key]

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def whole(self, *values: int) -> str:
        """An int64 vector."""
        return self.constant(np.array(values, np.int64))

    def weighted(self, *terms: tuple[float, str]) -> str:
        """The sum of weight x value in this order, in float32; without those whose weight rounds to 0 there.

        A value that would be multiplied by 0 is not read, as in `mrs.kernels.update.step`.
        """
        total = ""
        for weight, value in terms:
            factor = np.float32(weight)
            if not factor:
                continue
            term = value if factor == 1 else self("Mul", value, self.number(float(factor)))
            total = self("Add", total, term) if total else term
        return total or self("Mul", terms[0][1], self.number(0))

    def top(self, values: str, count: str) -> str:
        """The largest `count` (int64, one element) of each row, falling."""
        name = f"sampler/TopK_{len(self.nodes)}"
        self.nodes.append(helper.make_node("TopK", [values, count], [name, f"{name}.at"], name=name, axis=1))
        return name

    def copy(self, graph: onnx.GraphProto, prefix: str, inputs: dict[str, str]) -> str:
        """The nodes of another graph once more, on these inputs; the name of its one output.

        Its weights keep their names and are shared by all copies; adding them is left to the caller. Vectors, a
        hundredth of the weights, are copied: OpenVINO adds a bias within its convolution only where nothing else
        reads it.
        """
        names = {tensor.name: tensor.name for tensor in graph.initializer} | inputs
        for tensor in graph.initializer:
            if is_vector(tensor):
                names[tensor.name] = f"{prefix}/{tensor.name}"
                own = onnx.TensorProto()
                own.CopyFrom(tensor)
                own.name = names[tensor.name]
                self.initializers.append(own)
        for node in graph.node:
            copied = onnx.NodeProto()
            copied.CopyFrom(node)
            for name in node.output:
                names[name] = f"{prefix}/{name}"
            copied.name = names[node.output[0]]
            # An empty name is an optional input that is left out.
            copied.input[:] = [names[name] if name else "" for name in node.input]
            copied.output[:] = [names[name] for name in node.output]
            self.nodes.append(copied)
        for value in graph.value_info:
            copied_value = onnx.ValueInfoProto()
            copied_value.CopyFrom(value)
            copied_value.name = names[value.name]
            self.shapes.append(copied_value)
        return names[graph.output[0].name]


def is_vector(tensor: onnx.TensorProto) -> bool:
    """Whether each copy of a graph has a weight to itself."""
    return len(tensor.dims) == 1 and tensor.data_type == onnx.TensorProto.FLOAT
