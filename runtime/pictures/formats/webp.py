"""WebP files: chunks are walked, and the canvas is measured, before libwebp makes it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL import WebPImagePlugin

from mrs.runtime.pictures.formats.loaded import ALPHA, RESULT, STORED, Loaded, check_mode, refuse_frames
from mrs.runtime.pictures.limits import Budget

_ANIMATION = 0x02  # of the flags in VP8X
# Bytes for each pixel besides the decoded picture and the result: the canvas, and its copy for Python. A second canvas,
# for animations, is never touched.
_CANVASES = 8


def size(file: BinaryIO, budget: Budget) -> tuple[int, int]:
    """(width, height) by the header of a file that is at its beginning."""
    _, found = _canvas(file, budget)
    return found


def load(file: BinaryIO, budget: Budget) -> Loaded:
    """Decode a file that is at its beginning.

    Raises:
        PictureError: where it exceeds its budget, or is of a kind that cannot be restored without loss.
        Exception: of any kind, where it is damaged or cut short.
    """
    lossless, (width, height) = _canvas(file, budget)
    budget.check_size(width, height)
    # Pillow and libwebp each have the file.
    budget.check_memory(width, height, _CANVASES + STORED["RGBA"] + RESULT + ALPHA, more=2 * budget.length)
    file.seek(0)
    image = WebPImagePlugin.WebPImageFile(file)
    if image.is_animated:
        raise refuse_frames(budget.path)
    check_mode(budget.path, image.mode)
    image.load()
    return Loaded(image, lossless=lossless)


def _canvas(file: BinaryIO, budget: Budget) -> tuple[bool, tuple[int, int]]:
    """Whether the pixels are lossless, and (width, height) of the canvas."""
    canvas = None
    for name, start in _chunks(file, budget):
        if name == b"VP8X":
            flags = start[0]
            canvas = tuple(1 + int.from_bytes(start[i : i + 3], "little") for i in (4, 7))
            if flags & _ANIMATION:
                raise refuse_frames(budget.path)
        elif name == b"VP8L":
            (bits,) = struct.unpack_from("<I", start, 1)
            return True, _within(canvas, (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)))
        elif name == b"VP8 ":
            width, height = struct.unpack_from("<HH", start, 6)
            return False, _within(canvas, (width & 0x3FFF, height & 0x3FFF))
    raise ValueError("it holds no pixels")


def _chunks(file: BinaryIO, budget: Budget) -> Iterator[tuple[bytes, bytes]]:
    """Name and first bytes of each chunk."""
    position, count = 12, 0
    while True:
        file.seek(position)
        header = file.read(18)
        if len(header) < 18:
            return
        count += 1
        budget.check_parts(count, "chunks")
        name, length = struct.unpack_from("<4sI", header)
        yield name, header[8:]
        position += 8 + length + length % 2


def _within(canvas: tuple[int, ...] | None, frame: tuple[int, int]) -> tuple[int, int]:
    if canvas is not None and tuple(canvas) != frame:
        raise ValueError(f"its canvas is {canvas[0]}x{canvas[1]}, its pixels are {frame[0]}x{frame[1]}")
    return frame
