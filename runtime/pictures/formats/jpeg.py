"""JPEG files: frame and scans are told from their markers before Pillow decodes them.

Of a file with secondary pictures (camera previews, depth, gain maps) the primary one is read, as viewers do.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin

from mrs.runtime.errors import PictureError
from mrs.runtime.pictures.formats.loaded import RESULT, STORED, Loaded, check_mode
from mrs.runtime.pictures.limits import Budget

SIGNATURE = b"\xff\xd8\xff"

_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE, _ARITHMETIC, _LOSSLESS = (0xC2, 0xC6, 0xCA, 0xCE), range(0xC9, 0xD0), (0xC3, 0xC7, 0xCB, 0xCF)
_START_OF_SCAN, _END = 0xDA, 0xD9
# In pixels' data 0xff is followed by 0, or by one of the markers of a restart.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_HEADER = 1 << 20  # bytes in which most files name their size
_STORED = {1: STORED["L"], 3: STORED["RGB"], 4: STORED["CMYK"]}  # by components
_COEFFICIENT = 2  # bytes, of each that a decoder keeps from one scan to the next
# What an entropy decoder gives that has run out of data is mid-grey, 127 where levels are inverted; conversions round.
_NOTHING = range(126, 131)
# Data that is something else, whatever the codes mean.
_SOMETHING = bytes(range(1, 255)) * 2


@dataclass(frozen=True)
class _Frame:
    kind: int
    width: int
    height: int
    components: tuple[tuple[int, int, int], ...]  # identifier, horizontal and vertical sampling

    @property
    def several_scans(self) -> bool:
        """Whether pixels become known only after the last scan; others may be sent so too."""
        return self.kind in _PROGRESSIVE

    def blocks(self) -> int:
        """Of 8x8 coefficients, in all components."""
        right, down = (max(component[i] for component in self.components) for i in (1, 2))
        return sum(-(-self.width * x // (8 * right)) * -(-self.height * y // (8 * down)) for _, x, y in self.components)

    def fewest_bytes(self) -> int:
        """That all blocks can be coded in: a code has one bit at least, a block two codes unless more scans follow."""
        if self.kind in _ARITHMETIC or self.kind in _LOSSLESS:
            return 0
        return self.blocks() * (1 if self.several_scans else 2) // 8


def size(file: BinaryIO, budget: Budget) -> tuple[int, int]:
    """(width, height) by the header of a file that is at its beginning."""
    data = file.read(_HEADER)
    frame = _frame(data, budget) or _frame(data + file.read(), budget)
    if frame is None:
        raise ValueError("it holds no pixels")
    return frame.width, frame.height


def load(file: BinaryIO, budget: Budget) -> Loaded:
    """Decode a file that is at its beginning.

    Raises:
        PictureError: where it exceeds its budget, or is of a kind that cannot be restored without loss.
        Exception: of any kind, where it is damaged or cut short.
    """
    data = file.read()
    frame = _frame(data, budget)
    if frame is None:
        raise ValueError("it holds no pixels")
    budget.check_size(frame.width, frame.height)
    if frame.fewest_bytes() > len(data):
        raise ValueError(f"cut short: {len(data)} bytes cannot hold {frame.width}x{frame.height} pixels")
    scans = _scans(data, frame, budget)
    single = not frame.several_scans and len(scans) == 1
    stored = _STORED.get(len(frame.components), STORED["RGB"])
    coefficients = 0 if single else frame.blocks() * 64 * _COEFFICIENT
    # The result beside the decoded pixels, or, see below, two of these.
    per_pixel = stored + max(RESULT, stored if single else 0)
    budget.check_memory(frame.width, frame.height, per_pixel, coefficients + len(data))
    image = _opened(data)
    check_mode(budget.path, image.mode)
    image.load()
    if single and _ends_with_nothing(image):
        # It may be grey indeed: then what follows its last pixel changes nothing.
        (end,) = scans
        other = _opened(data[:end] + _SOMETHING + data[end:])
        other.load()
        if not _equal(image, other):
            raise ValueError("cut short: its data ends before its last pixels")
    return Loaded(image, lossless=False)


def check_piece(data: bytes, budget: Budget) -> None:
    """Check the JPEG data of a strip or a tile of another format.

    Raises:
        PictureError: where it is sent in more scans than it has components, which libtiff decodes one after another.
        ValueError: where it is damaged or cut short.
    """
    frame = _frame(data, budget)
    if frame is None or not data.rstrip(b"\0").endswith(bytes((0xFF, _END))):
        raise ValueError("cut short: its JPEG data has no end")
    if frame.several_scans or len(_scans(data, frame, budget)) > len(frame.components):
        raise PictureError(f"{budget.path} holds progressive JPEG data", hint="save it anew, as a plain TIFF")


def _opened(data: bytes) -> JpegImagePlugin.JpegImageFile:
    return JpegImagePlugin.JpegImageFile(io.BytesIO(data))


def _segments(data: bytes, budget: Budget) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of the content of each segment; data of pixels, and what is between segments, is passed."""
    position, count, in_scan = 2, 0, False
    while found := _MARKER.search(data, position):
        # Pillow passes what is between segments byte by byte.
        count += 1 if in_scan else 1 + found.start() - position
        budget.check_parts(count, "segments")
        marker, begin = found[1][0], found.end()
        in_scan = marker == _START_OF_SCAN
        if marker == _END:
            yield marker, found.start(), found.start()
            return
        if begin + 2 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, begin)
        position = begin + max(2, length)
        yield marker, begin + 2, position


