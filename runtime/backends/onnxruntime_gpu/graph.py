"""The typed graph in operations that the provider for CUDA has, and that its graphs replay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, ValueInfoProto

# Parts of a Split that are arguments of its kernel, where they are alike.
MOST_PARTS = 32
# What the provider computes in no bfloat16.
WIDE = frozenset({"ConvTranspose", "DepthToSpace"})


def for_cuda(graph: bytes, precision: str) -> bytes:
    """A graph that computes the same.

    Where the modulation is split, it is not one input but one for each of its parts, in their order: a Split of parts
    that differ copies addresses from the host, which a replay reads again after ONNX Runtime gave that memory back. Any
    other Split of such parts is a Slice for each.

    In bfloat16 each DepthToSpace and ConvTranspose is done in float32, as there is no other kernel: the first only
    moves numbers, the other rounds less. And the norms and means of a whole picture, which have no kernel in the opset
    of bfloat16 (ONNX Runtime's issue 27729), are written out.

    Args:
        graph: as `typed_graph` gives it.
        precision: of its convolutions.
    """
    import onnx

    model = onnx.load_from_string(graph)
    readers = [node for node in model.graph.node if "modulation" in node.input]
    splits = readers if all(node.op_type == "Split" for node in readers) else []
    parts = [value for split in splits for value in _parts(model.graph, split)]
    nodes = [made for node in model.graph.node if node not in splits for made in _cut(model.graph, node)]
    if precision == "bf16":
        nodes = [made for node in nodes for made in _for_bfloat16(model.graph, node)]
    if parts:
        whole = next(value for value in model.graph.input if value.name == "modulation")
        model.graph.input.remove(whole)
        model.graph.input.extend(parts)
    # Copies, as those of the graph end with their list.
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _drop_unread(model.graph)
    return bytes(model.SerializeToString())


def _parts(graph: GraphProto, split: NodeProto) -> Iterator[ValueInfoProto]:
    """What a Split of the modulation gives, as inputs."""
    import onnx

    for name, size in zip(split.output, _sizes(graph, split), strict=True):
        yield onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size, 1, 1])


def _sizes(graph: GraphProto, split: NodeProto) -> list[int]:
    import onnx

    sizes = next(tensor for tensor in graph.initializer if tensor.name == split.input[1])
    found: list[int] = onnx.numpy_helper.to_array(sizes).tolist()
    return found


def _cut(graph: GraphProto, node: NodeProto) -> Iterator[NodeProto]:
    """A node; a Split of parts that differ, or of many, as a Slice for each."""
    import onnx

    sizes = _sizes(graph, node) if node.op_type == "Split" else []
    if len(set(sizes)) <= 1 and len(sizes) <= MOST_PARTS:
        yield node
        return
    begin = 0
    for name, size in zip(node.output, sizes, strict=True):
        ends = {"starts": begin, "ends": begin + size, "axes": 1}
        begin += size
        for key, value in ends.items():
            graph.initializer.append(onnx.helper.make_tensor(f"{name}.{key}", onnx.TensorProto.INT64, (1,), [value]))
        yield onnx.helper.make_node("Slice", [node.input[0], *(f"{name}.{key}" for key in ends)], [name], name=name)


def _for_bfloat16(graph: GraphProto, node: NodeProto) -> Iterator[NodeProto]:
    if node.op_type in WIDE:
        yield from _widened(graph, node)
    elif node.op_type == "GlobalAveragePool":
        yield _mean(graph, node.input[0], node.output[0])
    elif node.op_type == "InstanceNormalization":
        yield from _norm(graph, node)
    else:
        yield node


def _widened(graph: GraphProto, node: NodeProto) -> Iterator[NodeProto]:
    """A node between casts; one in float32 is left alone."""
    import onnx

    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    (made,) = node.output
    for place, given in enumerate(node.input):
        wide = f"{made}.wide.{place}"
        if types.get(given) != onnx.TensorProto.FLOAT:
            yield onnx.helper.make_node("Cast", [given], [wide], name=wide, to=onnx.TensorProto.FLOAT)
            node.input[place] = wide
    node.output[0] = f"{made}.moved"
    yield node
    yield onnx.helper.make_node("Cast", [node.output[0]], [made], name=f"{made}.narrow", to=onnx.TensorProto.BFLOAT16)


def _mean(graph: GraphProto, given: str, made: str) -> NodeProto:
    """The mean over a picture's pixels."""
    import onnx

    axes = f"{made}.axes"
    graph.initializer.append(onnx.helper.make_tensor(axes, onnx.TensorProto.INT64, (2,), [2, 3]))
    return onnx.helper.make_node("ReduceMean", [given, axes], [made], name=made, keepdims=1)


def _norm(graph: GraphProto, node: NodeProto) -> Iterator[NodeProto]:
    """A norm over the pixels of a picture, with a gain and a shift for each channel."""
    import onnx

    make = onnx.helper.make_node
    given, *vectors = node.input
    (made,) = node.output
    known = {tensor.name: tensor for tensor in graph.initializer}
    for name in vectors:
        values = onnx.numpy_helper.to_array(known[name]).reshape(1, -1, 1, 1)
        graph.initializer.append(onnx.numpy_helper.from_array(values, f"{made}.{name}"))
    graph.initializer.append(onnx.helper.make_tensor(f"{made}.epsilon", onnx.TensorProto.FLOAT, (), [_epsilon(node)]))
    yield _mean(graph, given, f"{made}.mean")
    centred = f"{made}.centred"
    yield make("Sub", [given, f"{made}.mean"], [centred], name=centred)
    yield make("Mul", [centred, centred], [f"{made}.squares"], name=f"{made}.squares")
    yield _mean(graph, f"{made}.squares", f"{made}.variance")
    steps = [
        ("Add", f"{made}.variance", f"{made}.epsilon", f"{made}.added"),
        ("Sqrt", f"{made}.added", "", f"{made}.deviation"),
        ("Div", centred, f"{made}.deviation", f"{made}.normal"),
        ("Mul", f"{made}.normal", f"{made}.{vectors[0]}", f"{made}.scaled"),
        ("Add", f"{made}.scaled", f"{made}.{vectors[1]}", made),
    ]
    for kind, left, right, output in steps:
        yield make(kind, [name for name in (left, right) if name], [output], name=output)


def _epsilon(node: NodeProto) -> float:
    return next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)


def _drop_unread(graph: GraphProto) -> None:
    """Leave out weights that nothing reads any more."""
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    if len(kept) < len(graph.initializer):
        import onnx

        kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
        del graph.initializer[:]
        graph.initializer.extend(kept)
