"""What `step`, `finish` and `threshold` share inside: where a program works, and one table row on a tile of a plane.

A program works on a tile of GROUPS runs of GROUP pixels each, (GROUPS, GROUP), of one plane or of the three planes of
a picture. A run never crosses a line of the picture. Where the width is a multiple of GROUP (EXACT) the runs follow one
another in memory without a gap, and every access is 16 bytes wide.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mrs.kernels.gpu.noise import normals


@triton.jit
def place(tile, runs, padded_height, padded_width, GROUPS: tl.constexpr, GROUP: tl.constexpr, EXACT: tl.constexpr):
    """Where the runs of a tile lie.

    Args:
        tile: number of the tile in its plane.
        runs: runs in a line.
        padded_height, padded_width: lines and columns of a plane in memory: the picture's, padded to the network's
            multiple.

    Returns:
        row, column (GROUPS, 1) of each run's first pixel; offset (GROUPS, GROUP) of each pixel in a plane; mask of the
        pixels that are there.
    """
    run = (tile * GROUPS + tl.arange(0, GROUPS))[:, None]
    within = tl.arange(0, GROUP)[None, :]
    row = run // runs
    column = (run - row * runs) * GROUP
    if EXACT:
        offset = run * GROUP + within
        mask = run < padded_height * runs
    else:
        offset = row * padded_width + column + within
        mask = (run < padded_height * runs) & (column + within < padded_width)
    return row, column, offset, mask


@triton.jit
def in_picture(row, column, height, width, GROUP: tl.constexpr):
    """Whether each pixel of a tile belongs to the picture, not to its padding."""
    return (row < height) & (column + tl.arange(0, GROUP)[None, :] < width)


@triton.jit
def weight(records, draw, FIELD: tl.constexpr):
    """One number of a record. Every program reads it, hence the cache's hint, by which reports tell it from pixels."""
    return tl.load(records + draw * 16 + FIELD, eviction_policy="evict_last")


@triton.jit
def predict(x, mu, f, records, draw):
    """q0 = cx x + cm mu + cf f."""
    return weight(records, draw, 0) * x + weight(records, draw, 1) * mu + weight(records, draw, 2) * f


@triton.jit
def older(history, slot, slots, size, at, mask, factor):
    """A tile of an older prediction; where the factor that it will have is 0, nothing is read and it is 0."""
    # The remainder of a negative number would be negative.
    start = ((slot + 3 * slots) % slots).to(tl.int64) * size
    wanted = tl.broadcast_to(factor, mask.shape) != 0.0
    return tl.load(history + start + at, mask=mask & wanted, other=0.0)


@triton.jit
def advance(
    x_pointer, mu_pointer, history, records, key, bounds,
    f, at, mask, size, index, slots, image, channel, row, column,
    GROUP: tl.constexpr,
):  # fmt: skip
    """One table row on a tile of one plane: (x', mu, q0), float32.

    `at` are offsets from the first element of a state, of `size` elements; f the network's output there, as float32.
    """
    draw = index + 1
    b1, b2, b3 = weight(records, draw, 6), weight(records, draw, 7), weight(records, draw, 8)
    n, m = weight(records, draw, 9), weight(records, draw, 10)
    clamp = weight(records, draw, 11)
    x = tl.load(x_pointer + at, mask=mask, other=0.0)
    mu = tl.load(mu_pointer + at, mask=mask, other=0.0)
    q1 = older(history, index - 1, slots, size, at, mask, tl.abs(b1) + tl.abs(m))
    q2 = older(history, index - 2, slots, size, at, mask, b2)
    q3 = older(history, index - 3, slots, size, at, mask, b3)
    q0 = predict(x, mu, f, records, draw)
    # Comparisons written so that NaN stays NaN.
    if clamp == 1.0:
        q0 = tl.where(q0 < 0.0, 0.0, tl.where(q0 > 1.0, 1.0, q0))
    if clamp == 2.0:
        # Where nobody computed it x stands in its place: NaN is found at the end, a guess would not be. A missing
        # argument would mean a second kernel.
        given = bounds.to(tl.int64) != x_pointer.to(tl.int64)
        bound = tl.load(bounds + image, mask=given, other=float("nan"), eviction_policy="evict_last")
        q0 = tl.div_rn(tl.where(q0 < -bound, -bound, tl.where(q0 > bound, bound, q0)), bound)
    if m != 0.0:
        q0 += m * (q1 - q0)
    total = weight(records, draw, 3) * x + weight(records, draw, 4) * mu + weight(records, draw, 5) * q0
    # One at a time, in the order of kernels/update.py; a weight of 0 adds 0.
    total += b1 * q1
    total += b2 * q2
    total += b3 * q3
    if n != 0.0:
        total += n * normals(key, draw, image, channel, row, column, GROUP)
    return total, mu, q0
