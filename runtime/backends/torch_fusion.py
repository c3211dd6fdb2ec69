"""Nodes of a graph that are one call of torch together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Attributes = Mapping[str, Any]
TO_PIXELS, TO_PLANES = [0, 2, 3, 1], [0, 3, 1, 2]


@dataclass(frozen=True)
class Node:
    """A node of the graph, or several that became one."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes = field(default_factory=dict)


def fused(nodes: Sequence[Node], numbers: Mapping[str, Any], ones: set[str]) -> Iterator[Node]:
    """The same nodes, but for those that torch has one call for.

    Args:
        nodes: in their order.
        numbers: of constants that are a number or a list of whole numbers.
        ones: names of gains that are one everywhere.
    """
    graph = _Graph(nodes, numbers, ones)
    found: dict[str, Node] = {}
    parts: set[str] = set()
    for node in nodes:
        for pattern in (_norm, _silu, _gelu, _linear, _attention, _mean, _residual):
            made = pattern(graph, node)
            if made is not None:
                found[node.outputs[0]] = made[0]
                parts |= {each.outputs[0] for each in made[1]}
                break
    for node in nodes:
        if node.outputs[0] not in parts:
            yield found.get(node.outputs[0], node)


class _Graph:
    def __init__(self, nodes: Sequence[Node], numbers: Mapping[str, Any], ones: set[str]) -> None:
        self.numbers, self.ones = numbers, ones
        self.uses = Counter(name for node in nodes for name in node.inputs)
        self.makers = {name: node for node in nodes for name in node.outputs}

    def behind(self, name: str, *kinds: str) -> list[Node]:
        """The nodes that made a value, each from what the one before takes first, and each for nothing else.

        None where the kinds are not these.
        """
        found: list[Node] = []
        for kind in kinds:
            maker = self.makers.get(found[-1].inputs[0] if found else name)
            if maker is None or maker.kind != kind or self.uses[maker.outputs[0]] != 1:
                return []
            found.append(maker)
        return found


# What became of nodes, and those that are no longer there besides.
Found = tuple[Node, list[Node]]


def _norm(graph: _Graph, node: Node) -> Found | None:
    """A norm over the channels of a picture, with gain and shift."""
    parts = graph.behind(node.inputs[0], "Mul", "Transpose", "LayerNormalization", "Transpose")
    if node.kind != "Add" or not parts:
        return None
    scaled, planes, norm, pixels = parts
    turned = (list(planes.attributes["perm"]), list(pixels.attributes["perm"])) == (TO_PLANES, TO_PIXELS)
    if not turned or norm.attributes.get("axis", -1) != -1 or norm.inputs[1] not in graph.ones:
        return None
    inputs = pixels.inputs[0], scaled.inputs[1], node.inputs[1]
    return Node("Norm", inputs, node.outputs, norm.attributes), parts


def _silu(graph: _Graph, node: Node) -> Found | None:
    """A value times its sigmoid."""
    if node.kind != "Mul":
        return None
    parts = graph.behind(node.inputs[1], "Sigmoid")
    if not parts or parts[0].inputs != node.inputs[:1]:
        return None
    return Node("Silu", node.inputs[:1], node.outputs), parts


def _gelu(graph: _Graph, node: Node) -> Found | None:
    """x (1 + erf(x / sqrt(2))) / 2."""
    product = graph.behind(node.inputs[0], "Mul")
    if node.kind != "Mul" or not product or graph.numbers.get(node.inputs[1]) != 0.5:
        return None
    parts = graph.behind(product[0].inputs[1], "Add", "Erf", "Div")
    if not parts:
        return None
    added, _, divided = parts
    root = graph.numbers.get(divided.inputs[1])
    right = graph.numbers.get(added.inputs[1]) == 1 and isinstance(root, float) and abs(root - 2**0.5) < 1e-6
    if not right or divided.inputs[0] != product[0].inputs[0]:
        return None
    return Node("ExactGelu", divided.inputs[:1], node.outputs), [*product, *parts]


def _linear(graph: _Graph, node: Node) -> Found | None:
    """A product by a weight, and its bias."""
    parts = graph.behind(node.inputs[0], "MatMul")
    if node.kind != "Add" or not parts or node.inputs[1] in graph.makers or parts[0].inputs[1] in graph.makers:
        return None
    return Node("Linear", (*parts[0].inputs[:2], node.inputs[1]), node.outputs), parts


def _attention(graph: _Graph, node: Node) -> Found | None:
    """Values by the softmax of queries and keys; keys come as torch takes them, before their last sides change."""
    parts = graph.behind(node.inputs[0], "Softmax", "MatMul")
    if node.kind != "MatMul" or not parts or parts[0].attributes["axis"] != -1:
        return None
    return Node("SelfAttention", (*parts[1].inputs[:2], node.inputs[1]), node.outputs), parts


def _mean(graph: _Graph, node: Node) -> Found | None:
    """Means of tokens, each by a distribution over all pixels."""
    parts = graph.behind(node.inputs[0], "Reshape", "Softmax", "Reshape")
    if node.kind != "MatMul" or not parts:
        return None
    after, softmax, before = parts
    wanted = [graph.numbers.get(each.inputs[1]) for each in (before, after)]
    # Keys as columns of single numbers, and back.
    rows = wanted[0][1] if isinstance(wanted[0], list) else 0
    if softmax.attributes["axis"] != 2 or wanted != [[0, rows, -1, 1], [0, 1, rows, -1]]:
        return None
    return Node("PixelMean", (before.inputs[0], *node.inputs[1:]), node.outputs), parts


def _residual(graph: _Graph, node: Node) -> Found | None:
    """What tokens add to a picture, which keeps its type."""
    if node.kind != "Add" or not graph.behind(node.inputs[1], "Transpose", "Reshape"):
        return None
    return Node("Residual", node.inputs, node.outputs), []
