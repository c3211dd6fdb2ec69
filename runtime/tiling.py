"""Cutting a picture into overlapping tiles of one size, and the weights with which they are blended."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mrs.runtime.errors import InputError


def tile_size(height: int, width: int, multiple: int, pixels: int) -> int | None:
    """Side of the square tiles in which a picture fits a budget of `pixels` per tile; None where it fits whole."""
    if _up(height, multiple) * _up(width, multiple) <= pixels:
        return None
    side = max(multiple, math.isqrt(pixels) // multiple * multiple)
    return None if height <= side and width <= side else side


def default_overlap(tile: int) -> int:
    """An eighth of the tile, between 1 and 64 pixels: enough to hide seams without much double work."""
    return min(64, tile // 2, max(1, tile // 8))


def check_tiles(tile: int, overlap: int, multiple: int) -> None:
    """Refuse tiles that cannot be.

    Raises:
        InputError: naming the number that is wrong.
    """
    if tile < multiple or tile % multiple:
        raise InputError(
            f"tile {tile} is not a positive multiple of {multiple}", hint=f"this network takes steps of {multiple}"
        )
    if not 0 <= overlap <= tile // 2:
        raise InputError(f"overlap {overlap} is outside 0..{tile // 2}", hint="it is at most half of the tile")


def tiles(height: int, width: int, tile: int, overlap: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each tile. All have one size: the tile's, or the picture's where that is smaller."""
    for y in _starts(height, tile, overlap):
        for x in _starts(width, tile, overlap):
            yield slice(y, y + min(tile, height)), slice(x, x + min(tile, width))


def blend_weights(length: int, tile: slice, overlap: int) -> NDArray[np.float32]:
    """Weights of one tile along one axis of `length` pixels: ramps over the overlap, flat at the picture's border."""
    size = tile.stop - tile.start
    weights = np.ones(size, np.float32)
    ramp = np.arange(1, overlap + 1, dtype=np.float32) / np.float32(overlap + 1)
    if tile.start > 0:
        weights[:overlap] = ramp
    if tile.stop < length:
        weights[size - overlap :] = np.minimum(weights[size - overlap :], ramp[::-1])
    return weights


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    if length <= tile:
        return [0]
    # Spread evenly instead of pushing the last tile back, so that every overlap is at least the one asked for.
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
