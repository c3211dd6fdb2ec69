"""The plan's ONNX graph as calls of torch, channels last, with as few kernels as torch has for it.

Weights and activations between convolutions have the plan's precision. What lies between a convolution and the next is
computed in float32: the norms with their statistics and epsilon, the modulation by time, the means of the attention.

A norm with its gain and shift is one call, a convolution of single pixels is a product of matrices that adds its bias,
and a pixel shuffle leaves the channels last: torch's own would leave planes on a GPU, and everything after it would be
turned round. `python -m benchmarks.cost` counts the kernels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrs.runtime.backends import onnx_graph
from mrs.runtime.backends.protocol import MEANS
from mrs.runtime.errors import BackendError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Arrays = dict[str, NDArray[np.generic]]
Attributes = Mapping[str, Any]
Operation = Callable[..., Any]
Program = Callable[["Tensor", "Tensor", "Sequence[Tensor]"], "Tensor"]
TO_PIXELS, TO_PLANES = [0, 2, 3, 1], [0, 3, 1, 2]


@dataclass(frozen=True)
class Node:
    """A node of the graph, or several that became one."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes = field(default_factory=dict)


def read(graph: bytes) -> tuple[bytes, Arrays]:
    """What networks share and what is a network's own: the graph without the weights of its convolutions, and all of
    its floating-point numbers by name.

    Args:
        graph: an ONNX model as an architecture of mrs.export writes it.

    Raises:
        BackendError: for a graph that cannot be read.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx_graph.parse(graph)
    own = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:]}
    arrays = {}
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            arrays[tensor.name] = numpy_helper.to_array(tensor)
        if tensor.name in own:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    return bytes(model.SerializeToString(deterministic=True)), arrays


def weights_of(structure: bytes, arrays: Arrays, dtype: torch.dtype, device: str) -> list[Tensor]:
    """The numbers of a graph as tensors, in the order that its program takes: those of convolutions in `dtype`."""
    import onnx
    import torch

    convolutions = {
        name
        for node in onnx.load_from_string(structure).graph.node
        if node.op_type == "Conv" and not node.input[1].startswith(MEANS)
        for name in node.input[1:]
    }
    tensors = []
    for name in sorted(arrays):
        tensor = torch.from_numpy(arrays[name].copy()).to(device, dtype if name in convolutions else torch.float32)
        tensors.append(tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor)
    return tensors


def program_of(structure: bytes, compiled: bool) -> Program:
    """A function of `packed`, `modulation` and weights, (N, 2C, H, W) to (N, C, H, W), for all graphs of a structure.

    Where the graph has the input `context`, that comes as the last of the weights.

    Args:
        structure: from `read`.
        compiled: whether it goes through a compiler. Otherwise residuals are float32, so that no norm needs a copy in
            float32; a compiler reads half of that into the norm's own kernel, and moves fewer bytes.

    Raises:
        BackendError: for an operation that no architecture of mrs.export writes.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(structure).graph
    names, constants = [], {}
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            names.append(tensor.name)
        else:
            # Sizes and axes are numbers to torch.
            constants[tensor.name] = numpy_helper.to_array(tensor).tolist()
    names.sort()
    names += [value.name for value in graph.input if value.name == "context"]
    ones = {
        each.name
        for each in graph.initializer
        if each.data_type == onnx.TensorProto.FLOAT and each.raw_data and np.all(numpy_helper.to_array(each) == 1)
    }
    nodes = [
        Node(
            each.op_type,
            tuple(each.input),
            tuple(each.output),
            {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in each.attribute},
        )
        for each in graph.node
    ]
    uses = Counter(name for node in nodes for name in node.inputs)
    steps: list[tuple[Operation, tuple[str, ...], tuple[str, ...]]] = []
    for node in _fused(nodes, uses, ones):
        if node.kind not in OPERATIONS:
            raise BackendError(f"torch does not know the graph's operation {node.kind}", hint="build the plan again")
        operation = OPERATIONS[node.kind]({**node.attributes, "compiled": compiled})
        # A level's residuals begin with a convolution; sums have the wider type of their terms, so they go on like it.
        begins = node.kind == "Conv" and uses[node.outputs[0]] > 1
        steps.append((_widened(operation) if begins and not compiled else operation, node.inputs, node.outputs))
    # What a step no longer needs is let go: a network's skips alone fill memory enough.
    last = {name: number for number, (_, inputs, _) in enumerate(steps) for name in inputs}
    kept = {*names, *constants}

    def run(packed: Tensor, modulation: Tensor, weights: Sequence[Tensor]) -> Tensor:
        known = {**constants, **dict(zip(names, weights, strict=True)), "packed": packed, "modulation": modulation}
        for number, (operation, inputs, outputs) in enumerate(steps):
            made = operation(*(known[name] for name in inputs))
            known.update(zip(outputs, made if len(outputs) > 1 else (made,), strict=True))
            for name in set(inputs):
                if last[name] == number and name not in kept:
                    del known[name]
        output: Tensor = known["output"]
        return output

    return run


