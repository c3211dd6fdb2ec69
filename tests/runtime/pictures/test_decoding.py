"""Pictures of every kind that is read: formats, transparency, orientation, profiles."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from mrs.runtime.pictures.decoding import read_picture
from tests.runtime.pictures.picture_files import SRGB, chunk, noise, png, read_saved, saved, tiff

ORIENTATION, MAKE = 274, 271
LOSSLESS = [("png", "PNG", {}), ("tif", "TIFF", {}), ("bmp", "BMP", {}), ("webp", "WEBP", {"lossless": True})]
FORMATS = [*LOSSLESS, ("jpg", "JPEG", {})]


def cmyk_profile(lab: tuple[int, int, int]) -> bytes:
    """An ICC profile that gives every ink the same colour, as 8-bit Lab of ICC version 2."""
    inputs = bytes(range(256)) * 4
    table = b"mft1" + bytes(4) + struct.pack(">BBBB", 4, 3, 2, 0) + struct.pack(">9i", *[65536, 0, 0, 0] * 2, 65536)
    table += inputs + bytes(lab) * 16 + bytes(range(256)) * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, body, offset = [(b"A2B0", table), (b"A2B1", table), (b"wtpt", white)], b"", 128 + 4 + 3 * 12
    directory = struct.pack(">I", len(tags))
    for name, data in tags:
        data = data.ljust(-(-len(data) // 4) * 4, b"\0")
        directory += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", 128 + len(directory) + len(body), b"test", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + directory + body


class TestKindsThatAreRead:
    @pytest.mark.parametrize(("suffix", "form", "options"), FORMATS)
    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (31, 17)], ids=str)
    def test_rgb(self, tmp_path: Path, size: tuple[int, int], suffix: str, form: str, options: Any) -> None:
        image = Image.fromarray(noise(*size, 3))
        picture = read_saved(tmp_path, image, form, **options)
        with Image.open(tmp_path / "picture") as decoded:
            np.testing.assert_array_equal(picture.rgb, np.asarray(decoded))
        assert picture.rgb.dtype == np.uint8
        assert picture.rgb.shape == (*size, 3)
        assert picture.rgb.flags.c_contiguous
        assert picture.rgb.flags.writeable
        assert (picture.alpha, picture.grey, picture.bits, picture.transparent) == (None, False, 8, False)
        assert picture.lossless == (form != "JPEG")

    def test_lossy_webp_is_known_from_lossless(self, tmp_path: Path) -> None:
        image = Image.fromarray(noise(9, 9, 4))
        for profile in (b"", SRGB, SRGB + b"\0"):  # chunks before that of the pixels, of even and odd length
            assert not read_saved(tmp_path, image, "WEBP", icc_profile=profile).lossless
            assert read_saved(tmp_path, image, "WEBP", lossless=True, icc_profile=profile).lossless

    def test_the_content_tells_the_format_not_the_suffix(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "really.png", Image.new("RGB", (2, 2)), "JPEG")
        assert not read_picture(path).lossless

    @pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "JPEG"])
    def test_grey(self, tmp_path: Path, form: str) -> None:
        levels = np.full((5, 4), 77, np.uint8)
        picture = read_saved(tmp_path, Image.fromarray(levels), form)
        assert picture.grey
        np.testing.assert_array_equal(picture.rgb, np.stack([levels] * 3, axis=2))

    @pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
    def test_one_bit(self, tmp_path: Path, form: str) -> None:
        levels = noise(5, 9) // 128 * 255
        picture = read_saved(tmp_path, Image.fromarray(levels).convert("1"), form)
        assert picture.grey
        assert picture.bits == 8
        np.testing.assert_array_equal(picture.rgb[..., 1], levels)

    @pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
    def test_palette(self, tmp_path: Path, form: str) -> None:
        image = Image.fromarray(noise(5, 4, 3)).quantize(16)
        picture = read_saved(tmp_path, image, form)
        assert not picture.grey
        np.testing.assert_array_equal(picture.rgb, np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize("form", ["PNG", "TIFF"])
    @pytest.mark.parametrize("order", ["I;16", "I;16B"])
    def test_16_bit_grey(self, tmp_path: Path, form: str, order: str) -> None:
        levels = noise(5, 4, dtype=np.uint16)
        levels[0, :2] = 0, 65535
        image = Image.frombytes(order, (4, 5), levels.astype(">u2" if order == "I;16B" else "<u2").tobytes())
        picture = read_saved(tmp_path, image, form)
        assert picture.grey
        assert picture.bits == 16
        assert picture.rgb.dtype == np.float32
        assert (picture.rgb.min(), picture.rgb.max()) == (0, 1)
        for channel in range(3):
            np.testing.assert_array_equal(np.rint(picture.rgb[..., channel] * 65535), levels)

    def test_16_bit_grey_of_a_compressed_tiff(self, tmp_path: Path) -> None:
        levels = noise(5, 4, dtype=np.uint16)
        picture = read_saved(tmp_path, Image.fromarray(levels), "TIFF", compression="tiff_lzw")
        np.testing.assert_array_equal(np.rint(picture.rgb[..., 0] * 65535), levels)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_white_is_zero(self, tmp_path: Path, bits: int) -> None:
        stored = [0, 2**bits - 1]
        tags = {256: (2,), 257: (1,), 258: (bits,), 259: (1,), 262: (0,), 277: (1,), 278: (1,)}
        (tmp_path / "a.tif").write_bytes(tiff(tags, np.array(stored, f"<u{bits // 8}").tobytes()))
        rgb = read_picture(tmp_path / "a.tif").rgb
        assert rgb[0, :, 0].tolist() == [1 if bits == 16 else 255, 0]

    def test_cmyk_without_profile_by_plain_arithmetic(self, tmp_path: Path) -> None:
        inks = np.array([[[0, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255]]], np.uint8)
        picture = read_saved(tmp_path, Image.fromarray(inks, "CMYK"), "TIFF")
        assert picture.rgb[0].tolist() == [[255, 255, 255], [255, 0, 0], [0, 0, 0]]
        assert not picture.grey

    def test_cmyk_through_its_profile_which_is_not_kept(self, tmp_path: Path) -> None:
        grey = cmyk_profile((128, 128, 128))  # L* = 50, which is level 119 in sRGB
        inks = Image.fromarray(noise(3, 3, 4), "CMYK")
        for form in ("TIFF", "JPEG"):
            picture = read_saved(tmp_path, inks, form, icc_profile=grey)
            assert np.abs(picture.rgb.astype(int) - 119).max() <= 2
            assert picture.icc is None

    def test_cmyk_with_a_broken_profile_by_plain_arithmetic(self, tmp_path: Path) -> None:
        broken = cmyk_profile((128, 128, 128))[:140].ljust(400, b"\xff")
        white = Image.new("CMYK", (1, 1))
        assert read_saved(tmp_path, white, "TIFF", icc_profile=broken).rgb.tolist() == [[[255, 255, 255]]]

    def test_the_primary_picture_of_a_jpeg_with_a_second_one(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        second = Image.new("RGB", (4, 4), "blue")
        Image.new("RGB", (8, 8), "red").save(path, "MPO", save_all=True, append_images=[second])
        assert read_picture(path).rgb.shape == (8, 8, 3)


class TestTransparency:
    @pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
    def test_rgba(self, tmp_path: Path, form: str, options: Any) -> None:
        pixels = noise(6, 5, 4)
        picture = read_saved(tmp_path, Image.fromarray(pixels), form, **options, exact=True)
        np.testing.assert_array_equal(picture.rgb, pixels[..., :3])
        np.testing.assert_array_equal(picture.alpha, pixels[..., 3])
        assert picture.transparent

    @pytest.mark.parametrize("form", ["PNG", "TIFF"])
    def test_grey_with_alpha(self, tmp_path: Path, form: str) -> None:
        pixels = noise(6, 5, 2)
        picture = read_saved(tmp_path, Image.fromarray(pixels, "LA"), form)
        assert picture.grey
        np.testing.assert_array_equal(picture.rgb[..., 2], pixels[..., 0])
        np.testing.assert_array_equal(picture.alpha, pixels[..., 1])

    @pytest.mark.parametrize(
        ("transparency", "expected"), [(1, [255, 0, 255]), (bytes([10, 20, 30]), [10, 20, 30])], ids=["index", "table"]
    )
    def test_palette(self, tmp_path: Path, transparency: int | bytes, expected: list[int]) -> None:
        image = Image.new("P", (3, 1))
        image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
        image.putdata([0, 1, 2])
        picture = read_saved(tmp_path, image, "PNG", transparency=transparency)
        assert picture.rgb[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
        assert picture.alpha is not None
        assert picture.alpha[0].tolist() == expected

    def test_a_transparent_colour(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.array([[[1, 2, 3], [1, 2, 4]]], np.uint8))
        picture = read_saved(tmp_path, image, "PNG", transparency=(1, 2, 3))
        assert picture.alpha is not None
        assert picture.alpha[0].tolist() == [0, 255]

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_a_transparent_grey_level(self, tmp_path: Path, bits: int) -> None:
        row = {1: 0b01_000000, 2: 0b0001_0000, 4: 0x01, 8: 0}[bits]  # the levels 0 and 1
        pixels = bytes([0, row]) + (b"\1" if bits == 8 else b"")
        (tmp_path / "a.png").write_bytes(png(2, 1, bits, 0, pixels, chunk(b"tRNS", b"\0\1")))
        picture = read_picture(tmp_path / "a.png")
        assert picture.grey
        assert picture.rgb[0, :, 0].tolist() == [0, 255 // (2**bits - 1)]
        assert picture.alpha is not None
        assert picture.alpha[0].tolist() == [255, 0]

    def test_a_fully_opaque_alpha_is_kept_but_not_transparent(self, tmp_path: Path) -> None:
        picture = read_saved(tmp_path, Image.new("RGBA", (2, 2), "red"), "PNG")
        assert picture.alpha is not None
        assert not picture.transparent


class TestOrientation:
    @pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_pixels_are_upright_and_exif_says_so(self, tmp_path: Path, form: str, orientation: int) -> None:
        exif = Image.Exif()
        exif[ORIENTATION], exif[MAKE] = orientation, "Us"
        mode = "RGB" if form == "JPEG" else "RGBA"
        options: dict[str, Any] = {"lossless": True, "exact": True} if form == "WEBP" else {}
        image = Image.fromarray(noise(3, 5, len(mode)))
        picture = read_saved(tmp_path, image, form, exif=exif, dpi=(300, 150), **options)
        # From memory: from a path, Pillow 13 maps the file and decodes a TIFF on its side wrongly.
        with Image.open(io.BytesIO((tmp_path / "picture").read_bytes())) as stored:
            expected = np.asarray(ImageOps.exif_transpose(stored))
        np.testing.assert_array_equal(picture.rgb, expected[..., :3])
        assert picture.rgb.flags.c_contiguous
        if mode == "RGBA":
            np.testing.assert_array_equal(picture.alpha, expected[..., 3])
        assert picture.exif is not None
        kept = Image.Exif()
        kept.load(picture.exif)
        assert kept[MAKE] == "Us"
        assert kept.get(ORIENTATION, 1) == 1
        if form in ("PNG", "JPEG"):
            assert picture.dpi == pytest.approx((150, 300) if orientation >= 5 else (300, 150), abs=0.1)

    @pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
    def test_an_orientation_in_xmp_alone_is_ignored_as_viewers_do(self, tmp_path: Path, form: str) -> None:
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options: dict[str, dict[str, Any]] = {
            "PNG": {"pnginfo": text},
            "TIFF": {"tiffinfo": {700: xmp}},
            "WEBP": {"xmp": xmp},
        }
        assert read_saved(tmp_path, Image.new("RGB", (5, 3)), form, **options[form]).rgb.shape == (3, 5, 3)

    def test_damaged_exif_does_not_cost_the_picture(self, tmp_path: Path) -> None:
        picture = read_saved(tmp_path, Image.new("RGB", (5, 3)), "JPEG", exif=b"Exif\0\0not at all")
        assert picture.rgb.shape == (3, 5, 3)
        assert picture.exif is None


class TestProfiles:
    @pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
    def test_kept(self, tmp_path: Path, form: str) -> None:
        assert read_saved(tmp_path, Image.new("RGB", (2, 2)), form, icc_profile=SRGB).icc == SRGB

    @pytest.mark.parametrize(
        ("mode", "space", "kept"),
        [("L", b"GRAY", True), ("L", b"RGB ", True), ("L", b"CMYK", False), ("RGB", b"GRAY", False)],
    )
    def test_kept_where_it_fits_the_pixels(self, tmp_path: Path, mode: str, space: bytes, kept: bool) -> None:
        profile = SRGB[:16] + space + SRGB[20:]
        picture = read_saved(tmp_path, Image.new(mode, (2, 2)), "PNG", icc_profile=profile)
        assert picture.icc == (profile if kept else None)
