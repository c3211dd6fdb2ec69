"""The published dynamic threshold of each picture: an exact quantile by two histograms, without a sort.

Only thresholds within [1, 1.5] are of interest, and the float32 numbers there differ in 22 bits. The first launch
counts the predictions by the upper 11 of them, the second finds the bins of the two ranks that the quantile lies
between, the third counts within these bins by the lower 11 bits, and the last reads off both numbers, interpolates, and
clears the counts for the next step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from mrs.kernels.gpu.arguments import check_step
from mrs.kernels.gpu.arrays import WIDE_BYTES, Geometry, check_dense, is_wide
from mrs.kernels.gpu.launch import Launch, Shape, launch_of_planes
from mrs.kernels.gpu.network import load_output
from mrs.kernels.gpu.tile import in_picture, place, predict

if TYPE_CHECKING:
    from torch import Tensor

# A picture's counts, int32: 2048 coarse bins, 2048 fine bins for each of the two ranks, then the numbers below.
BINS = tl.constexpr(2048)
BELOW = tl.constexpr(3 * 2048)  # how many are below 1
BETWEEN = tl.constexpr(3 * 2048 + 1)  # and how many in [1, 1.5)
NAN = tl.constexpr(3 * 2048 + 2)  # and how many are NaN
LARGEST = tl.constexpr(3 * 2048 + 3)  # bits of the largest below 1
SMALLEST = tl.constexpr(3 * 2048 + 4)  # bits of the smallest from 1.5 on, as a distance from INFINITE
TARGET = tl.constexpr(3 * 2048 + 5)  # coarse bins of both ranks, -1 where a rank is in none; then the ranks within them
COUNTS = tl.constexpr(3 * 2048 + 16)
ONE, ONE_AND_HALF, INFINITE = tl.constexpr(0x3F800000), tl.constexpr(0x3FC00000), tl.constexpr(0x7F800000)
LARGEST_FLOAT = tl.constexpr(0x7F7FFFFF)


@triton.jit(do_not_specialize=["index", "channels", "height", "width", "runs", "padded_height", "padded_width"])
def count_planes(
    x, mu, output, records, counts,
    index, channels, height, width, runs, padded_height, padded_width,
    FINE: tl.constexpr, CHANNELS_LAST: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """A program for each tile of each plane; a network with its channels last in single elements."""
    if EXACT:
        padded_width = runs * GROUP
    area = padded_height.to(tl.int64) * padded_width
    plane = tl.program_id(1)
    image, channel = plane // channels, plane % channels
    row, column, offset, mask = place(tl.program_id(0), runs, padded_height, padded_width, GROUPS, GROUP, EXACT)
    seen = mask & in_picture(row, column, height, width, GROUP)
    at = plane * area + offset
    if CHANNELS_LAST:
        from_output = (image * area + offset) * channels + channel
    else:
        from_output = at
    f = tl.load(output + from_output, mask=mask, other=0.0).to(tl.float32)
    count(x, mu, f, records, counts + image * COUNTS, index, at, mask, seen, FINE)


@triton.jit(do_not_specialize=["index", "height", "width", "runs", "padded_height"])
def count_pixels(
    x, mu, output, records, counts,
    index, height, width, runs, padded_height,
    FINE: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """A program for each tile of each picture of three channels, which the network has last; the width is exact."""
    area = padded_height.to(tl.int64) * runs * GROUP
    tile, image = tl.program_id(0), tl.program_id(1)
    row, column, offset, mask = place(tile, runs, padded_height, runs * GROUP, GROUPS, GROUP, True)
    seen = mask & in_picture(row, column, height, width, GROUP)
    f0, f1, f2 = load_output(output, image, area, tile, GROUPS, GROUP)
    at = image * 3 * area + offset
    counts += image * COUNTS
    count(x, mu, f0, records, counts, index, at, mask, seen, FINE)
    count(x, mu, f1, records, counts, index, at + area, mask, seen, FINE)
    count(x, mu, f2, records, counts, index, at + 2 * area, mask, seen, FINE)


@triton.jit
def count(x, mu, f, records, counts, index, at, mask, seen, FINE: tl.constexpr):
    """Count a tile of predictions, those of the picture."""
    x_tile = tl.load(x + at, mask=mask, other=0.0)
    mu_tile = tl.load(mu + at, mask=mask, other=0.0)
    # Numbers that are not negative are ordered as their bits are; NaN come after infinity.
    bits = tl.abs(predict(x_tile, mu_tile, f, records, index + 1)).to(tl.int32, bitcast=True)
    between = seen & (bits >= ONE) & (bits < ONE_AND_HALF)
    place_in = tl.where(between, bits - ONE, 0)
    if FINE:
        first = tl.load(counts + TARGET, eviction_policy="evict_last")
        second = tl.load(counts + TARGET + 1, eviction_policy="evict_last")
        fine = place_in % BINS
        tl.atomic_add(counts + BINS + fine, 1, mask=between & (place_in // BINS == first), sem="relaxed")
        tl.atomic_add(counts + 2 * BINS + fine, 1, mask=between & (place_in // BINS == second), sem="relaxed")
    else:
        tl.atomic_add(counts + place_in // BINS, 1, mask=between, sem="relaxed")
        below = seen & (bits < ONE)
        above = seen & (bits >= ONE_AND_HALF) & (bits <= INFINITE)
        add(counts + BELOW, below)
        add(counts + BETWEEN, between)
        add(counts + NAN, seen & (bits > INFINITE))
        largest(counts + LARGEST, tl.where(below, bits, 0))
        # A distance, so that all counts begin as zeros.
        largest(counts + SMALLEST, tl.where(above, INFINITE - bits, 0))


@triton.jit
def add(total, mask):
    """Add how many of a tile are meant: one atomic operation."""
    tl.atomic_add(total, tl.sum(tl.ravel(mask.to(tl.int32)), 0), sem="relaxed")


@triton.jit
def largest(so_far, values):
    """Keep the largest of a tile: one atomic operation."""
    tl.atomic_max(so_far, tl.max(tl.ravel(values), 0), sem="relaxed")


@triton.jit
def ranks(size):
    """The two ranks from 0 that the quantile of `size` numbers lies between, and how far it lies above the first."""
    rank = tl.full((), 0.995, tl.float64) * (size - 1).to(tl.float64)
    low = rank.to(tl.int32)
    part = rank - low.to(tl.float64)
    return low, tl.where(part > 0, low + 1, low), part


@triton.jit(do_not_specialize=["size"])
def find(counts, size):
    """A program for each picture of `size` numbers: the coarse bins of both ranks."""
    counts += tl.program_id(0) * COUNTS
    low, high, _ = ranks(size)
    below = tl.load(counts + BELOW)
    between = tl.load(counts + BETWEEN)
    coarse = tl.load(counts + tl.arange(0, BINS))
    find_bin(counts + TARGET, coarse, low - below, between)
    find_bin(counts + TARGET + 1, coarse, high - below, between)


@triton.jit
def find_bin(target, bins, rank, total):
    """Store the bin that holds a rank, and two places on the rank within that bin; -1 where none of `total` has it."""
    ends = tl.cumsum(bins, 0)
    before = ends <= rank
    found = (rank >= 0) & (rank < total)
    tl.store(target, tl.where(found, tl.sum(before.to(tl.int32), 0), -1))
    tl.store(target + 2, rank - tl.max(tl.where(before, ends, 0), 0))


@triton.jit(do_not_specialize=["size"])
def choose(counts, bounds, size):
    """A program for each picture: both numbers, their interpolation in float64, the clamp; then clear the counts."""
    image = tl.program_id(0)
    counts += image * COUNTS
    low, high, part = ranks(size)
    first = number(counts, low, 0)
    second = number(counts, high, 1)
    quantile = first + (second - first) * part
    bound = tl.minimum(tl.maximum(quantile, 1.0), 1.5).to(tl.float32)
    nan = tl.load(counts + NAN)
    bound = tl.where(high >= size - nan, float("nan"), bound)
    tl.store(bounds + image, bound)
    # Nothing above may read what is cleared below.
    tl.debug_barrier()
    cleared = tl.arange(0, 4 * BINS)
    tl.store(counts + cleared, tl.zeros((4 * BINS,), tl.int32), mask=cleared < COUNTS)


@triton.jit
def number(counts, rank, WHICH: tl.constexpr):
    """The number of a rank, float64. Below 1 and from 1.5 on only the nearest to that range is known, and needed."""
    below = tl.load(counts + BELOW)
    coarse = tl.load(counts + TARGET + WHICH)
    within = tl.load(counts + TARGET + 2 + WHICH)
    fine = tl.load(counts + (1 + WHICH) * BINS + tl.arange(0, BINS))
    lower = tl.sum((tl.cumsum(fine, 0) <= within).to(tl.int32), 0)
    # The difference of two infinities would be NaN; the largest finite number is far beyond the bounds too.
    above = tl.minimum(INFINITE - tl.load(counts + SMALLEST), LARGEST_FLOAT)
    outside = tl.where(rank < below, tl.load(counts + LARGEST), above)
    bits = tl.where(coarse >= 0, ONE + coarse * BINS + lower, outside)
    return bits.to(tl.float32, bitcast=True).to(tl.float64)


def threshold(
    x: Tensor,
    mu: Tensor,
    output: Tensor,
    records: Tensor,
    counts: Tensor,
    bounds: Tensor,
    index: int,
    size: tuple[int, int],
) -> None:
    """The threshold of each picture for one row: the 0.995 quantile of |q0| over its pixels, within [1, 1.5].

    Args:
        x, mu, output, records, index, size: as in `step`; all of them are only read.
        counts: int32, from `workspace`; zero before the first call and after every one.
        bounds: (N,) float32, written; NaN where the quantile is.

    The quantile is interpolated linearly between two ranks, as `update.threshold` does, bit for bit. Four launches on
    the current stream; nothing waits for them.

    Raises:
        ValueError: for an array of another shape, type or layout, or arrays that overlap.
    """
    for launch in launches(x, mu, output, records, counts, bounds, index, size):
        launch.run()


def launches(
    x: Tensor,
    mu: Tensor,
    output: Tensor,
    records: Tensor,
    counts: Tensor,
    bounds: Tensor,
    index: int,
    size: tuple[int, int],
) -> list[Launch]:
    """`threshold`, checked and ready to run, one after the other."""
    geometry = Geometry.of(x, size)
    check_dense("counts", counts, workspace(geometry.images), ("torch.int32",), x.device)
    channels_last = check_step(geometry, x, mu, output, None, records, None, bounds, index, counts=counts)
    arrays = (x, mu, output, records, counts)
    group = WIDE_BYTES // output.element_size()
    if channels_last and geometry.channels == 3 and geometry.padded_width % group == 0 and is_wide(x, mu, output):
        # Larger tiles than elsewhere: each adds to a few numbers that all tiles of a picture share.
        shape = Shape.of_pictures(geometry, group, each=4, warps=4)
        numbers = (index, geometry.height, geometry.width, shape.runs, geometry.padded_height)
        counting = Launch(count_pixels, shape.grid, (*arrays, *numbers), dict(shape.constants), shape.warps)
    else:
        counting = launch_of_planes(count_planes, geometry, channels_last, output, *arrays, index)

    def counted(fine: bool) -> Launch:
        c = counting
        return Launch(c.kernel, c.grid, c.arguments, {"FINE": fine, **c.constants}, c.warps)

    count = geometry.channels * geometry.height * geometry.width
    each = (geometry.images, 1)
    return [
        counted(fine=False),
        Launch(find, each, (counts, count), {}, 4),
        counted(fine=True),
        Launch(choose, each, (counts, bounds, count), {}, 4),
    ]


def workspace(images: int) -> tuple[int, int]:
    """Shape of the int32 counts that `threshold` needs for a batch; they must be zero before its first call."""
    return images, COUNTS.value
