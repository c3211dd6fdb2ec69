"""What samples mean: carried to where it can be said, refused where it cannot or where no photograph is stored so."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrs.runtime.errors import PictureError
from mrs.runtime.pictures.colour import carried
from mrs.runtime.pictures.formats import png as png_format
from mrs.runtime.pictures.writing import Picture, check_target, read_picture, write_picture
from tests.runtime.pictures.picture_files import SRGB, chunk, encoded, png

SRGB_POINTS = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
ADOBE_POINTS = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)


def cicp(primaries: int, transfer: int, matrix: int = 0, full: int = 1) -> tuple[bytes, bytes]:
    return b"cICP", bytes((primaries, transfer, matrix, full))


def gamma(value: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", value)


def points(values: tuple[int, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *values)


def source(folder: Path, *chunks: tuple[bytes, bytes], profile: bytes | None = None) -> Picture:
    path = folder / "source.png"
    if profile is None:
        path.write_bytes(png(2, 1, 8, 2, bytes([0, 10, 20, 30, 40, 50, 60]), *(chunk(*each) for each in chunks)))
    else:
        data = encoded(Image.new("RGB", (2, 1)), "PNG", icc_profile=profile)
        path.write_bytes(data[:33] + b"".join(chunk(*each) for each in chunks) + data[33:])
    return read_picture(path)


def stored(path: Path) -> dict[bytes, bytes]:
    """Chunks of a PNG before its pixels, in their order."""
    data, place, found = path.read_bytes(), 8, {}
    while data[place + 4 : place + 8] != b"IDAT":
        (length,) = struct.unpack_from(">I", data, place)
        found[data[place + 4 : place + 8]] = data[place + 8 : place + 8 + length]
        place += 12 + length
    return found


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"sRGB", b"\1")],
        [(b"sRGB", b"\0"), gamma(45455), points(SRGB_POINTS)],
        [gamma(55556)],
        [gamma(45455), points(ADOBE_POINTS)],
        [cicp(12, 13)],
        [cicp(1, 1), (b"sRGB", b"\0"), gamma(100000)],
    ],
    ids=lambda chunks: "+".join(f"{name.decode()}{data.hex()[:8]}" for name, data in chunks),
)
def test_chunks_go_from_png_to_png(tmp_path: Path, chunks: list[tuple[bytes, bytes]]) -> None:
    like = source(tmp_path, *chunks)
    assert sorted(like.colour) == sorted(chunks)
    write_picture(tmp_path / "b.png", like.rgb, like)
    written = stored(tmp_path / "b.png")
    assert {name: written[name] for name in png_format.COLOUR if name in written} == dict(chunks)
    again = read_picture(tmp_path / "b.png")
    assert again.colour == like.colour
    np.testing.assert_array_equal(again.rgb, like.rgb)


def test_a_profile_and_its_better_go_together(tmp_path: Path) -> None:
    like = source(tmp_path, cicp(12, 13), gamma(45455), profile=SRGB)
    write_picture(tmp_path / "b.png", like.rgb, like)
    written = list(stored(tmp_path / "b.png"))
    assert {b"cICP", b"gAMA", b"iCCP"} <= set(written)
    # What the file itself has for viewers that know profiles only.
    write_picture(tmp_path / "b.jpg", like.rgb, like)
    assert read_picture(tmp_path / "b.jpg").icc == SRGB


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize(
    ("chunks", "lost"),
    [
        ([], ""),
        ([(b"sRGB", b"\0")], ""),
        ([(b"sRGB", b"\0"), gamma(55556)], ""),
        ([cicp(1, 13)], ""),
        ([gamma(45455), points(SRGB_POINTS)], ""),
        ([gamma(45000)], ""),
        ([gamma(55556)], "a gamma of its own (gAMA 0.55556)"),
        ([points(ADOBE_POINTS)], "primaries of its own (cHRM)"),
        ([cicp(12, 13), (b"sRGB", b"\0")], "a colour space by code (cICP)"),
    ],
    ids=lambda value: (
        value or "-" if isinstance(value, str) else "+".join(name.decode() for name, _ in value) or "none"
    ),
)
def test_other_formats_get_what_looks_the_same_without(
    tmp_path: Path, chunks: list[tuple[bytes, bytes]], lost: str, suffix: str
) -> None:
    like = source(tmp_path, *chunks)
    if not lost:
        write_picture(tmp_path / f"b{suffix}", like.rgb, like)
        return
    with pytest.raises(PictureError) as caught:
        check_target(tmp_path / f"b{suffix}", like=like)
    assert f"has no place for {lost}" in caught.value.message
    assert caught.value.hint == "choose .png"


@pytest.mark.parametrize(
    ("chunks", "named"),
    [
        ([cicp(9, 16)], r"PQ samples \(cICP\)"),
        ([cicp(9, 18)], r"HLG samples \(cICP\)"),
        ([cicp(1, 8)], r"linear light samples \(cICP\)"),
        ([cicp(1, 8), (b"sRGB", b"\0")], r"linear light samples \(cICP\)"),
        ([cicp(1, 9)], r"logarithmic samples \(cICP\)"),
        ([cicp(1, 13, full=0)], r"samples in a video's range \(cICP\)"),
        ([cicp(1, 13, matrix=1)], r"samples that are no RGB \(cICP\)"),
        ([gamma(100000)], r"linear samples \(gAMA 1\)"),
    ],
)
def test_what_is_not_for_screens_is_refused(tmp_path: Path, chunks: list[tuple[bytes, bytes]], named: str) -> None:
    with pytest.raises(PictureError, match=named) as caught:
        source(tmp_path, *chunks)
    assert "sRGB" in caught.value.hint


@pytest.mark.parametrize(
    "chunks", [[(b"sRGB", b"\0"), gamma(100000)], [cicp(1, 13), gamma(100000)]], ids=["sRGB", "cICP"]
)
def test_a_linear_gamma_below_something_better_does_not_count(
    tmp_path: Path, chunks: list[tuple[bytes, bytes]]
) -> None:
    assert source(tmp_path, *chunks).colour


def test_a_linear_gamma_below_a_profile_does_not_count(tmp_path: Path) -> None:
    assert source(tmp_path, gamma(100000), profile=SRGB).icc == SRGB


@pytest.mark.parametrize("data", [gamma(0)], ids=["zero"])
def test_chunks_without_a_meaning_are_left_out(tmp_path: Path, data: tuple[bytes, bytes]) -> None:
    assert source(tmp_path, data).colour == ()
    assert carried({b"cICP": b"\1\1", b"cHRM": b"", b"sRGB": b"\0\0"}) == ()


def test_chunks_behind_the_pixels_are_left_out(tmp_path: Path) -> None:
    data = png(1, 1, 8, 2, bytes(4))
    (tmp_path / "a.png").write_bytes(data[:-12] + chunk(*gamma(55556)) + data[-12:])
    assert read_picture(tmp_path / "a.png").colour == ()


def curve(kind: str) -> bytes:
    if kind == "identity":
        return b"curv" + bytes(8)
    if kind == "exponent":
        return b"curv" + struct.pack(">4xIH", 1, 256)
    if kind == "table":
        return b"curv" + struct.pack(">4xI", 256) + np.linspace(0, 65535, 256).astype(">u2").tobytes()
    if kind == "formula":
        return b"para" + struct.pack(">4xHHi", 0, 0, 65536)
    if kind == "screen":
        return b"curv" + struct.pack(">4xIH", 1, int(2.2 * 256))
    light = (np.linspace(0, 1, 256) ** 2.2 * 65535).astype(">u2")
    return b"curv" + struct.pack(">4xI", 256) + light.tobytes()


def profile_of(**tags: bytes) -> bytes:
    """An ICC profile of RGB with these tags alone."""
    body, directory = b"", struct.pack(">I", len(tags))
    for name, data in tags.items():
        data = data.ljust(-(-len(data) // 4) * 4, b"\0")
        directory += struct.pack(">4sII", name.encode(), 132 + 12 * len(tags) + len(body), len(data))
        body += data
    return SRGB[:128] + directory + body


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("kind", ["identity", "exponent", "table", "formula"])
def test_linear_profiles_are_refused_in_every_format(tmp_path: Path, form: str, kind: str) -> None:
    profile = profile_of(rTRC=curve(kind), gTRC=curve(kind), bTRC=curve(kind))
    (tmp_path / "a").write_bytes(encoded(Image.new("RGB", (2, 2)), form, icc_profile=profile))
    with pytest.raises(PictureError, match=r"linear samples \(ICC profile\)"):
        read_picture(tmp_path / "a")


def test_profiles_that_name_pq_are_refused(tmp_path: Path) -> None:
    profile = profile_of(cicp=b"cicp" + bytes(4) + bytes((9, 16, 0, 1)), rTRC=curve("screen"))
    (tmp_path / "a").write_bytes(encoded(Image.new("RGB", (2, 2)), "JPEG", icc_profile=profile))
    with pytest.raises(PictureError, match=r"PQ samples \(ICC profile\)"):
        read_picture(tmp_path / "a")


@pytest.mark.parametrize("kind", ["screen", "screen table"])
def test_other_profiles_are_kept(tmp_path: Path, kind: str) -> None:
    profiles = [SRGB, profile_of(rTRC=curve(kind), gTRC=curve(kind), bTRC=curve(kind)), SRGB[:128] + b"\xff" * 40]
    for profile in profiles:
        (tmp_path / "a").write_bytes(encoded(Image.new("RGB", (2, 2)), "JPEG", icc_profile=profile))
        assert read_picture(tmp_path / "a").icc == profile


def test_the_profile_in_a_bmp_is_found(tmp_path: Path) -> None:
    pixels = bytes(8)
    offset = 14 + 124
    head = struct.pack("<IiiHHIIiiII", 124, 2, 1, 1, 24, 0, len(pixels), 0, 0, 0, 0) + bytes(16) + b"DEBM" + bytes(48)
    head += struct.pack("<IIII", 0, 124 + len(pixels), len(SRGB), 0)
    start = struct.pack("<2sIHHI", b"BM", offset + len(pixels) + len(SRGB), 0, 0, offset)
    (tmp_path / "a.bmp").write_bytes(start + head + pixels + SRGB)
    like = read_picture(tmp_path / "a.bmp")
    assert like.icc == SRGB
    with pytest.raises(PictureError, match="BMP holds no ICC profile"):
        check_target(tmp_path / "b.bmp", like=like)
