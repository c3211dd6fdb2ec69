"""How a conditioner's picture is scaled, as nodes: Pillow's antialiased bicubic filter as two matrices.

The matrices are made in the graph of the picture's own sides, so that one file takes pictures of any size, by operators
that every engine has; Resize rounds nothing between its passes, and few engines have its antialiasing. Weights are
those of `PIL.Image.resize(..., BICUBIC)`, sums are in double precision, in which whole numbers stay exact: so a sum in
the middle between two levels is rounded as Pillow rounds it. `mrs.runtime.conditioner.scaled` is the same by Pillow.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from mrs.export.onnx_writer import Emitter
from mrs.kernels.scaling import CLIP, LONGEST

# Pillow's weights for pictures of 256 levels are whole numbers by this.
UNIT = float(1 << 22)


def scaled(emit: Emitter, levels: str, side: int, resize: str) -> str:
    """Pictures in 0..255, (N, C, H, W) float32, as (N, C, side, side) in [0, 1]; the name of that value.

    Args:
        emit: to which the nodes are added.
        levels: the pictures.
        side: of what is made of them.
        resize: `stretch` or `clip`, see `mrs.runtime.conditioner.scaled`.
    """
    levels = emit("Cast", levels, to=TensorProto.DOUBLE)
    small = _clip(emit, levels, side) if resize == CLIP else _stretched(emit, levels, side)
    return emit("Div", emit("Cast", small, to=TensorProto.FLOAT), emit.number(255))


def _stretched(emit: Emitter, levels: str, side: int) -> str:
    """Both sides scaled; nothing is rounded, and what the filter overshoots is cut off."""
    for axis, size in _sides(emit, levels).items():
        levels = _product(emit, levels, axis, _weights(emit, size, side))
    return _in_range(emit, levels)


def _clip(emit: Emitter, levels: str, side: int) -> str:
    """The square in the middle when the shorter side is scaled, in 256 levels after each pass."""
    sides = _sides(emit, levels)
    shortest = emit("Min", *sides.values())
    # Of a picture that is far longer than wide the ends are cut off first.
    longest = emit("Mul", shortest, emit.whole(LONGEST))
    for axis, size in sides.items():
        low = emit("Max", emit("Div", emit("Sub", size, longest), emit.whole(2)), emit.whole(0))
        high = emit("Min", emit("Div", emit("Add", size, longest), emit.whole(2)), size)
        levels = emit("Slice", levels, low, high, emit.whole(axis))
        sides[axis] = emit("Sub", high, low)
    for axis, size in sides.items():
        wanted = emit("Div", emit("Mul", size, emit.whole(side)), shortest)
        weights = _weights(emit, size, side, wanted, _margin(emit, wanted, side))
        weights = emit("Round", emit("Mul", weights, _double(emit, UNIT)))
        total = emit("Add", _product(emit, levels, axis, weights), _double(emit, UNIT / 2))
        levels = _in_range(emit, emit("Floor", emit("Div", total, _double(emit, UNIT))))
    return levels


def _sides(emit: Emitter, planes: str) -> dict[int, str]:
    """Width and height by their axes, in the order in which Pillow scales; int64, (1,)."""
    return {axis: emit("Shape", planes, start=axis, end=axis + 1) for axis in (3, 2)}


def _margin(emit: Emitter, wanted: str, side: int) -> str:
    """Half of what is cut off; of an odd margin the half goes to the even number, as Python rounds."""
    margin = emit("Sub", wanted, emit.whole(side))
    half = emit("Div", margin, emit.whole(2))
    odd = emit("Mul", emit("Mod", margin, emit.whole(2)), emit("Mod", half, emit.whole(2)))
    return emit("Add", half, odd)


def _product(emit: Emitter, planes: str, axis: int, weights: str) -> str:
    """Planes (N, C, H, W) by weights (new, old) along rows (axis 3) or columns (axis 2)."""
    if axis == 2:
        return emit("MatMul", weights, planes)
    return emit("MatMul", planes, emit("Transpose", weights, perm=[1, 0]))


def _weights(emit: Emitter, size: str, side: int, wanted: str = "", first: str = "") -> str:
    """What makes `side` pixels of `size`, (side, size) double: those from `first` on of `wanted`, or all of `side`.

    `size`, `wanted` and `first` are int64, (1,). A pixel's middle is half a pixel from its edge; the filter is as wide
    as what it averages, and no narrower than a pixel of the picture.
    """
    wanted = wanted or emit.whole(side)
    one, two = emit.whole(1), emit.whole(2)
    made = emit.whole(*range(1, 2 * side, 2))
    made = emit("Add", made, emit("Mul", first, two)) if first else made
    made = emit("Unsqueeze", emit("Mul", made, size), one)
    each = emit("Range", emit("Squeeze", emit.whole(0)), emit("Squeeze", size), emit("Squeeze", one))
    given = emit("Unsqueeze", emit("Mul", emit("Add", emit("Mul", each, two), one), wanted), emit.whole(0))
    # Distances of middles times 2 wanted: whole numbers, so that engines without double precision lose little.
    distance = emit("Cast", emit("Sub", made, given), to=TensorProto.DOUBLE)
    unit = emit("Cast", emit("Mul", emit("Max", size, wanted), two), to=TensorProto.DOUBLE)
    weights = _bicubic(emit, emit("Abs", emit("Div", distance, unit)))
    return emit("Div", weights, emit("ReduceSum", weights, one, keepdims=1))


def _bicubic(emit: Emitter, u: str) -> str:
    """Cubic convolution with a = -0.5 at distances u >= 0; each of its two pieces is 0 where the other is not.

    1.5 u^3 - 2.5 u^2 + 1 up to 1, -0.5 u^3 + 2.5 u^2 - 4 u + 2 from there to 2.
    """
    one, two = _double(emit, 1), _double(emit, 2)
    near, far = emit("Min", u, one), emit("Clip", u, one, two)
    return emit("Add", _polynomial(emit, near, 1.5, -2.5, 0, 1), _polynomial(emit, far, -0.5, 2.5, -4, 2))


def _polynomial(emit: Emitter, u: str, *factors: float) -> str:
    """By Horner's rule, the highest power first."""
    value = _double(emit, factors[0])
    for factor in factors[1:]:
        value = emit("Mul", value, u)
        value = emit("Add", value, _double(emit, factor)) if factor else value
    return value


def _in_range(emit: Emitter, levels: str) -> str:
    return emit("Clip", levels, _double(emit, 0), _double(emit, 255))


def _double(emit: Emitter, value: float) -> str:
    return emit.constant(np.array(value, np.float64))
