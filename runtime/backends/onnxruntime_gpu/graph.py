"""The typed graph in operations that the provider for CUDA has, and that its graphs replay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, ValueInfoProto


def for_cuda(graph: bytes, precision: str) -> bytes:
    """A graph that computes the same, bit by bit.

    Where the modulation is split, it is not one input but one for each of its parts, in their order: the Split copies
    addresses from the host, which a replay reads again after ONNX Runtime gave that memory back. In bfloat16 each
    DepthToSpace is done in float32, as there is no other kernel; it only moves numbers.

    Args:
        graph: as `typed_graph` gives it.
        precision: of its convolutions.
    """
    import onnx

    model = onnx.load_from_string(graph)
    readers = [node for node in model.graph.node if "modulation" in node.input]
    splits = readers if all(node.op_type == "Split" for node in readers) else []
    nodes = [node for node in model.graph.node if node not in splits]
    parts = [value for split in splits for value in _parts(model.graph, split)]
    if precision == "bf16":
        nodes = [made for node in nodes for made in _widened(node)]
    if parts:
        whole = next(value for value in model.graph.input if value.name == "modulation")
        model.graph.input.remove(whole)
        model.graph.input.extend(parts)
    # Copies, as those of the graph end with their list.
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def _parts(graph: GraphProto, split: NodeProto) -> Iterator[ValueInfoProto]:
    """What a Split of the modulation gives, as inputs."""
    import onnx

    sizes = next(tensor for tensor in graph.initializer if tensor.name == split.input[1])
    for name, size in zip(split.output, onnx.numpy_helper.to_array(sizes).tolist(), strict=True):
        yield onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size, 1, 1])
    graph.initializer.remove(sizes)


def _widened(node: NodeProto) -> Iterator[NodeProto]:
    """A node, between casts where it is a DepthToSpace."""
    import onnx

    if node.op_type != "DepthToSpace":
        yield node
        return
    (given,), (made,) = node.input, node.output
    wide, moved = f"{made}.wide", f"{made}.moved"
    yield onnx.helper.make_node("Cast", [given], [wide], name=wide, to=onnx.TensorProto.FLOAT)
    node.input[0], node.output[0] = wide, moved
    yield node
    yield onnx.helper.make_node("Cast", [moved], [made], name=f"{made}.narrow", to=onnx.TensorProto.BFLOAT16)
