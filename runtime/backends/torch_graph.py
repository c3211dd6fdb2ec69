"""The plan's ONNX graph as calls of torch, channels last, with as few kernels as torch has for it.

Weights and activations between convolutions have the plan's precision. What lies between a convolution and the next is
computed in float32: the norms with their statistics and epsilon, the modulation by time, the means of the attention
(half_precision.py).

A norm with its gain and shift is one call, and so is an attention of all pixels to all, whose memory is that of the
pixels (torch_fusion.py). A convolution of single pixels is a product of matrices that adds its bias, and a pixel
shuffle leaves the channels last: torch's own would leave planes on a GPU, and everything after it would be turned
round. `python -m benchmarks.cost` counts the kernels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrs.runtime.backends.half_precision import Roles
from mrs.runtime.backends.onnx_graph import parse
from mrs.runtime.backends.protocol import MEANS
from mrs.runtime.backends.torch_fusion import Node, fused
from mrs.runtime.backends.torch_operations import OPERATIONS, Operation, widened
from mrs.runtime.errors import BackendError

if TYPE_CHECKING:
    import torch
    from onnx import GraphProto
    from torch import Tensor

Arrays = dict[str, NDArray[np.generic]]
Program = Callable[["Tensor", "Tensor", "Sequence[Tensor]"], "Tensor"]
# From inputs and weights to outputs, all in the graph's order.
Function = Callable[["Sequence[Tensor]", "Sequence[Tensor]"], "list[Tensor]"]
# Single numbers and the gains of norms tell what nodes are for.
TELLING = frozenset({"InstanceNormalization", "LayerNormalization"})


def read(graph: bytes) -> tuple[bytes, Arrays]:
    """What networks share and what is a network's own: the graph without its weights, and all of its floating-point
    numbers by name.

    Args:
        graph: an ONNX model as an architecture of mrs.export writes it.

    Raises:
        BackendError: for a graph that cannot be read.
    """
    from onnx import numpy_helper

    model = parse(graph)
    told = {name for node in model.graph.node if node.op_type in TELLING for name in node.input}
    arrays: Arrays = {}
    for tensor in model.graph.initializer:
        if tensor.data_type not in _floating():
            continue
        # What is kept in half precision to make a file smaller is float32 from here on.
        arrays[tensor.name] = numpy_helper.to_array(tensor).astype(np.float32, copy=False)
        if tensor.dims and tensor.name not in told:
            for data in ("raw_data", "float_data", "int32_data"):
                tensor.ClearField(data)
    return bytes(model.SerializeToString(deterministic=True)), arrays


def weights_of(structure: bytes, arrays: Arrays, dtype: torch.dtype, device: str) -> list[Tensor]:
    """The numbers of a graph as tensors, in the order that its program takes: those of convolutions and products of
    matrices in `dtype`.
    """
    import onnx
    import torch

    halves = Roles(onnx.load_from_string(structure).graph).half_weights
    tensors = []
    for name in sorted(arrays):
        tensor = torch.from_numpy(arrays[name].copy()).to(device, dtype if name in halves else torch.float32)
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
    run = function_of(structure, compiled, ("packed", "modulation"))
    return lambda packed, modulation, weights: run((packed, modulation), weights)[0]


def function_of(structure: bytes, compiled: bool, inputs: Sequence[str]) -> Function:
    """A function of inputs and weights for all graphs of a structure; see `program_of`.

    Args:
        structure, compiled: as in `program_of`.
        inputs: names of the graph's; a `context` that is none of them comes last of the weights.

    Raises:
        BackendError: for an operation that no architecture of mrs.export writes.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(structure).graph
    given, made = tuple(inputs), tuple(value.name for value in graph.output)
    names: list[str] = []
    numbers: dict[str, Any] = {}
    ones: set[str] = set()
    for tensor in graph.initializer:
        if tensor.data_type not in _floating():
            # Sizes and axes are numbers to torch.
            numbers[tensor.name] = numpy_helper.to_array(tensor).tolist()
            continue
        names.append(tensor.name)
        if tensor.raw_data and np.all(numpy_helper.to_array(tensor) == 1):
            ones.add(tensor.name)
    constants = dict(numbers)
    numbers |= {each.name: numpy_helper.to_array(each).item() for each in graph.initializer if not each.dims}
    names.sort()
    names += [value.name for value in graph.input if value.name == "context" and value.name not in given]
    steps = _steps(list(fused(_nodes(graph), numbers, ones)), compiled)
    # What a step no longer needs is let go: a network's skips alone fill memory enough.
    last = {name: number for number, (_, inputs, _) in enumerate(steps) for name in inputs}
    kept = {*names, *constants, *made}

    def run(values: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
        known = {**constants, **dict(zip(names, weights, strict=True)), **dict(zip(given, values, strict=True))}
        for number, (operation, inputs, outputs) in enumerate(steps):
            results = operation(*(known[name] for name in inputs))
            known.update(zip(outputs, results if len(outputs) > 1 else (results,), strict=True))
            for name in set(inputs):
                if last[name] == number and name not in kept:
                    del known[name]
        return [known[name] for name in made]

    return run


@cache
def _floating() -> frozenset[int]:
    """What ONNX calls the types of weights."""
    import onnx

    return frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16})


def _nodes(graph: GraphProto) -> list[Node]:
    import onnx

    roles, nodes = Roles(graph), []
    for each in graph.node:
        inputs = tuple(each.input)
        # Of values that are float32 both, such as softmaxes and means, all but the small ones are rounded to its type.
        if each.op_type == "MatMul" and not roles.is_small(each):
            inputs = (*inputs, graph.input[0].name)
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in each.attribute}
        nodes.append(Node(each.op_type, inputs, tuple(each.output), attributes))
    return nodes


def _steps(nodes: Sequence[Node], compiled: bool) -> list[tuple[Operation, tuple[str, ...], tuple[str, ...]]]:
    uses = Counter(name for node in nodes for name in node.inputs)
    convolved = {
        node.inputs[0] for node in nodes if node.kind.startswith("Conv") and not node.inputs[1].startswith(MEANS)
    }
    steps = []
    for node in nodes:
        if node.kind not in OPERATIONS:
            raise BackendError(f"torch does not know the graph's operation {node.kind}", hint="build the plan again")
        operation = OPERATIONS[node.kind]({**node.attributes, "compiled": compiled})
        # A level's residuals begin with a convolution; sums have the wider type of their terms, so they go on like it.
        # Those that convolutions read, too, are as these want them.
        begins = node.kind == "Conv" and uses[node.outputs[0]] > 1 and node.outputs[0] not in convolved
        steps.append((widened(operation) if begins and not compiled else operation, node.inputs, node.outputs))
    return steps
