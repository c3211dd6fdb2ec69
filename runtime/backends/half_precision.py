"""What of a network is computed in half precision, for all backends on GPUs.

Products of matrices and convolutions are: they are nearly all of the work, their sums are float32 on tensor cores, and
what they read and write is a network's traffic. Norms, softmaxes, means and what depends on time or on the whole
picture alone are float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from mrs.runtime.backends.protocol import MEANS

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
# A distribution over pixels has values of the order of one by their number, which float16 cannot hold: it is multiplied
# by this before it is rounded. What it weighs is normal, at most the root of the channels, of which there are fewer
# than 2^16: so no mean times this is beyond float16.
SPREAD = 2.0**8


class Roles:
    """What the nodes and weights of a graph are for.

    Attributes:
        vectors: values that depend on time or on the whole picture alone; they are small, and float32.
        attentions: outputs of softmaxes between two products, which engines run as one attention.
        means: outputs of products by a distribution over pixels.
        biases: weights that a product by a weight adds.
    """

    def __init__(self, graph: GraphProto) -> None:
        self.nodes = list(graph.node)
        self.ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        given = {value.name for value in graph.input} - {graph.input[0].name}
        self.vectors: set[str] = set(given)
        for node in graph.node:
            computed = [name for name in node.input if name not in self.ranks]
            if computed and self.vectors.issuperset(computed):
                self.vectors.update(node.output)

    @cached_property
    def attentions(self) -> set[str]:
        return {
            node.output[0]
            for node in self.nodes
            if node.op_type == "Softmax"
            and _axis(node) == -1
            and self._is(node.input[0], "MatMul")
            and [each.op_type for each in self.readers[node.output[0]]] == ["MatMul"]
        }

    @cached_property
    def means(self) -> set[str]:
        found = set()
        for node in self.nodes:
            maker = self.makers.get(node.input[0])
            while maker is not None and maker.op_type == "Reshape":
                maker = self.makers.get(maker.input[0])
            # Channels and tokens come last: another axis is that of the pixels.
            if node.op_type == "MatMul" and maker is not None and maker.op_type == "Softmax" and _axis(maker) != -1:
                found.add(node.output[0])
        return found

    @cached_property
    def biases(self) -> set[str]:
        return {name for node in self.nodes if node.op_type == "MatMul" for name in self._added(node)}

    @cached_property
    def half_weights(self) -> set[str]:
        """Names of the weights that have half precision."""
        return {name for node in self.nodes for name in self._half(node)}

    def is_small(self, node: NodeProto) -> bool:
        """Whether a node multiplies matrices of a head, without pixels: the weight has an entry for each head."""
        return node.op_type == "MatMul" and self.ranks.get(node.input[1]) == 4

    def _half(self, node: NodeProto) -> Iterator[str]:
        if node.op_type in CONVOLUTIONS:
            if not node.input[1].startswith(MEANS) and node.input[0] not in self.vectors:
                yield from node.input[1:]
        elif node.op_type == "MatMul" and not self.is_small(node):
            yield from (name for name in node.input if name in self.ranks)
            yield from self._added(node)

    def _added(self, node: NodeProto) -> Iterator[str]:
        """The bias of a product by a weight."""
        readers = self.readers.get(node.output[0], [])
        if node.input[1] in self.ranks and not self.is_small(node) and [each.op_type for each in readers] == ["Add"]:
            yield from (name for name in readers[0].input if name in self.ranks)

    def _is(self, name: str, kind: str) -> bool:
        return name in self.makers and self.makers[name].op_type == kind


def _axis(node: NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