def _fused(nodes: Sequence[Node], uses: Mapping[str, int], ones: set[str]) -> Iterator[Node]:
    """The same nodes, norms as one each.

    Args:
        nodes: in their order.
        uses: how often each value is an input.
        ones: names of gains that are one everywhere.
    """
    makers = {name: node for node in nodes for name in node.outputs}

    def behind(node: Node, *kinds: str) -> list[Node]:
        """The nodes that made what a node takes first, each for nothing else; fewer where the kinds are not these."""
        found: list[Node] = []
        for kind in kinds:
            maker = makers.get((found[-1] if found else node).inputs[0])
            if maker is None or maker.kind != kind or uses[maker.outputs[0]] != 1:
                break
            found.append(maker)
        return found

    norms: dict[str, Node] = {}
    parts: set[str] = set()
    for node in nodes:
        found = behind(node, "Mul", "Transpose", "LayerNormalization", "Transpose") if node.kind == "Add" else []
        if len(found) < 4:
            continue
        scaled, planes, norm, pixels = found
        turned = (list(planes.attributes["perm"]), list(pixels.attributes["perm"])) == (TO_PLANES, TO_PIXELS)
        if turned and norm.attributes.get("axis", -1) == -1 and norm.inputs[1] in ones:
            inputs = (pixels.inputs[0], scaled.inputs[1], node.inputs[1])
            norms[node.outputs[0]] = Node("Norm", inputs, node.outputs, norm.attributes)
            parts |= {each.outputs[0] for each in found}
    for node in nodes:
        if node.outputs[0] not in parts:
            yield norms.get(node.outputs[0], node)


def _widened(operation: Operation) -> Operation:
    return lambda *given: operation(*given).float()


def _conv(attributes: Attributes) -> Operation:
    import torch
    import torch.nn.functional as F

    stride, pad, groups = attributes["strides"], attributes["pads"][:2], attributes["group"]
    compiled = attributes["compiled"]

    def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x.to(weight.dtype), weight, bias, stride, pad, 1, groups)

    def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        count, channels, height, width = x.shape
        rows = x.to(weight.dtype).permute(0, 2, 3, 1).reshape(-1, channels)
        matrix = weight.flatten(1).t()
        if bias is None:
            made = rows @ matrix
        elif compiled and len(rows) == 1:
            # One kernel of the compiler's; torch's own product of one row first copies the bias.
            made = ((rows.t().float() * matrix.float()).sum(0, keepdim=True) + bias.float()).to(bias.dtype)
        else:
            made = torch.addmm(bias, rows, matrix)
        return made.reshape(count, height, width, -1).permute(0, 3, 1, 2)

    single = {*attributes["kernel_shape"], *stride, groups} == {1} and not any(pad)
    return product if single else conv


def _norm(attributes: Attributes) -> Operation:
    import torch.nn.functional as F

    def norm(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        channels = (x.shape[1],)
        pixels = x.permute(0, 2, 3, 1).float()
        made = F.layer_norm(pixels, channels, gain.reshape(channels), shift.reshape(channels), attributes["epsilon"])
        return made.permute(0, 3, 1, 2)

    return norm


def _layer_norm(attributes: Attributes) -> Operation:
    import torch.nn.functional as F

    return lambda x, gain: F.layer_norm(x.float(), gain.shape, gain, None, attributes["epsilon"])


def _split(attributes: Attributes) -> Operation:
    return lambda x, sizes: x.split(sizes, attributes["axis"])


def _transpose(attributes: Attributes) -> Operation:
    return lambda x: x.permute(attributes["perm"])


def _mean(attributes: Attributes) -> Operation:
    import torch

    return lambda x, axes: x.mean(axes, keepdim=bool(attributes["keepdims"]), dtype=torch.float32)


def _length(attributes: Attributes) -> Operation:
    import torch

    keep = bool(attributes["keepdims"])
    return lambda x, axes: torch.linalg.vector_norm(x, dim=axes, keepdim=keep, dtype=torch.float32)


def _pool(attributes: Attributes) -> Operation:
    import torch

    def pool(x: Tensor) -> Tensor:
        # A GPU sums in float32 whatever the type, and rounds once.
        dtype = torch.float32 if x.device.type == "cpu" else None
        return x.mean((2, 3), keepdim=True, dtype=dtype).to(x.dtype)

    return pool


def _pixel_shuffle(attributes: Attributes) -> Operation:
    import torch

    side = attributes["blocksize"]

    def shuffle(x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        channels //= side * side
        pixels = x.permute(0, 2, 3, 1).reshape(count, height, width, channels, side, side).permute(0, 1, 4, 2, 5, 3)
        # The only copy; torch's own shuffle leaves planes on a GPU.
        turned = pixels.clone(memory_format=torch.contiguous_format)
        return turned.view(count, side * height, side * width, channels).permute(0, 3, 1, 2)

    return shuffle


def _plain(function: Operation) -> Callable[[Attributes], Operation]:
    return lambda attributes: function


# By the names of ONNX, and `Norm`. Sums and products take the wider of two types, as torch does: float32 wherever a
# norm's statistics or the modulation take part, until the next convolution.
OPERATIONS: dict[str, Callable[[Attributes], Operation]] = {
    "Add": _plain(lambda x, y: x + y),
    "Conv": _conv,
    "DepthToSpace": _pixel_shuffle,
    "Div": _plain(lambda x, y: x / y),
    "GlobalAveragePool": _pool,
    "LayerNormalization": _layer_norm,
    "Max": _plain(lambda x, y: x.maximum(y)),
    "Mul": _plain(lambda x, y: x * y),
    "Norm": _norm,
    "ReduceL2": _length,
    "ReduceMean": _mean,
    "Split": _split,
    "Sqrt": _plain(lambda x: x.sqrt()),
    "Sub": _plain(lambda x, y: x - y),
    "Transpose": _transpose,
}