def _frame(data: bytes, budget: Budget) -> _Frame | None:
    """The frame's header; None where there is none."""
    for marker, begin, end in _segments(data, budget):
        if marker in _FRAMES:
            _, height, width, count = struct.unpack_from(">BHHB", data, begin)
            if begin + 6 + 3 * count > min(end, len(data)) or count == 0:
                raise ValueError("its frame's header is damaged")
            parts = [data[at : at + 2] for at in range(begin + 6, begin + 6 + 3 * count, 3)]
            components = tuple((part[0], part[1] >> 4, part[1] & 15) for part in parts)
            if any(not (1 <= x <= 4 and 1 <= y <= 4) for _, x, y in components):
                raise ValueError("its components have impossible sampling factors")
            return _Frame(marker, width, height, components)
    return None


def _scans(data: bytes, frame: _Frame, budget: Budget) -> list[int]:
    """Where the data of each scan ends; a single scan of a frame that is complete with it is all there is.

    Raises:
        ValueError: where the scans together do not give all coefficients with all their bits.
    """
    ends: list[int] = []
    # By component and place, which several scans may refine.
    missing = {(name, place) for name, _, _ in frame.components for place in range(64)}
    in_scan = False
    for marker, begin, end in _segments(data, budget):
        if in_scan:
            ends.append(begin if marker == _END else begin - 4)
            budget.check_work(frame.width, frame.height, len(ends))
            if not missing and len(ends) == 1 and not frame.several_scans:
                break
        in_scan = marker == _START_OF_SCAN
        if in_scan and begin < end <= len(data):
            names = data[begin + 1 : begin + 1 + 2 * data[begin] : 2]
            first, last, bits = data[end - 3 : end] if frame.several_scans else (0, 63, 0)
            if not bits & 15:
                missing -= {(name, place) for name in names for place in range(first, last + 1)}
    else:
        if in_scan:
            ends.append(len(data))
    if missing:
        raise ValueError(f"cut short: it has {len(ends)} scans, which are not all")
    return ends


def _ends_with_nothing(image: Image.Image) -> bool:
    """Whether the last pixel looks like what is not there; colours may have come over from a neighbour."""
    right, bottom = image.width - 1, image.height - 1
    pixel = image.crop((right, bottom, right + 1, bottom + 1))
    levels = pixel.getchannel("K") if image.mode == "CMYK" else pixel.convert("L")
    return int(np.asarray(levels)[0, 0]) in _NOTHING


def _equal(one: Image.Image, other: Image.Image) -> bool:
    width, height = one.size
    rows = max(1, (1 << 20) // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(height, top + rows))
        if one.crop(box).tobytes() != other.crop(box).tobytes():
            return False
    return True
