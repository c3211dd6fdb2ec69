"""Pictures made to fit what looks at the whole of them: the specification, in NumPy.

Bicubic resampling with a = -0.5 whose support grows with the scale, as Pillow's: R. Keys, Cubic convolution
interpolation for digital image processing, 1981; Pillow's documentation, Concepts, Filters, and what its resize gives,
which tests compare. Columns first, then rows.

CLIP's pictures are in 256 levels: whole numbers in both passes, rounded after each, so that they are Pillow's bit for
bit. Others are float32 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.update import F32, Pixels

I32 = NDArray[np.int32]
# Both sides are scaled to the same; or the short one, and the middle is cut out.
STRETCH, CLIP = "stretch", "clip"
# Of a picture that is this many times as long as it is wide only the middle is seen, and its ends are cut off first:
# the whole of it, scaled until its short side fits, could be of any size.
LONGEST = 16
# Keys' parameter, and on how many pixels of the smaller picture to each side the filter reaches.
SHARPNESS, REACH = -0.5, 2.0
# Weights of levels are whole multiples of 2^-22: 255 of them, overshoot included, stay below 2^31.
BITS = 22


class Taps(NamedTuple):
    """Lines of a scaled picture as sums of lines of the picture, along one axis.

    Attributes:
        first: (M,) int32, the first of the lines that each is a sum of.
        weights: (K, M), of it and of those that follow; int32 in units of 2^-22 for levels, float32 otherwise.
    """

    first: I32
    weights: NDArray[np.generic]


@dataclass(frozen=True)
class Fit:
    """How a picture is made to fit.

    Attributes:
        levels: whether in 256 levels.
        top: the first row that is read.
        height: how many are.
        columns: of the picture's.
        rows: of those that are read.
    """

    levels: bool
    top: int
    height: int
    columns: Taps
    rows: Taps

    @property
    def side(self) -> int:
        """Of what is made."""
        return len(self.columns.first)


class Axis(NamedTuple):
    """Along one axis: of `begin` to `end` of a picture `scaled` lines are made, and those from `first` on are kept."""

    begin: int
    end: int
    scaled: int
    first: int


def axes(height: int, width: int, side: int, resize: str) -> tuple[Axis, Axis]:
    """Of the rows and of the columns of a picture that is made to fit `side` x `side`.

    Args:
        height, width: of the picture.
        side: of what is made of it.
        resize: `stretch`, or `clip` for the middle of what is scaled until its short side fits.
    """
    if resize != CLIP:
        return Axis(0, height, side, 0), Axis(0, width, side, 0)
    shortest = min(height, width)
    made = []
    for size in (height, width):
        begin, end = max(0, (size - LONGEST * shortest) // 2), min(size, (size + LONGEST * shortest) // 2)
        scaled = side * (end - begin) // shortest
        # Of an odd margin the half goes to the even number, as CLIP's code cuts.
        made.append(Axis(begin, end, scaled, round((scaled - side) / 2)))
    return made[0], made[1]


def fit_of(height: int, width: int, side: int, resize: str) -> Fit:
    """What `scale` needs to know for pictures of a size; see `axes`."""
    down, across = axes(height, width, side, resize)
    levels = resize == CLIP
    rows, columns = _taps(down, side, levels), _taps(across, side, levels)
    top = int(rows.first.min())
    count = int(rows.first.max()) + len(rows.weights) - top
    return Fit(levels, top, count, columns, Taps(rows.first - np.int32(top), rows.weights))


def scale(picture: Pixels, fit: Fit) -> F32:
    """A picture made to fit, (C, side, side) float32 in [0, 1].

    Args:
        picture: (H, W, C), uint8, or float32 in [0, 1].
        fit: for H x W.
    """
    seen = _converted(picture[fit.top : fit.top + fit.height].transpose(2, 0, 1), fit.levels)
    lines = _rounded(_sums(seen, fit.columns), fit.levels)
    made = _rounded(_sums(lines.transpose(0, 2, 1), fit.rows).transpose(0, 2, 1), fit.levels)
    if fit.levels:
        return made.astype(np.float32) / np.float32(255)
    return np.clip(made, np.float32(0), np.float32(1))


def _converted(planes: Pixels, levels: bool) -> NDArray[np.generic]:
    """In levels, rounded down as the published code rounds; or in [0, 1]."""
    if planes.dtype == np.uint8:
        return planes if levels else planes.astype(np.float32) / np.float32(255)
    return (np.clip(planes, 0, 1) * np.float32(255)).astype(np.uint8) if levels else planes


def _sums(values: NDArray[np.generic], taps: Taps) -> NDArray[np.generic]:
    """Along the last axis, in the order of the lines."""
    total = np.zeros((*values.shape[:-1], len(taps.first)), taps.weights.dtype)
    for k, weights in enumerate(taps.weights):
        total += weights * values[..., taps.first + k].astype(weights.dtype)
    return total


def _rounded(sums: NDArray[np.generic], levels: bool) -> NDArray[np.generic]:
    if not levels:
        return sums
    return np.clip((sums.astype(np.int32) + np.int32(1 << BITS - 1)) >> BITS, 0, 255).astype(np.uint8)


def _taps(axis: Axis, count: int, levels: bool) -> Taps:
    """For `count` lines of those that an axis is scaled to."""
    length = axis.end - axis.begin
    scale = length / axis.scaled
    # Where a picture grows, the filter is that of its own pixels.
    stretch = max(scale, 1.0)
    centre = (axis.first + np.arange(count) + 0.5) * scale
    first = np.maximum((centre - REACH * stretch + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + REACH * stretch + 0.5).astype(np.int64), length)
    taps = int((last - first).max())
    # No line beyond the last one is read: it would have no weight.
    begin = np.minimum(first, length - taps)
    place = begin + np.arange(taps)[:, None]
    weights = np.where((place >= first) & (place < last), _cubic((place - centre + 0.5) / stretch), 0.0)
    weights /= weights.sum(axis=0)
    kept = np.round(weights * (1 << BITS)).astype(np.int32) if levels else weights.astype(np.float32)
    return Taps((axis.begin + begin).astype(np.int32), np.ascontiguousarray(kept))


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' filter."""
    x, a = np.abs(distance), SHARPNESS
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
