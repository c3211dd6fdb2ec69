"""The last row of a table, the clamp and the picture. One launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from mrs.kernels.gpu.arguments import check_step
from mrs.kernels.gpu.arrays import PICTURES, WIDE_BYTES, Geometry, check_dense
from mrs.kernels.gpu.launch import Launch, launch_of_planes, shape_of_pictures
from mrs.kernels.gpu.network import load_output
from mrs.kernels.gpu.picture import store_picture
from mrs.kernels.gpu.tile import advance, in_picture, place

if TYPE_CHECKING:
    from torch import Tensor


@triton.jit(
    do_not_specialize=["index", "slots", "channels", "height", "width", "runs", "padded_height", "padded_width"]
)
def finish_planes(
    x, mu, output, history, picture, records, key, bounds,
    index, slots, channels, height, width, runs, padded_height, padded_width,
    CHANNELS_LAST: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """A program for each tile of each plane; pictures, and a network with its channels last, in single elements."""
    if EXACT:
        padded_width = runs * GROUP
    area = padded_height.to(tl.int64) * padded_width
    plane = tl.program_id(1)
    image, channel = plane // channels, plane % channels
    row, column, offset, mask = place(tl.program_id(0), runs, padded_height, padded_width, GROUPS, GROUP, EXACT)
    at = plane * area + offset
    if CHANNELS_LAST:
        from_output = (image * area + offset) * channels + channel
    else:
        from_output = at
    f = tl.load(output + from_output, mask=mask, other=0.0).to(tl.float32)
    total, _, _ = advance(
        x, mu, history, records, key, bounds,
        f, at, mask, tl.num_programs(1) * area, index, slots, image, channel, row, column, GROUP,
    )  # fmt: skip
    seen = in_picture(row, column, height, width, GROUP)
    pixel = image.to(tl.int64) * height * width + row * width + column + tl.arange(0, GROUP)[None, :]
    tl.store(picture + pixel * channels + channel, to_picture(total, picture.dtype.element_ty), mask=mask & seen)


@triton.jit(do_not_specialize=["index", "slots", "height", "picture_groups", "runs", "padded_height"])
def finish_pixels(
    x, mu, output, history, picture, records, key, bounds,
    index, slots, height, picture_groups, runs, padded_height,
    CHANNELS_LAST: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """A program for each tile of each picture of three channels; widths are whole groups of the picture's type."""
    area = padded_height.to(tl.int64) * runs * GROUP
    tile, image = tl.program_id(0), tl.program_id(1)
    row, column, offset, mask = place(tile, runs, padded_height, runs * GROUP, GROUPS, GROUP, True)
    size = tl.num_programs(1) * 3 * area
    at0 = image * 3 * area + offset
    at1, at2 = at0 + area, at0 + 2 * area
    if CHANNELS_LAST:
        f0, f1, f2 = load_output(output, image, area, tile, GROUPS, GROUP)
    else:
        f0 = tl.load(output + at0, mask=mask, other=0.0).to(tl.float32)
        f1 = tl.load(output + at1, mask=mask, other=0.0).to(tl.float32)
        f2 = tl.load(output + at2, mask=mask, other=0.0).to(tl.float32)
    x0, _, _ = advance(
        x, mu, history, records, key, bounds, f0, at0, mask, size, index, slots, image, 0, row, column, GROUP
    )
    x1, _, _ = advance(
        x, mu, history, records, key, bounds, f1, at1, mask, size, index, slots, image, 1, row, column, GROUP
    )
    x2, _, _ = advance(
        x, mu, history, records, key, bounds, f2, at2, mask, size, index, slots, image, 2, row, column, GROUP
    )
    DTYPE: tl.constexpr = picture.dtype.element_ty
    store_picture(
        picture, image, tile, height, picture_groups, runs,
        to_picture(x0, DTYPE), to_picture(x1, DTYPE), to_picture(x2, DTYPE), GROUPS, GROUP,
    )  # fmt: skip


@triton.jit
def to_picture(x, dtype: tl.constexpr):
    """Clamped to [0, 1]; for bytes, 255 x rounded to nearest, halves to even. NaN stays NaN, and as a byte is 0."""
    x = tl.where(x < 0.0, 0.0, tl.where(x > 1.0, 1.0, x))
    if dtype == tl.uint8:
        # Adding 1.5 * 2^23 leaves no bits for a fraction, and the addition rounds halves to even.
        rounded = (x * 255.0 + 12582912.0).to(tl.int32, bitcast=True) & 0xFF
        x = tl.where(x == x, rounded, 0).to(tl.uint8)
    return x


def finish(
    x: Tensor,
    mu: Tensor,
    output: Tensor,
    history: Tensor,
    picture: Tensor,
    records: Tensor,
    key: Tensor,
    bounds: Tensor | None,
    index: int,
) -> None:
    """One row of a table, the last, from the network's output to pictures clamped to [0, 1].

    Args:
        x, mu, output, history, records, key, bounds, index: as in `step`; all of them are only read.
        picture: (N, H, W, C), uint8 or float32, written. For uint8, 255 x rounded to nearest, halves to even, of x in
            float32; NaN becomes 0.

    Two arrays must not share memory. Everything is on one device, and nothing waits for it.

    Raises:
        ValueError: for an array of another shape, type or layout, or arrays that overlap.
    """
    launch(x, mu, output, history, picture, records, key, bounds, index).run()


def launch(
    x: Tensor,
    mu: Tensor,
    output: Tensor,
    history: Tensor,
    picture: Tensor,
    records: Tensor,
    key: Tensor,
    bounds: Tensor | None,
    index: int,
) -> Launch:
    """`finish`, checked and ready to run."""
    if len(picture.shape) != 4:
        raise ValueError(f"picture is {tuple(picture.shape)}; expected (N, H, W, C)")
    geometry = Geometry.of(x, (picture.shape[1], picture.shape[2]))
    check_dense("picture", picture, geometry.picture, PICTURES, x.device)
    channels_last = check_step(geometry, x, mu, output, history, records, key, bounds, index, picture=picture)
    arrays = (x, mu, output, history, picture, records, key, x if bounds is None else bounds)
    slots = max(1, len(history))
    shape = shape_of_pictures(geometry, channels_last, picture, output, x, mu, history)
    if shape is not None:
        group = WIDE_BYTES // picture.element_size()
        numbers = (index, slots, geometry.height, geometry.width // group, shape.runs, geometry.padded_height)
        return Launch(
            finish_pixels,
            shape.grid,
            (*arrays, *numbers),
            {"CHANNELS_LAST": channels_last, **shape.constants},
            shape.warps,
        )
    return launch_of_planes(finish_planes, geometry, channels_last, output, *arrays, index, slots)
