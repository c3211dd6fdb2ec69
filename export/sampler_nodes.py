"""What a graph of the whole sampler needs beyond `Emitter`: weighted sums, the largest numbers, copies of a network."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from mrs.export.onnx_writer import Emitter


class SamplerEmitter(Emitter):
    """Its own names begin with `sampler/`, those of a copied network with the copy's prefix."""

    def __init__(self) -> None:
        super().__init__(prefix="sampler/")
        self.shapes: list[onnx.ValueInfoProto] = []

    def shaped(self, name: str, *shape: int | str) -> str:
        """A float32 value whose sides are said by name, where they are not whole numbers."""
        self.shapes.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape)))
        return name

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

    def copy(self, graph: onnx.GraphProto, prefix: str, inputs: dict[str, str], shared: bool = True) -> str:
        """As `parts`; the name of the graph's one output."""
        (output,) = self.parts(graph, prefix, inputs, shared).values()
        return output

    def parts(self, graph: onnx.GraphProto, prefix: str, inputs: dict[str, str], shared: bool = True) -> dict[str, str]:
        """The nodes of another graph once more, on these inputs; names of its outputs, by those that they have there.

        Its weights keep their names and are shared by all copies; adding them is left to the caller. Vectors, a
        hundredth of the weights, are copied: OpenVINO adds a bias within its convolution only where nothing else
        reads it. Of a graph that is not `shared` all weights are, for names of two networks may be the same.
        """
        names = {tensor.name: tensor.name for tensor in graph.initializer} | inputs
        for tensor in graph.initializer:
            if is_vector(tensor) or not shared:
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
        return {value.name: names[value.name] for value in graph.output}


def is_vector(tensor: onnx.TensorProto) -> bool:
    """Whether each copy of a graph has a weight to itself."""
    return len(tensor.dims) == 1 and tensor.data_type == onnx.TensorProto.FLOAT
