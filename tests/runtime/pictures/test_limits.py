"""What a picture may cost: refused from its header or its structure, before anything is decoded."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from mrs.runtime.errors import PictureError
from mrs.runtime.pictures.decoding import picture_size, read_picture
from mrs.runtime.pictures.limits import DEFAULT_LIMITS, PictureLimits
from mrs.runtime.system import machine
from tests.runtime.pictures.picture_files import bmp, chunk, encoded, noise, png, tiff, zeros

SIDE = 16384
TINY_JPEG = encoded(Image.new("L", (8, 8)), "JPEG")


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(TINY_JPEG)
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive grey JPEG whose scans, but for the first, say with few bits that they change nothing."""
    start = TINY_JPEG.index(b"\xff\xdb")
    (length,) = struct.unpack_from(">H", TINY_JPEG, start + 2)
    blocks = -(-width // 8) * -(-height // 8)
    runs = -(-blocks // 32767)
    bits = ("0" + "1" * 14) * runs  # each ends 32767 blocks
    bits += "1" * (-len(bits) % 8)
    empty = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")

    def codes(kind: int, symbols: bytes) -> bytes:
        return b"\xff\xc4" + struct.pack(">HB", 22, kind) + bytes([1, 1, 1]) + bytes(13) + symbols

    def scan(first: int, last: int) -> bytes:
        return b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, first, last, 0)

    frame = b"\xff\xc2" + struct.pack(">HBHHBBBB", 11, 8, height, width, 1, 1, 0x11, 0)
    head = b"\xff\xd8" + TINY_JPEG[start : start + 2 + length] + frame + codes(0, b"\0\1\2") + codes(16, b"\xe0\0\1")
    return head + scan(0, 0) + bytes(-(-blocks // 8)) + (scan(1, 63) + empty) * (scans - 1) + b"\xff\xd9"


def webp_of_size(width: int, height: int) -> bytes:
    data = b"WEBPVP8L" + struct.pack("<IBI", 13, 0x2F, (width - 1) | (height - 1) << 14) + bytes(9)
    return b"RIFF" + struct.pack("<I", len(data)) + data


def bmp_of_size(width: int, height: int) -> bytes:
    return struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff_of_size(width: int, height: int) -> bytes:
    return tiff({256: (width,), 257: (height,), 258: (8,), 259: (1,), 262: (1,), 277: (1,), 278: (height,)}, bytes(9))


def png_of_size(width: int, height: int) -> bytes:
    return png(width, height, 1, 0, b"")


def square_png(bits: int, colour: int, length: int, *more: bytes) -> bytes:
    """Refused by its header and its length alone."""
    return png(SIDE, SIDE, bits, colour, bytes(length), *more, packed=True)


OF_SIZE: dict[str, Callable[[int, int], bytes]] = {
    "PNG": png_of_size, "JPEG": jpeg_of_size, "BMP": bmp_of_size, "TIFF": tiff_of_size, "WebP": webp_of_size,
}  # fmt: skip
PALETTE = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(range(256)))
SMALL_BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a row of runs": (lambda: bmp(2**28, 1, b"\1\1\0\0"), "cut short: 4 bytes cannot hold 268435456x1 pixels"),
    "short rows of runs": (lambda: bmp(SIDE, SIDE, b"\1\1\0\0" * SIDE), "cut short: 65536 bytes cannot hold"),
    "scans": (lambda: jpeg_of_scans(SIDE, SIDE, 18), r"in 17 scans, the limit for as many pixels is 16"),
    "16-bit grey": (lambda: square_png(16, 0, 521_840), r"takes 3585 MiB of memory, the limit is 2048 MiB"),
    "lossless WebP": (lambda: webp_of_size(13377, 13377), r"takes 2731 MiB of memory, the limit is 2048 MiB"),
    "a palette": (lambda: square_png(8, 3, 261_000, PALETTE), r"which is too much for a file of \d+ bytes"),
    "chunks": (lambda: png(1, 1, 8, 0, bytes(2), chunk(b"abCd", b"") * 100_001), "more than 100000 chunks"),
    "a narrow one": (lambda: png(1, 2**28, 8, 0, bytes(2)), "takes 4096 MiB of memory, the limit is 2048 MiB"),
    "a cut one": (lambda: png(1, 2**20, 8, 0, bytes(2)), "cut short: it holds 2 of 2097152 bytes of pixels"),
    "a short JPEG": (lambda: jpeg_of_size(SIDE, 8192), r"cut short: \d+ bytes cannot hold 16384x8192 pixels"),
    "segments": (lambda: b"\xff\xd8" + b"\xff\xe3\0\2" * 100_001, "more than 100000 segments"),
    "junk before segments": (lambda: b"\xff\xd8\xff\xe3\0\2" + bytes(100_001) + b"\xff\xe3\0\2", "segments"),
    "WebP's chunks": (lambda: b"RIFF\0\0\0\0WEBP" + b"abcd\0\0\0\0" * 100_003, "more than 100000 chunks"),
}


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decodes pixels fails the test."""

    def fail(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    monkeypatch.setattr(Image, "new", fail)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("form", OF_SIZE)
def test_too_many_pixels_are_told_with_the_limit(tmp_path: Path, form: str) -> None:
    (tmp_path / "bomb").write_bytes(OF_SIZE[form](*((30000, 20000) if form != "WebP" else (16384, 16384))))
    limits = DEFAULT_LIMITS if form != "WebP" else PictureLimits(pixels=2**27)
    size = r"30000x20000 = 600000000" if form != "WebP" else "16384x16384 = 268435456"
    with pytest.raises(PictureError, match=rf"bomb has {size} pixels, the limit is {limits.pixels}") as caught:
        read_picture(tmp_path / "bomb", limits)
    assert "--max-pixels" in caught.value.hint


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("bomb", SMALL_BOMBS)
def test_small_files_that_cost_much(tmp_path: Path, bomb: str) -> None:
    made, named = SMALL_BOMBS[bomb]
    (tmp_path / "bomb").write_bytes(made())
    with pytest.raises(PictureError, match=named) as caught:
        read_picture(tmp_path / "bomb")
    assert "AssertionError" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("TIFF", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("JPEG", {})],
)
def test_the_limits_are_ours_and_not_a_setting_of_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, options: dict[str, Any]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(encoded(Image.new("RGB", (30, 30)), form, **options))
    # Pillow would warn, which pytest turns into an error, or raise for twice as many; WebP cannot do without.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800 if form == "WEBP" else 100)
    before = Image.MAX_IMAGE_PIXELS
    assert read_picture(path, PictureLimits(pixels=900)).rgb.shape == (30, 30, 3)
    assert before == Image.MAX_IMAGE_PIXELS
    with pytest.raises(PictureError, match="30x30 = 900 pixels, the limit is 899"):
        read_picture(path, PictureLimits(pixels=899))
    with pytest.raises(PictureError, match=r"reading .*a \(30x30\) takes 1 MiB of memory, the limit is 0 MiB"):
        read_picture(path, PictureLimits(memory=30 * 30 * 3))


def test_every_limit_can_be_raised(tmp_path: Path) -> None:
    """What is refused above is read where it may cost as much."""
    tight = PictureLimits(memory=10_000, allowance=1000, ratio=2, work=1000, parts=10)
    cases = {
        "memory": (png(64, 64, 8, 0, bytes(64 * 65)), {"memory": 1 << 20, "allowance": 1 << 20}),
        "allowance": (png(30, 30, 8, 0, bytes(30 * 31)), {"allowance": 10_000}),
        "ratio": (png(30, 30, 8, 0, bytes(30 * 31)), {"ratio": 100}),
        "work": (jpeg_of_scans(16, 16, 5), {"work": 16 * 16 * 5, "allowance": 10_000, "parts": 100}),
        "parts": (png(2, 2, 8, 0, bytes(6), chunk(b"abCd", b"") * 20), {"parts": 22}),
    }
    for name, (data, raised) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(PictureError):
            read_picture(tmp_path / name, tight)
        assert read_picture(tmp_path / name, replace(tight, **raised)).rgb.any(axis=None) in (True, False)


def test_memory_that_is_not_free_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(encoded(Image.fromarray(noise(99, 99, 3)), "PNG"))
    monkeypatch.setattr(machine, "free_memory", lambda: 5000)
    with pytest.raises(PictureError, match=r"takes 1 MiB of memory, of which 0 MiB are free"):
        read_picture(tmp_path / "a")
    monkeypatch.setattr(machine, "free_memory", lambda: None)
    assert read_picture(tmp_path / "a").rgb.shape == (99, 99, 3)


@pytest.mark.parametrize(
    "data",
    [
        png(4096, 4096, 8, 2, zeros(4096 * (1 + 3 * 4096)), packed=True),
        png(8192, 2048, 1, 0, zeros(2048 * (1 + 1024)), packed=True),
        encoded(Image.new("RGB", (4096, 1024), "red"), "WEBP", lossless=True),
        encoded(Image.new("L", (4096, 4096)), "JPEG", quality=1),
        encoded(Image.new("RGB", (2048, 2048)), "JPEG", progressive=True),
        encoded(Image.new("1", (8192, 2048)), "TIFF", compression="group4"),
    ],
    ids=["PNG", "1-bit PNG", "WebP", "JPEG", "progressive JPEG", "fax"],
)
def test_pictures_of_one_colour_are_no_bombs(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert len(np.unique(read_picture(tmp_path / "a").rgb[::64, ::64])) <= 2


def test_the_size_is_told_without_making_the_picture(tmp_path: Path) -> None:
    for form, made in OF_SIZE.items():
        (tmp_path / form).write_bytes(made(16383, 16000))
        assert picture_size(tmp_path / form) == (16000, 16383)
