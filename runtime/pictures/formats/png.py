"""PNG files: all chunks are walked once, which counts the pixels' bytes, before Pillow decodes them."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO

from PIL import PngImagePlugin

from mrs.runtime.errors import PictureError
from mrs.runtime.pictures.formats.loaded import ALPHA, DEEP_RESULT, RESULT, STORED, Loaded, check_mode, refuse_frames
from mrs.runtime.pictures.limits import Budget

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
"""Chunks that say what the samples mean, besides the profile that Pillow reads."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_GREY, _PALETTE, _WITH_ALPHA = 0, 3, (4, 6)
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced picture: first column and row, and the steps between them."""

_BLOCK = 1 << 20
_LONGEST_KEPT = 64  # of a colour chunk; the longest has 32 bytes
# Factors that take 2 and 4-bit grey to 0..255; Pillow applies them to the pixels, not to the transparent level.
_FULL_RANGE = {2: 85, 4: 17}


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    bits: int
    colour: int
    interlaced: bool

    @property
    def mode(self) -> str:
        """Pillow's."""
        if self.colour == _PALETTE:
            return "P"
        if self.colour == _GREY:
            return {1: "1", 16: "I;16"}.get(self.bits, "L")
        return {2: "RGB", 4: "LA", 6: "RGBA"}[self.colour]

    def length(self) -> int:
        """Bytes of the decompressed rows, each with one byte for its filter."""
        depth = self.bits * _CHANNELS[self.colour]
        total = 0
        for x, y, right, down in _PASSES if self.interlaced else ((0, 0, 1, 1),):
            columns, rows = -(-(self.width - x) // right), -(-(self.height - y) // down)
            if columns > 0 and rows > 0:
                total += rows * (1 + -(-columns * depth // 8))
        return total


@dataclass
class _Pixels:
    """Counts the bytes that the chunks of pixels hold, as far as there should be any."""

    expected: int
    length: int = 0  # of the chunks
    found: int = 0
    broken: bool = False
    inflater: zlib._Decompress = field(default_factory=zlib.decompressobj)

    def feed(self, data: bytes) -> None:
        self.length += len(data)
        try:
            while data and self.found < self.expected and not self.inflater.eof:
                self.found += len(self.inflater.decompress(data, _BLOCK))
                data = self.inflater.unconsumed_tail
        except zlib.error:
            self.broken = True


def size(file: BinaryIO, _: Budget) -> tuple[int, int]:
    """(width, height) by the header of a file that is at its beginning."""
    header = _header(file)
    return header.width, header.height


def load(file: BinaryIO, budget: Budget) -> Loaded:
    """Decode a file that is at its beginning.

    Raises:
        PictureError: where it exceeds its budget, or is of a kind that cannot be restored without loss.
        Exception: of any kind, where it is damaged or cut short.
    """
    header = _header(file)
    budget.check_size(header.width, header.height)
    # Enough to refuse most that is too large before all of it is read; whether a level is transparent is not known yet.
    _check_memory(header, budget, header.colour in _WITH_ALPHA)
    pixels = _Pixels(header.length())
    chunks = _walk(file, budget, pixels)
    transparent = header.colour in _WITH_ALPHA or b"tRNS" in chunks
    if header.bits == 16 and (header.colour != _GREY or transparent):
        kind = "grey with transparency" if header.colour in (0, 4) else "colour"
        raise PictureError(f"{budget.path} holds 16-bit {kind}", hint="convert it to 8 bits, or to 16-bit grey")
    if b"IDAT" not in chunks:
        raise ValueError("it holds no pixels")
    if pixels.broken:
        raise ValueError("its compressed pixels are damaged")
    if pixels.found < pixels.expected:
        raise ValueError(f"cut short: it holds {pixels.found} of {pixels.expected} bytes of pixels")
    # Pillow keeps what is not pixels: text, profiles, whatever a program put there.
    _check_memory(header, budget, transparent, more=budget.length - pixels.length)
    file.seek(0)
    image = PngImagePlugin.PngImageFile(file)
    if getattr(image, "is_animated", False):
        raise refuse_frames(budget.path)
    check_mode(budget.path, image.mode)
    image.load()
    if header.bits in _FULL_RANGE and header.colour == _GREY and "transparency" in image.info:
        image.info["transparency"] *= _FULL_RANGE[header.bits]
    return Loaded(image, colour={name: chunks[name] for name in COLOUR if name in chunks})


def _header(file: BinaryIO) -> _Header:
    start = file.read(len(SIGNATURE) + 8 + 13)
    length, name, width, height, bits, colour, _, _, interlaced = struct.unpack_from(">I4sIIBBBBB", start, 8)
    if name != b"IHDR" or length != 13:
        raise ValueError("it does not begin with its header")
    if colour not in _CHANNELS:
        raise ValueError(f"colour type {colour} does not exist")
    return _Header(width, height, bits, colour, bool(interlaced))


def _check_memory(header: _Header, budget: Budget, transparent: bool, more: int = 0) -> None:
    result = DEEP_RESULT if header.mode == "I;16" else RESULT + ALPHA * transparent
    budget.check_memory(header.width, header.height, STORED[header.mode] + result, more)


def _walk(file: BinaryIO, budget: Budget, pixels: _Pixels) -> dict[bytes, bytes]:
    """Read all chunks, comparing their checksums; the short ones before the pixels by name, the first of each name."""
    chunks: dict[bytes, bytes] = {}
    file.seek(len(SIGNATURE))
    count = 0
    while True:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError("cut short: its last chunk is missing")
        length, name = struct.unpack(">I4s", start)
        if name == b"IEND":
            return chunks
        count += 1
        budget.check_parts(count, "chunks")
        checksum, kept = zlib.crc32(name), b""
        for offset in range(0, length, _BLOCK):
            data = file.read(min(_BLOCK, length - offset))
            if not data:
                break
            checksum = zlib.crc32(data, checksum)
            if name == b"IDAT":
                pixels.feed(data)
            elif length <= _LONGEST_KEPT:
                kept = data
        found = file.read(4)
        if len(found) < 4:
            raise ValueError(f"cut short in its chunk {name!r}")
        if found != struct.pack(">I", checksum):
            raise ValueError(f"the checksum of its chunk {name!r} is wrong")
        if b"IDAT" not in chunks:
            chunks.setdefault(name, kept)
