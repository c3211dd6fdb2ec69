"""Operations of a graph as functions of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mrs.runtime.backends.half_precision import SPREAD
from mrs.runtime.backends.torch_fusion import Attributes

if TYPE_CHECKING:
    from torch import Tensor

Operation = Callable[..., Any]


def widened(operation: Operation) -> Operation:
    """The same with a result in float32."""
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


def _conv_transpose(attributes: Attributes) -> Operation:
    import torch.nn.functional as F

    stride, pad, groups = attributes["strides"], attributes["pads"][:2], attributes["group"]
    return lambda x, weight, bias: F.conv_transpose2d(x.to(weight.dtype), weight, bias, stride, pad, 0, groups)


def _matmul(attributes: Attributes) -> Operation:
    def product(x: Tensor, y: Tensor, like: Tensor | None = None) -> Tensor:
        return x @ y if like is None else x.to(like.dtype) @ y.to(like.dtype)

    return product


def _linear(attributes: Attributes) -> Operation:
    import torch

    def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows = x.to(weight.dtype).reshape(-1, x.shape[-1])
        return torch.addmm(bias.flatten(), rows, weight).reshape(*x.shape[:-1], -1)

    return linear


def _attention(attributes: Attributes) -> Operation:
    import torch.nn.functional as F

    # The queries are scaled. No number is kept for any pair of pixels.
    return lambda query, keys, value: F.scaled_dot_product_attention(query, keys.transpose(-2, -1), value, scale=1.0)


def _pixel_mean(attributes: Attributes) -> Operation:
    import torch

    def mean(keys: Tensor, tokens: Tensor, like: Tensor) -> Tensor:
        weights = keys.softmax(-1, dtype=torch.float32)
        if like.dtype == torch.float16:
            return ((weights * SPREAD).half() @ tokens.half()).float() * (1 / SPREAD)
        return (weights.to(like.dtype) @ tokens.to(like.dtype)).float()

    return mean


def _softmax(attributes: Attributes) -> Operation:
    import torch

    return lambda x: x.softmax(attributes["axis"], dtype=torch.float32)


def _instance_norm(attributes: Attributes) -> Operation:
    import torch.nn.functional as F

    epsilon = attributes["epsilon"]
    return lambda x, gain, shift: F.instance_norm(x.float(), weight=gain, bias=shift, eps=epsilon)


def _reshape(attributes: Attributes) -> Operation:
    def reshape(x: Tensor, sides: Sequence[int]) -> Tensor:
        return x.reshape([side or x.shape[place] for place, side in enumerate(sides)])

    return reshape


def _shape(attributes: Attributes) -> Operation:
    # Sides are numbers to torch, of which a Cast makes one of floating point.
    return lambda x: list(x.shape[attributes.get("start") : attributes.get("end")])


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

    return lambda x, gain, shift=None: F.layer_norm(x.float(), gain.shape, gain, shift, attributes["epsilon"])


def _pad(attributes: Attributes) -> Operation:
    import torch.nn.functional as F

    def pad(x: Tensor, margins: Sequence[int]) -> Tensor:
        # The last side first, before and after each.
        pairs = list(zip(margins[: x.ndim], margins[x.ndim :], strict=True))
        return F.pad(x, [margin for pair in reversed(pairs) for margin in pair])

    return pad


def _slice(attributes: Attributes) -> Operation:
    def cut(x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> Tensor:
        for start, end, axis in zip(starts, ends, axes, strict=True):
            x = x.narrow(axis, start, end - start)
        return x

    return cut


def _cast(attributes: Attributes) -> Operation:
    # Sides are numbers; weights have the type already.
    return lambda value: float(value[0]) if isinstance(value, list) else value.float()


def _split(attributes: Attributes) -> Operation:
    return lambda x, sizes: x.split(sizes, attributes["axis"])


def _transpose(attributes: Attributes) -> Operation:
    return lambda x: x.permute(attributes["perm"])


def _channel_mean(attributes: Attributes) -> Operation:
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


def _silu(attributes: Attributes) -> Operation:
    import torch.nn.functional as F

    return F.silu


def _gelu(attributes: Attributes) -> Operation:
    import torch.nn.functional as F

    return F.gelu


def _plain(function: Operation) -> Callable[[Attributes], Operation]:
    return lambda attributes: function


# By the names of ONNX and of torch_fusion.py. Sums and products take the wider of two types, as torch does: float32
# wherever a norm's statistics or the modulation take part, until the next convolution or product of matrices.
OPERATIONS: dict[str, Callable[[Attributes], Operation]] = {
    "Add": _plain(lambda x, y: x + y),
    "Cast": _cast,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _pixel_shuffle,
    "Div": _plain(lambda x, y: x / y),
    "Erf": _plain(lambda x: x.float().erf()),
    "ExactGelu": _gelu,
    "GlobalAveragePool": _pool,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "Linear": _linear,
    "MatMul": _matmul,
    "Max": _plain(lambda x, y: x.maximum(y)),
    "Mul": _plain(lambda x, y: x * y),
    "Norm": _norm,
    "Pad": _pad,
    "PixelMean": _pixel_mean,
    "ReduceL2": _length,
    "ReduceMean": _channel_mean,
    "Reshape": _reshape,
    "Residual": _plain(lambda x, y: (x + y).to(x.dtype)),
    "SelfAttention": _attention,
    "Shape": _shape,
    "Sigmoid": _plain(lambda x: x.float().sigmoid()),
    "Silu": _silu,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": _plain(lambda x: x.sqrt()),
    "Sub": _plain(lambda x, y: x - y),
    "Transpose": _transpose,
}
