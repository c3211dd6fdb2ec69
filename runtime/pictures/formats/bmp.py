"""BMP files; runs of equal pixels are decoded here, because Pillow needs seconds for each million of them."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from PIL import BmpImagePlugin, ImageFile

from mrs.runtime.pictures.formats.loaded import ALPHA, RESULT, STORED, Loaded, check_mode
from mrs.runtime.pictures.limits import Budget

SIGNATURE = b"BM"
HEADERS = (12, 40, 52, 56, 64, 108, 124)
"""Lengths of the headers that exist."""

_LONGEST_RUN = 255
_EMBEDDED = b"DEBM"  # the colour space "profile embedded" of the longest header
_WITH_PROFILE = 124


def size(file: BinaryIO, _: Budget) -> tuple[int, int]:
    """(width, height) by the header of a file that is at its beginning."""
    width, height = BmpImagePlugin.BmpImageFile(file).size
    return width, height


def load(file: BinaryIO, budget: Budget) -> Loaded:
    """Decode a file that is at its beginning.

    Raises:
        PictureError: where it exceeds its budget, or is of a kind that cannot be restored without loss.
        Exception: of any kind, where it is damaged or cut short.
    """
    image = BmpImagePlugin.BmpImageFile(file)
    width, height = image.size
    budget.check_size(width, height)
    check_mode(budget.path, image.mode)
    decoder, extents, offset, args = image.tile[0]
    assert isinstance(args, tuple)
    runs, direction = decoder == "bmp_rle", args[-1]
    length = budget.length - offset
    if runs:
        needed = 2 * -(-width // _LONGEST_RUN) * height + 2 * (height - 1)
    else:
        needed = args[1] * (height - 1) + 1
    if length < needed:
        raise ValueError(f"cut short: {max(0, length)} bytes cannot hold {width}x{height} pixels")
    result = RESULT + ALPHA * (image.mode == "RGBA")
    # Runs are unpacked beside their file before Pillow gets them.
    budget.check_memory(width, height, STORED[image.mode] + max(result, 1 + runs), more=runs * length)
    if runs:
        file.seek(offset)
        levels = unpacked(file.read(), width, height, half=args[1])
        raw_mode = "L" if image.mode in ("1", "L") else "P"
        image.fp = io.BytesIO(levels)
        image.tile = [ImageFile._Tile("raw", extents, 0, (raw_mode, 0, direction))]
    image.load()
    return Loaded(image, icc=_profile(file))


def unpacked(data: bytes, width: int, height: int, half: bool) -> bytes:
    """The pixels, a byte each, of runs of bytes or, with `half`, of half bytes.

    Raises:
        ValueError: where the runs leave pixels out, which then have no defined colour, or end early.
    """
    out = bytearray()
    position = rows = 0
    while len(out) < width * height:
        if position + 2 > len(data):
            raise ValueError(f"cut short: it holds {rows} of {height} rows")
        count, value = data[position], data[position + 1]
        position += 2
        left = (rows + 1) * width - len(out)  # in this row
        if not count and not value and not left:
            rows += 1  # whose end it is
            continue
        if not left:
            raise ValueError(f"its row {rows} of {height} is longer than {width} pixels")
        if count:
            run = bytes((value >> 4, value & 15)) * (count // 2 + 1) if half else bytes((value,)) * count
        elif value > 2:
            count, stored = value, (value + 1) // 2 if half else value
            run = data[position : position + stored]
            if len(run) < stored:
                raise ValueError(f"cut short: it holds {rows} of {height} rows")
            if half:
                run = bytes(level for pair in run for level in (pair >> 4, pair & 15))
            position += stored + stored % 2
        else:
            # The end of a row or of all rows, or a jump. Cutting a file short can look like this, too.
            raise ValueError(f"cut short: its run-length code leaves out pixels of row {rows} of {height}")
        # What is beyond the end of the row is cut off, as other readers do.
        out += run[: min(count, left)]
    return bytes(out)


def _profile(file: BinaryIO) -> bytes | None:
    """The profile that the longest kind of header may have behind the pixels."""
    file.seek(14)
    header = file.read(_WITH_PROFILE)
    if len(header) < _WITH_PROFILE or header[:4] != struct.pack("<I", _WITH_PROFILE) or header[56:60] != _EMBEDDED:
        return None
    offset, length = struct.unpack_from("<II", header, 112)
    file.seek(14 + offset)
    return file.read(length)
