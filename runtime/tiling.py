"""Pictures larger than the memory: overlapping tiles of one size, blended, and smaller ones where memory still ends."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrs.runtime.errors import DeviceMemoryError, InputError
from mrs.runtime.pace import Pace, best_tile, default_overlap, starts
from mrs.runtime.padding import padded_size
from mrs.runtime.pictures_in import dtype_of
from mrs.runtime.request import Request
from mrs.runtime.tracing import timed

if TYPE_CHECKING:
    from mrs.kernels.update import Pixels
    from mrs.runtime.worker import Worker

log = logging.getLogger("mrs")


class Budget:
    """How many pixels a network is given at once: what memory holds, and less from when it turned out to hold less.

    Args:
        pixels: of all pictures of a batch together, padded.
        multiple: to which the network pads heights and widths.
        whole: whether pictures are never cut, because latents are made of all of a picture.
        pace: time by size of picture, which may cut what memory would hold.
    """

    def __init__(self, pixels: int, multiple: int, whole: bool = False, pace: Pace = Pace()) -> None:  # noqa: B008
        self.pixels, self.multiple, self.whole, self.pace = pixels, multiple, whole, pace

    def tile(self, size: tuple[int, ...], request: Request) -> int | None:
        """Side of the tiles for pictures (N, H, W); None for whole pictures at once.

        Raises:
            InputError: for tiles that cannot be, and for pictures that exceed the memory and are never cut.
        """
        count, height, width = size
        if self.whole:
            check_whole_picture(request.tile)
        if request.tile is None:
            fits = count * math.prod(padded_size(height, width, self.multiple)) <= self.pixels
            if self.whole:
                if fits:
                    return None
                raise InputError(
                    f"{height}x{width} exceeds the memory for one pass, and latents are not made of tiles",
                    hint="give more memory, or smaller pictures",
                )
            side = best_tile((count, height, width), self.multiple, self.pixels, self.pace)
            if side is not None and fits:
                log.info("%dx%d is faster in tiles of %d", height, width, side)
            elif side is not None:
                log.warning("%dx%d exceeds the memory for one pass: restoring in tiles of %d", height, width, side)
            return side
        if request.tile == 0:
            return None
        check_tiles(request.tile, _overlap(request.tile, request), self.multiple)
        return None if height <= request.tile and width <= request.tile else request.tile

    def warm_tile(self, size: tuple[int, int, int]) -> int | None:
        """`tile`, where memory decides, of pictures (N, H, W) that are not there: their batch may exceed all memory.

        Raises:
            InputError: where even the smallest tiles of so many pictures exceed the memory for one pass, or pictures
                do that are never cut.
        """
        side = self.tile(size, Request())
        if side is not None and size[0] > 1 and size[0] * side**2 > self.pixels:
            raise InputError(
                f"{size[0]} pictures at once exceed the memory for one pass, even in tiles of {side}",
                hint="give more memory, or smaller batches",
            )
        return side

    def smaller(self, size: tuple[int, ...], error: DeviceMemoryError) -> int:
        """Side of tiles of a quarter of what did not fit, (N, H, W); from now on no more is tried at once.

        Raises:
            DeviceMemoryError: where nothing smaller is left, and for pictures that are never cut.
        """
        count, height, width = size
        side = min(height, width) // 2 // self.multiple * self.multiple
        if side == 0 or self.whole:
            raise error
        self.pixels = min(self.pixels, count * side * side)
        log.warning("%s: restoring in tiles of %d", error.message, side)
        return side


def capture_ahead(workers: Sequence[Worker], shape: Sequence[int], budget: Budget, dtypes: tuple[str, str]) -> None:
    """What cannot be captured is told now, not at the first picture; that pictures of this size do not fit, too."""
    count, height, width = shape
    while True:
        try:
            for worker in workers:
                worker.chain((count, height, width), dtypes)
            return
        except DeviceMemoryError as error:
            if budget.whole:
                # Smaller ones may.
                log.warning("%s", error)
                return
            height = width = budget.smaller((count, height, width), error)


def restore_within(budget: Budget, worker: Worker, pictures: Pixels, out: Pixels, request: Request) -> None:
    """Restore pictures at once or in tiles, smaller ones where memory ends, unless the caller has said which.

    Args:
        budget: what memory holds.
        worker: restores.
        pictures: dense (N, H, W, C), uint8 or float32.
        out: of this shape, dense, uint8 or float32; written.
        request: the call's.

    Raises:
        InputError: for tiles that cannot be.
        BackendError: where the engine fails.
        CancelledError: between two tiles, or on a CPU two evaluations.
    """
    count, height, width = size = pictures.shape[:3]
    tile = budget.tile(size, request)
    while True:
        try:
            if tile is None:
                chain = worker.chain((count, height, width), (dtype_of(pictures), dtype_of(out)))
                chain.restore_into(pictures, out, request.seed, before=request.between())
            else:
                _restore_tiles(worker, pictures, out, tile, request, budget.multiple)
            return
        except DeviceMemoryError as error:
            if request.tile == 0 or (tile is not None and request.tile is not None):
                raise
            tile = budget.smaller(size if tile is None else (count, tile, tile), error)


def _restore_tiles(worker: Worker, pictures: Pixels, out: Pixels, tile: int, request: Request, multiple: int) -> None:
    overlap = _overlap(tile, request)
    check_tiles(tile, overlap, multiple)
    count, height, width, channels = pictures.shape
    total = np.zeros((count, height, width, channels), np.float32)
    weight = np.zeros((height, width, 1), np.float32)
    restored, before = None, request.between()
    # Every tile is told of the whole picture.
    context = None if worker.condition is None else timed("conditioner", worker.condition)(pictures)
    for rows, columns in tiles(height, width, tile, overlap):
        part = np.ascontiguousarray(pictures[:, rows, columns])
        restored = np.empty(part.shape, np.float32) if restored is None else restored
        request.check()
        chain = worker.chain(part.shape[:3], (dtype_of(part), "float32"))
        chain.restore_into(part, restored, request.seed, (rows.start, columns.start), context, before)
        blend = np.outer(blend_weights(height, rows, overlap), blend_weights(width, columns, overlap))[:, :, None]
        total[:, rows, columns] += blend * restored
        weight[rows, columns] += blend
    for k in range(count):
        # A band at a time: a second picture of floats would not fit beside a very large one.
        for y in range(0, height, tile):
            band = total[k, y : y + tile] / weight[y : y + tile]
            out[k, y : y + tile] = np.rint(band * np.float32(255)) if out.dtype == np.uint8 else band


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


def check_whole_picture(tile: int | None) -> None:
    """Refuse tiles for pictures that are never cut.

    Raises:
        InputError: where tiles of any side are asked for.
    """
    if tile:
        raise InputError("latents are made of whole pictures, not of tiles", hint="leave the tile out")


def tiles(height: int, width: int, tile: int, overlap: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each tile. All have one size: the tile's, or the picture's where that is smaller."""
    for y in starts(height, tile, overlap):
        for x in starts(width, tile, overlap):
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


def _overlap(tile: int, request: Request) -> int:
    return default_overlap(tile) if request.overlap is None else request.overlap
