"""A picture made to fit what looks at the whole of it. Two launches: columns, then rows, as kernels/scaling.py says.

A program sums one line of taps for each of its places, in the order of the specification: levels are whole numbers, and
floats the same sums, so that results are its bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import triton
import triton.language as tl

from mrs.kernels.gpu.arrays import PICTURES, PLANES, check_apart, check_dense
from mrs.kernels.gpu.launch import Launch
from mrs.kernels.gpu.start import to_unit
from mrs.kernels.scaling import BITS, Fit

if TYPE_CHECKING:
    from torch import Tensor

GROUPS, WARPS = 256, 4


class Tables(NamedTuple):
    """What the two passes read besides the picture, on its device; the arrays of a `Fit`.

    Attributes:
        columns, rows: (side,) int32, the first line of each sum.
        column_weights, row_weights: (taps, side), int32 for levels, float32 otherwise.
    """

    columns: Tensor
    column_weights: Tensor
    rows: Tensor
    row_weights: Tensor


@triton.jit
def level(total, BITS: tl.constexpr):
    """A sum of levels, rounded, as one of 256."""
    return tl.minimum(tl.maximum((total + (1 << (BITS - 1))) >> BITS, 0), 255)


@triton.jit(do_not_specialize=["top", "height", "width", "channels", "side", "taps"])
def scale_columns(
    pictures, first, weights, lines,
    top, height, width, channels, side, taps,
    LEVELS: tl.constexpr, BITS: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """A program for each GROUPS places of a plane of `lines`, which are rows of all pictures from `top` on."""
    place = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    channel = tl.program_id(1)
    row, column = place // side, place % side
    mask = row < height
    start = tl.load(first + column, mask=mask, other=0)
    pixels = pictures + ((top + row).to(tl.int64) * width + start) * channels + channel
    total = tl.zeros((GROUPS,), tl.int32 if LEVELS else tl.float32)
    k = 0
    while k < taps:
        weight = tl.load(weights + k * side + column, mask=mask, other=0)
        value = tl.load(pixels + k * channels, mask=mask, other=0)
        if LEVELS:
            if value.dtype == tl.float32:
                value = (tl.minimum(tl.maximum(value, 0.0), 1.0) * 255.0).to(tl.int32)
            total += weight * value.to(tl.int32)
        else:
            total += weight * to_unit(value)
        k += 1
    made = level(total, BITS) if LEVELS else total
    at = channel.to(tl.int64) * height * side + place
    tl.store(lines + at, made.to(lines.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["height", "side", "taps"])
def scale_rows(
    lines, first, weights, target,
    height, side, taps,
    LEVELS: tl.constexpr, BITS: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """A program for each GROUPS places of a plane of `target`."""
    place = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    channel = tl.program_id(1)
    row, column = place // side, place % side
    mask = row < side
    start = tl.load(first + row, mask=mask, other=0)
    seen = lines + (channel.to(tl.int64) * height + start) * side + column
    total = tl.zeros((GROUPS,), tl.int32 if LEVELS else tl.float32)
    k = 0
    while k < taps:
        weight = tl.load(weights + k * side + row, mask=mask, other=0)
        value = tl.load(seen + k * side, mask=mask, other=0)
        total += weight * value.to(total.dtype)
        k += 1
    if LEVELS:
        made = tl.div_rn(level(total, BITS).to(tl.float32), tl.full((GROUPS,), 255.0, tl.float32))
    else:
        made = tl.minimum(tl.maximum(total, 0.0), 1.0)
    tl.store(target + channel * side * side + place, made, mask=mask)


def scale(pictures: Tensor, number: int, fit: Fit, tables: Tables, lines: Tensor, target: Tensor) -> None:
    """A picture made to fit, as `mrs.kernels.scaling.scale`.

    Args:
        pictures: (N, H, W, C), uint8, or float32 in [0, 1].
        number: of the one that is made to fit.
        fit: for H x W.
        tables: its arrays.
        lines: (C, `fit.height`, side), uint8 for levels, float32 otherwise; written.
        target: (1, C, side, side) float32, written.

    Two arrays must not share memory. Everything is on one device, and nothing waits for it.

    Raises:
        ValueError: for an array of another shape, type or layout, or arrays that overlap.
    """
    for each in launches(pictures, number, fit, tables, lines, target):
        each.run()


def launches(
    pictures: Tensor, number: int, fit: Fit, tables: Tables, lines: Tensor, target: Tensor
) -> tuple[Launch, Launch]:
    """`scale`, checked and ready to run."""
    if len(pictures.shape) != 4 or not all(pictures.shape):
        raise ValueError(f"pictures is {tuple(pictures.shape)}; expected (N, H, W, C), none of them 0")
    count, height, width, channels = pictures.shape
    side, device = fit.side, pictures.device
    if not 0 <= number < count:
        raise ValueError(f"picture {number} is not one of {count}")
    largest = max(fit.height * side, side * side) * channels
    if height < fit.top + fit.height or max(largest, count * height) >= 2**31 or channels > PLANES:
        raise ValueError(f"a picture of {height}x{width} with {channels} channels is not the one to be made to fit")
    kind = ("torch.int32",) if fit.levels else ("torch.float32",)
    check_dense("pictures", pictures, (count, height, width, channels), PICTURES, device)
    for name, taps, first, weights in (
        ("columns", fit.columns, tables.columns, tables.column_weights),
        ("rows", fit.rows, tables.rows, tables.row_weights),
    ):
        check_dense(name, first, (side,), ("torch.int32",), device)
        check_dense(f"weights of {name}", weights, taps.weights.shape, kind, device)
    check_dense("lines", lines, (channels, fit.height, side), PICTURES[:1] if fit.levels else PICTURES[1:], device)
    check_dense("target", target, (1, channels, side, side), PICTURES[1:], device)
    check_apart({"pictures": pictures, "lines": lines, "target": target, **tables._asdict()})
    constants = {"LEVELS": fit.levels, "BITS": BITS, "GROUPS": GROUPS}
    return (
        Launch(
            scale_columns,
            (-(-fit.height * side // GROUPS), channels),
            (pictures, tables.columns, tables.column_weights, lines, number * height + fit.top, fit.height, width,
             channels, side, len(tables.column_weights)),
            constants, WARPS,
        ),
        Launch(
            scale_rows,
            (-(-side * side // GROUPS), channels),
            (lines, tables.rows, tables.row_weights, target, fit.height, side, len(tables.row_weights)),
            constants, WARPS,
        ),
    )  # fmt: skip
