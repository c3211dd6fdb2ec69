"""Attention of all pixels to all as one node of ONNX Runtime's own on CPUs: its memory grows with pixels, not pairs.

A plan's graph holds standard operators alone: scores, their softmax and the weighted values are three nodes, and ONNX
Runtime writes the first two down. `com.microsoft.MultiHeadAttention` in float32, without a mask, goes over blocks of
keys instead (FlashAttention, arXiv 2205.14135), where the size of the processor's cache is known to it. So it is put in
place of the three when a graph is compiled.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from mrs.runtime.backends.onnx_graph import parse

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

DOMAIN, OPERATOR = "com.microsoft", "MultiHeadAttention"
# The name that glibc knows the second cache's size by, which Python does not pass on.
LEVEL2_CACHE_SIZE = 191
# Larger graphs are encoders of fifty tokens or networks with linear attention: nothing to gain for two more copies.
LARGEST = 1 << 29
# (N, tokens, heads, head) to where the heads are apart; keys besides with tokens last.
APART, KEYS = [0, 2, 1, 3], [0, 2, 3, 1]


class Attention(NamedTuple):
    """Nodes of an attention.

    Attributes:
        inputs: queries, keys and values, (N, 1, tokens, heads x head).
        shape: of these with their heads apart: tokens, heads, head; -1 for any number of tokens.
        nodes: all that one node replaces.
        joined: the name of what that node gives, heads side by side again.
    """

    inputs: list[str]
    shape: tuple[int, int, int]
    nodes: list[NodeProto]
    joined: str


def is_linear() -> bool:
    """Whether attention needs memory for each pixel only: it can be put in, and runs in blocks."""
    return importlib.util.find_spec("onnx") is not None and _cache_is_known()


def fused(graph: bytes) -> bytes:
    """A graph that computes the same, attention as one node; as it was where there is none to be found.

    Raises:
        BackendError: for a graph that cannot be read.
    """
    if b"Softmax" not in graph or len(graph) > LARGEST or not is_linear():
        return graph
    import onnx

    model = parse(graph)
    found = {attention.nodes[-1].name: attention for attention in _attentions(model.graph)}
    if not found:
        return graph
    gone = {node.name for attention in found.values() for node in attention.nodes}
    nodes = []
    for node in model.graph.node:
        if node.name in found:
            nodes += _as_one(found[node.name], model.graph)
        elif node.name not in gone:
            nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    # ONNX Runtime warns of what nothing reads.
    read = {name for node in nodes for name in node.input}
    unread = [tensor for tensor in model.graph.initializer if tensor.name not in read]
    for tensor in unread:
        model.graph.initializer.remove(tensor)
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return bytes(model.SerializeToString())


def _attentions(graph: GraphProto) -> Iterator[Attention]:
    from onnx import numpy_helper

    made = {name: node for node in graph.node for name in node.output}
    # Whoever runs the graph reads its outputs.
    readers: dict[str, list[NodeProto | None]] = {value.name: [None] for value in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    shapes = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 1 and tensor.dims[0] == 4}

    def only_reader(node: NodeProto, kind: str) -> NodeProto | None:
        reader, *others = readers.get(node.output[0], [None])
        return None if reader is None or others or reader.op_type != kind else reader

    def before(name: str, perm: list[int]) -> tuple[NodeProto, NodeProto] | None:
        """The Reshape and the Transpose that take heads apart."""
        transpose = made.get(name)
        if transpose is None or transpose.op_type != "Transpose" or _perm(transpose) != perm:
            return None
        reshape = made.get(transpose.input[0])
        alone = reshape is not None and reshape.op_type == "Reshape" and reshape.input[1] in shapes
        read_once = all(len(readers.get(each, [])) == 1 for each in (name, transpose.input[0]))
        return (reshape, transpose) if alone and read_once and reshape is not None else None

    for softmax in graph.node:
        scores = made.get(softmax.input[0]) if softmax.op_type == "Softmax" else None
        if scores is None or scores.op_type != "MatMul" or only_reader(scores, "Softmax") is None or not _last(softmax):
            continue
        product = only_reader(softmax, "MatMul")
        joined = None if product is None else only_reader(product, "Transpose")
        if product is None or joined is None or _perm(joined) != APART or product.input[0] != softmax.output[0]:
            continue
        parts = [before(scores.input[0], APART), before(scores.input[1], KEYS), before(product.input[1], APART)]
        pairs = [pair for pair in parts if pair is not None]
        sizes = {tuple(numpy_helper.to_array(shapes[reshape.input[1]]).tolist()) for reshape, _ in pairs}
        if len(pairs) != 3 or len(sizes) != 1:
            continue
        ((_, *shape),) = sizes
        tokens, heads, head = shape
        nodes = [*(node for pair in pairs for node in pair), scores, softmax, product, joined]
        yield Attention([reshape.input[0] for reshape, _ in pairs], (tokens, heads, head), nodes, joined.output[0])


def _as_one(attention: Attention, graph: GraphProto) -> list[NodeProto]:
    """The node in place of an attention; its queries are scaled already."""
    import numpy as np
    from onnx import helper, numpy_helper

    tokens, heads, head = attention.shape
    name = f"{attention.joined}.shape"
    graph.initializer.append(numpy_helper.from_array(np.array([0, tokens, heads * head], np.int64), name))
    rows = [f"{attention.joined}.{part}" for part in "qkv"]
    return [
        *(helper.make_node("Reshape", [given, name], [row], name=row)
          for given, row in zip(attention.inputs, rows, strict=True)),
        helper.make_node(OPERATOR, rows, [attention.joined], name=attention.joined, domain=DOMAIN, num_heads=heads,
                         scale=1.0),
    ]  # fmt: skip


def _cache_is_known() -> bool:
    """Whether ONNX Runtime finds the size of the second cache, as it asks for it."""
    if not sys.platform.startswith("linux"):
        return True
    try:
        return os.sysconf(LEVEL2_CACHE_SIZE) > 0
    except (OSError, ValueError):
        return False


def _perm(transpose: NodeProto) -> list[int]:
    return [axis for each in transpose.attribute if each.name == "perm" for axis in each.ints]


def _last(softmax: NodeProto) -> bool:
    """Whether it is along the last axis."""
    return all(each.i in (-1, 3) for each in softmax.attribute if each.name == "axis")
