"""From pictures to mu, x_T and the first network input. One launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from mrs.kernels.gpu.arguments import F32, check_tables
from mrs.kernels.gpu.arrays import (
    FLOATS,
    PICTURES,
    WIDE_BYTES,
    Geometry,
    check,
    check_apart,
    check_dense,
    is_channels_last,
)
from mrs.kernels.gpu.launch import Launch, launch_of_planes, shape_of_pictures
from mrs.kernels.gpu.network import store_input
from mrs.kernels.gpu.noise import normals
from mrs.kernels.gpu.picture import group_of, load_picture
from mrs.kernels.gpu.tile import in_picture, place, weight

if TYPE_CHECKING:
    from torch import Tensor


@triton.jit(do_not_specialize=["channels", "height", "width", "runs", "padded_height", "padded_width"])
def start_planes(
    picture, mu, x, packed, records, key,
    channels, height, width, runs, padded_height, padded_width,
    CHANNELS_LAST: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """A program for each tile of each plane; pictures, and a network with its channels last, in single elements."""
    if EXACT:
        padded_width = runs * GROUP
    area = padded_height.to(tl.int64) * padded_width
    plane = tl.program_id(1)
    image, channel = plane // channels, plane % channels
    row, column, offset, mask = place(tl.program_id(0), runs, padded_height, padded_width, GROUPS, GROUP, EXACT)
    seen = in_picture(row, column, height, width, GROUP)
    pixel = image.to(tl.int64) * height * width + row * width + column + tl.arange(0, GROUP)[None, :]
    values = to_unit(tl.load(picture + pixel * channels + channel, mask=mask & seen, other=0))
    at = plane * area + offset
    state = begin(mu, x, records, key, at, mask, seen, values, image, channel, row, column, GROUP)
    if CHANNELS_LAST:
        first, second = (image * area + offset) * (2 * channels) + channel, channels.to(tl.int64)
    else:
        first, second = (image * channels + plane) * area + offset, channels * area
    tl.store(packed + first, (state - values).to(packed.dtype.element_ty), mask=mask)
    tl.store(packed + first + second, values.to(packed.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["height", "picture_groups", "runs", "padded_height"])
def start_pixels(
    picture, mu, x, packed, records, key,
    height, picture_groups, runs, padded_height,
    CHANNELS_LAST: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """A program for each tile of each picture of three channels; widths are whole groups of the picture's type."""
    area = padded_height.to(tl.int64) * runs * GROUP
    tile, image = tl.program_id(0), tl.program_id(1)
    row, column, offset, mask = place(tile, runs, padded_height, runs * GROUP, GROUPS, GROUP, True)
    seen = in_picture(row, column, height, picture_groups * group_of(picture), GROUP)
    p0, p1, p2 = load_picture(picture, image, tile, height, picture_groups, runs, GROUPS, GROUP)
    v0, v1, v2 = to_unit(p0), to_unit(p1), to_unit(p2)
    at = image * 3 * area + offset
    x0 = begin(mu, x, records, key, at, mask, seen, v0, image, 0, row, column, GROUP)
    x1 = begin(mu, x, records, key, at + area, mask, seen, v1, image, 1, row, column, GROUP)
    x2 = begin(mu, x, records, key, at + 2 * area, mask, seen, v2, image, 2, row, column, GROUP)
    if CHANNELS_LAST:
        store_input(packed, image, area, tile, x0 - v0, x1 - v1, x2 - v2, v0, v1, v2)
    else:
        to_packed = packed + image * 6 * area + offset
        DTYPE: tl.constexpr = packed.dtype.element_ty
        tl.store(to_packed, (x0 - v0).to(DTYPE), mask=mask)
        tl.store(to_packed + area, (x1 - v1).to(DTYPE), mask=mask)
        tl.store(to_packed + 2 * area, (x2 - v2).to(DTYPE), mask=mask)
        tl.store(to_packed + 3 * area, v0.to(DTYPE), mask=mask)
        tl.store(to_packed + 4 * area, v1.to(DTYPE), mask=mask)
        tl.store(to_packed + 5 * area, v2.to(DTYPE), mask=mask)


@triton.jit
def to_unit(value):
    """Bytes to [0, 1], rounded as an exact division is; floats stay."""
    if value.dtype == tl.uint8:
        value = tl.div_rn(value.to(tl.float32), tl.full(value.shape, 255.0, tl.float32))
    return value


@triton.jit
def begin(mu, x, records, key, at, mask, seen, values, image, channel, row, column, GROUP: tl.constexpr):
    """Write mu and x_T of a tile, zero outside the picture; the latter is returned."""
    deviation = weight(records, 0, 9)
    draw = tl.full((), 0, tl.uint32)
    noise = deviation * normals(key, draw, image, channel, row, column, GROUP)
    state = tl.where(seen, values + noise, 0.0)
    tl.store(mu + at, values, mask=mask)
    tl.store(x + at, state, mask=mask)
    return state


def start(
    picture: Tensor,
    mu: Tensor,
    x: Tensor,
    packed: Tensor,
    records: Tensor,
    key: Tensor,
) -> None:
    """From pictures to mu, x_T = mu + S z and the first network input, all zero outside the picture.

    Args:
        picture: (N, H, W, C), uint8 or float32 in [0, 1].
        mu, x: (N, C, H', W') float32, written; H' x W' is H x W padded for the network.
        packed: (N, 2C, H', W') float32, float16 or bfloat16, as planes or with channels last, written: x - mu, then mu.
        records: (1 + steps, 16) float32, of which the first is read, see `tables.records`.
        key: (4,) uint32, see `tables.key`.

    Two arrays must not share memory. Everything is on one device, and nothing waits for it.

    Raises:
        ValueError: for an array of another shape, type or layout, or arrays that overlap.
    """
    launch(picture, mu, x, packed, records, key).run()


def launch(picture: Tensor, mu: Tensor, x: Tensor, packed: Tensor, records: Tensor, key: Tensor) -> Launch:
    """`start`, checked and ready to run."""
    if len(picture.shape) != 4:
        raise ValueError(f"picture is {tuple(picture.shape)}; expected (N, H, W, C)")
    geometry = Geometry.of(x, (picture.shape[1], picture.shape[2]))
    check_dense("picture", picture, geometry.picture, PICTURES, x.device)
    check_dense("mu", mu, geometry.state, F32, x.device)
    check_dense("x", x, geometry.state, F32, x.device)
    images, channels, padded_height, padded_width = geometry.state
    check("packed", packed, (images, 2 * channels, padded_height, padded_width), FLOATS, x.device)
    channels_last = is_channels_last("packed", packed)
    check_tables(records, key, x.device)
    check_apart({"picture": picture, "mu": mu, "x": x, "packed": packed, "records": records, "key": key})
    arrays = (picture, mu, x, packed, records, key)
    shape = shape_of_pictures(geometry, channels_last, picture, packed, mu, x)
    if shape is not None:
        group = WIDE_BYTES // picture.element_size()
        numbers = (geometry.height, geometry.width // group, shape.runs, geometry.padded_height)
        return Launch(
            start_pixels,
            shape.grid,
            (*arrays, *numbers),
            {"CHANNELS_LAST": channels_last, **shape.constants},
            shape.warps,
        )
    return launch_of_planes(start_planes, geometry, channels_last, packed, *arrays)
