"""A picture reflected into the network's padding. One launch, which reads and writes the margin alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from mrs.kernels.gpu.arrays import FLOATS, Geometry, check, is_channels_last
from mrs.kernels.gpu.launch import Launch

if TYPE_CHECKING:
    from torch import Tensor

GROUPS, WARPS = 512, 4


@triton.jit
def reflected(place, side):
    """The line of `side` that is seen at `place`: 0 1 2 1 0 1 ..."""
    period = tl.maximum(2 * side - 2, 1)
    place = place % period
    return tl.where(side > 1, tl.minimum(place, period - place), 0)


@triton.jit(do_not_specialize=["channels", "height", "width", "padded_height", "padded_width"])
def mirror_planes(
    packed,
    channels, height, width, padded_height, padded_width,
    CHANNELS_LAST: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """A program for each GROUPS places of a plane's margin: those beside the picture, then those below."""
    beside = padded_width - width
    right = height * beside
    place = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    below = place - right
    # Where nothing lies beside the picture, no place is taken from there, but the division is made.
    row = tl.where(below < 0, place // tl.maximum(beside, 1), height + below // padded_width)
    column = tl.where(below < 0, width + place % tl.maximum(beside, 1), below % padded_width)
    mask = row < padded_height
    plane = tl.program_id(1)
    area = padded_height * padded_width
    if CHANNELS_LAST:
        start = packed + (plane // channels).to(tl.int64) * area * channels + plane % channels
        each = channels
    else:
        start = packed + plane.to(tl.int64) * area
        each = 1
    seen = reflected(row, height) * padded_width + reflected(column, width)
    tl.store(start + (row * padded_width + column) * each, tl.load(start + seen * each, mask=mask), mask=mask)


def mirror(packed: Tensor, size: tuple[int, int]) -> None:
    """Reflect pictures into the padding below and to the right of them, as `mrs.kernels.update.mirror`.

    Args:
        packed: (N, 2C, H', W') float32, float16 or bfloat16, as planes or with channels last; written outside H x W.
        size: (H, W) of the pictures.

    Nothing waits for it.

    Raises:
        ValueError: for an array of another shape, type or layout, or a picture that does not fit.
    """
    made = launch(packed, size)
    if made is not None:
        made.run()


def launch(packed: Tensor, size: tuple[int, int]) -> Launch | None:
    """`mirror`, checked and ready to run; None where there is no padding."""
    geometry = Geometry.of(packed, size)
    check("packed", packed, geometry.state, FLOATS, packed.device)
    channels_last = is_channels_last("packed", packed)
    margin = geometry.padded_height * geometry.padded_width - geometry.height * geometry.width
    if not margin:
        return None
    sizes = (geometry.channels, geometry.height, geometry.width, geometry.padded_height, geometry.padded_width)
    grid = (-(-margin // GROUPS), geometry.images * geometry.channels)
    constants = {"CHANNELS_LAST": channels_last, "GROUPS": GROUPS}
    return Launch(mirror_planes, grid, (packed, *sizes), constants, WARPS)
