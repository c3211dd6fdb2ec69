"""How long a pixel takes in pictures of several sizes, and into which tiles that and the memory cut a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from mrs.runtime.padding import padded_size

# What cutting must save to be worth that the network sees less of the picture, and the least sides of tiles that are
# made for speed alone: what those cost in quality stands in docs/runtime.md.
GAIN, FASTEST = 0.05, 384
# What a smaller tile must save to be taken instead of a larger one.
SLIGHT = 0.01
# Sides of tiles that memory asks for go down to this part of the largest, in steps of at least so many pixels where
# they are large: each has a network of its own.
PART, STEP = 0.6, 16


class Pace:
    """Time by size of picture: a large one leaves the processor's caches.

    Args:
        points: sides of square pictures, ascending, and the time of a pixel in one evaluation, in any unit. Between
            them it is interpolated, beyond them constant; without any all sizes are alike.
    """

    def __init__(self, points: Sequence[tuple[int, float]] = ()) -> None:
        self._sides = np.log([side for side, _ in points])
        self._times = np.array([each for _, each in points])

    def __bool__(self) -> bool:
        return len(self._times) > 1

    def of(self, pixels: int) -> float:
        """Time of so many pixels, evaluated at once."""
        return pixels * (float(np.interp(math.log(pixels) / 2, self._sides, self._times)) if self else 1.0)


def best_tile(size: tuple[int, int, int], multiple: int, pixels: int, pace: Pace) -> int | None:
    """Side of the square tiles that restore pictures in the least time; None for whole pictures.

    Args:
        size: (N, H, W).
        multiple: to which the network pads sides.
        pixels: that memory holds at once, padded, of all pictures together.
        pace: time by size.
    """
    count, height, width = size
    whole = count * math.prod(padded_size(height, width, multiple))
    fits = whole <= pixels
    best, least = None, (1 - GAIN) * pace.of(whole) if fits else math.inf
    for side in _sides(max(1, pixels // count), multiple, max(height, width), fits, pace):
        part = count * math.prod(padded_size(min(side, height), min(side, width), multiple))
        cost = math.prod(tiles_along(length, side, default_overlap(side)) for length in (height, width)) * pace.of(part)
        if cost < (1 - SLIGHT) * least:
            best, least = side, cost
    # Where not even the network's own step fits, nothing smaller does.
    return None if best is None or (height <= best and width <= best) else best


def _sides(pixels: int, multiple: int, longest: int, fits: bool, pace: Pace) -> Iterator[int]:
    """Sides to choose from, the largest first."""
    largest = max(multiple, math.isqrt(pixels) // multiple * multiple)
    step = multiple * (1 if largest < 16 * STEP else math.ceil(STEP / multiple))
    part = math.ceil(PART * largest)
    smallest = FASTEST if fits else min(FASTEST, part) if pace else part
    if not fits:
        yield largest
    top = min(largest, longest) // step * step
    yield from range(top, max(smallest, multiple) - 1, -step)


def default_overlap(tile: int) -> int:
    """An eighth of the tile, between 1 and 64 pixels: enough to hide seams without much double work."""
    return min(64, tile // 2, max(1, tile // 8))


def tiles_along(length: int, tile: int, overlap: int) -> int:
    """How many tiles cover a side."""
    return 1 if length <= tile else math.ceil((length - overlap) / (tile - overlap))


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side."""
    count = tiles_along(length, tile, overlap)
    if count == 1:
        return [0]
    # Spread evenly instead of pushing the last tile back, so that every overlap is at least the one asked for.
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def crossings(pace: Pace, multiple: int) -> list[tuple[int, int]]:
    """Sides of squares that are restored in tiles for speed alone, and of their tiles, for whoever reads a plan."""
    found = ((side, best_tile((1, side, side), multiple, 1 << 40, pace)) for side in (512, 768, 1024, 1536, 2048, 4096))
    return [(side, tile) for side, tile in found if tile is not None]
