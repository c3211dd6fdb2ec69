"""A typed graph carried out on a CPU as ONNX has it: types are never mixed, what is half precision is rounded once.

It is what the double of TensorRT computes. Convolutions and products of matrices sum in float32, as tensor cores do,
and softmaxes compute in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

TYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
}
# What one byte holds at most.
LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}


@dataclass(frozen=True)
class Program:
    """A typed graph, read once for all evaluations.

    Attributes:
        model: the graph.
        constants: its initializers by name.
        nodes: each with its attributes.
    """

    model: onnx.ModelProto
    constants: dict[str, Tensor]
    nodes: list[tuple[onnx.NodeProto, dict[str, Any]]]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Program:
        """Read it."""
        constants = {tensor.name: _constant(tensor) for tensor in model.graph.initializer}
        read = onnx.helper.get_attribute_value
        return cls(
            model, constants, [(node, {each.name: read(each) for each in node.attribute}) for node in model.graph.node]
        )


def evaluate(
    program: Program,
    packed: Tensor,
    modulation: Tensor,
    look: Callable[[onnx.NodeProto, Tensor], None] | None = None,
    context: Tensor | None = None,
) -> Tensor:
    """The output of a typed graph, for inputs of its types; `look` sees every node with its first output."""
    given = {"packed": packed, "modulation": modulation, "context": context}
    return evaluated(program, {name: value for name, value in given.items() if value is not None}, look)["output"]


def evaluated(
    program: Program,
    inputs: dict[str, Tensor],
    look: Callable[[onnx.NodeProto, Tensor], None] | None = None,
) -> dict[str, Tensor]:
    """The same, for inputs and outputs of any names."""
    known: dict[str, Any] = dict(program.constants)
    graph = program.model.graph
    for value in graph.input:
        given = inputs[value.name]
        assert given.dtype == TYPES[value.type.tensor_type.elem_type], value.name
        known[value.name] = given
    for node, attributes in program.nodes:
        taken = [known[name] for name in node.input]
        floats = {each.dtype for each in taken if isinstance(each, Tensor) and each.dtype in TYPES.values()}
        assert len(floats) <= 1, f"{node.op_type} {node.name} mixes {floats}"
        made = OPERATIONS[node.op_type](attributes, *taken)
        known.update(zip(node.output, made if len(node.output) > 1 else (made,), strict=True))
        if look is not None:
            look(node, known[node.output[0]])
    made = {value.name: known[value.name] for value in graph.output}
    assert all(made[value.name].dtype == TYPES[value.type.tensor_type.elem_type] for value in graph.output)
    return made


def _constant(tensor: onnx.TensorProto) -> Tensor:
    if tensor.data_type == onnx.TensorProto.FLOAT8E4M3FN:
        zeros = torch.zeros(list(tensor.dims), dtype=torch.float8_e4m3fn)
        assert numpy_helper.to_array(tensor).tobytes() == bytes(zeros.numel()), "a zero point that is not zero"
        return zeros
    if tensor.data_type != onnx.TensorProto.BFLOAT16:
        return torch.from_numpy(numpy_helper.to_array(tensor).copy())
    bits = torch.frombuffer(bytearray(tensor.raw_data), dtype=torch.int16)
    return bits.view(torch.bfloat16).reshape(list(tensor.dims))


def _conv(a: dict[str, Any], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    given = [None if each is None else each.float() for each in (x, weight, bias)]
    return F.conv2d(given[0], given[1], given[2], a["strides"], a["pads"][:2], 1, a["group"]).to(x.dtype)


def _conv_transpose(a: dict[str, Any], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    given = x.float(), weight.float(), bias.float()
    return F.conv_transpose2d(*given, a["strides"], a["pads"][:2], groups=a["group"]).to(x.dtype)


def _matmul(a: dict[str, Any], x: Tensor, y: Tensor) -> Tensor:
    return (x.float() @ y.float()).to(x.dtype)


def _softmax(a: dict[str, Any], x: Tensor) -> Tensor:
    return x.float().softmax(a["axis"]).to(x.dtype)


def _reshape(a: dict[str, Any], x: Tensor, sides: Tensor) -> Tensor:
    return x.reshape([x.shape[place] if side == 0 else side for place, side in enumerate(sides.tolist())])


def _slice(a: dict[str, Any], x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor) -> Tensor:
    return x.narrow(int(axes), int(starts), int(ends - starts))


def _instance_norm(a: dict[str, Any], x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    return F.instance_norm(x, weight=gain, bias=shift, eps=a["epsilon"])


def _scale(scale: Tensor, x: Tensor, axis: int) -> Tensor:
    """One for all, or one per entry of an axis; TensorRT takes none that is not positive."""
    assert bool((scale > 0).all())
    sides = [1] * x.ndim
    if scale.numel() > 1:
        sides[axis] = scale.numel()
    return scale.float().view(sides)


def _quantize(a: dict[str, Any], x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    scaled = x.float() / _scale(scale, x, a.get("axis", 1))
    largest = LARGEST[zero.dtype]
    if zero.dtype == torch.int8:
        assert not zero.any()
        return scaled.round().clamp(-largest - 1, largest).to(torch.int8)
    return scaled.clamp(-largest, largest).to(zero.dtype)


def _dequantize(a: dict[str, Any], x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    assert x.dtype == zero.dtype
    return (x.float() * _scale(scale, x, a.get("axis", 1))).to(scale.dtype)


def _norm(a: dict[str, Any], x: Tensor, gain: Tensor, shift: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, gain.shape, gain, shift, a["epsilon"])


def _pad(a: dict[str, Any], x: Tensor, pads: Tensor) -> Tensor:
    before, after = pads.view(2, x.ndim).tolist()
    return F.pad(x, [each for pair in zip(reversed(before), reversed(after), strict=True) for each in pair])


def _cast(a: dict[str, Any], x: Tensor) -> Tensor:
    return x.to(TYPES[a["to"]])


OPERATIONS: dict[str, Callable[..., Any]] = {
    "Add": lambda a, x, y: x + y,
    "Cast": _cast,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DequantizeLinear": _dequantize,
    "DepthToSpace": lambda a, x: F.pixel_shuffle(x, a["blocksize"]),
    "Div": lambda a, x, y: x / y,
    "Erf": lambda a, x: x.erf(),
    "GlobalAveragePool": lambda a, x: x.mean((2, 3), keepdim=True),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _norm,
    "MatMul": _matmul,
    "Max": lambda a, x, y: x.maximum(y),
    "Mul": lambda a, x, y: x * y,
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "ReduceL2": lambda a, x, axes: torch.linalg.vector_norm(x, dim=axes.tolist(), keepdim=True),
    "ReduceMean": lambda a, x, axes: x.mean(axes.tolist(), keepdim=True),
    "Reshape": _reshape,
    "Shape": lambda a, x: torch.tensor(x.shape[a.get("start") : a.get("end")]),
    "Sigmoid": lambda a, x: x.sigmoid(),
    "Softmax": _softmax,
    "Slice": _slice,
    "Split": lambda a, x, sizes: x.split(sizes.tolist(), a["axis"]),
    "Sqrt": lambda a, x: x.sqrt(),
    "Sub": lambda a, x, y: x - y,
    "Transpose": lambda a, x: x.permute(a["perm"]),
}
