"""Picture files made by hand, for kinds that Pillow does not write, and for damage."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from mrs.runtime.pictures.decoding import Picture, read_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *more: bytes, packed: bool = False) -> bytes:
    """A PNG; `more` are chunks before the pixels, whose rows may be `packed` already."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", rows if packed else zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels + chunk(b"IEND", b"")


def tiff(tags: Mapping[int, tuple[int, ...]], pixels: bytes) -> bytes:
    """A little-endian TIFF; values of a tag are SHORTs, or one LONG."""
    tags = {**tags, 273: (1024,), 279: (len(pixels),)}
    entries, extra = b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}H", *values)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", 512 + len(extra)), extra + packed
        entries += struct.pack("<HHI4s", tag, 3, len(values), packed)
    start = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
    return start.ljust(512, b"\0") + extra.ljust(512, b"\0") + pixels


def tagged(data: bytes, tag: int, value: int) -> bytes:
    """A small little-endian TIFF, or EXIF behind its prefix, with another value for a tag that has one."""
    out = bytearray(data)
    (start,) = struct.unpack_from("<I", out, 4)
    (count,) = struct.unpack_from("<H", out, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        found, kind, values, _ = struct.unpack_from("<HHII", out, entry)
        if found == tag:
            assert values == 1
            struct.pack_into("<HHII", out, entry, tag, kind, 1, value)
            return bytes(out)
    raise KeyError(tag)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The bytes of a file that Pillow writes."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def bmp(width: int, height: int, runs: bytes, half: bool = False) -> bytes:
    """A BMP of runs of pixels; entry i of its palette is the colour (i, 0, 255 - i)."""
    bits, colours = (4, 16) if half else (8, 256)
    palette = b"".join(bytes((255 - i, 0, i, 0)) for i in range(colours))
    offset = 54 + len(palette)
    head = struct.pack(
        "<2sIIIIiiHHII", b"BM", offset + len(runs), 0, offset, 40, width, height, 1, bits, 2 if half else 1, len(runs)
    )
    return head + struct.pack("<iiII", 0, 0, colours, 0) + palette + runs


def zeros(length: int) -> bytes:
    """A zlib stream of so many zeros, without making them all at a time."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [packer.compress(block[: min(len(block), length - at)]) for at in range(0, length, len(block))]
    return b"".join(parts) + packer.flush()


def pixels(path: Path) -> np.ndarray:
    return read_picture(path).rgb


def saved(path: Path, image: Image.Image, form: str, **options: Any) -> Path:
    image.save(path, form, **options)
    return path


def read_saved(folder: Path, image: Image.Image, form: str, **options: Any) -> Picture:
    return read_picture(saved(folder / "picture", image, form, **options))
