"""TIFF: which page is read, how pixels may lie, and what is missing."""

from __future__ import annotations

import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from mrs.runtime.errors import PictureError
from mrs.runtime.pictures.decoding import Picture, picture_size, read_picture
from mrs.runtime.pictures.formats import libtiff
from tests.runtime.pictures.picture_files import encoded, noise, tagged, tiff

RGB = noise(70, 53, 3)
GREY, DEEP, RGBA = RGB[..., 0].copy(), noise(70, 53, dtype=np.uint16), noise(70, 53, 4)
SMALL = np.ascontiguousarray(RGB[::2, ::2])
LENGTHS, ORIENTATION = 279, 274
KINDS = {
    "full": (RGB, 0), "small": (SMALL, 1), "page": (RGB, 2), "mask": (GREY > 9, 4),
    "small mask": (GREY[::2, ::2] > 9, 5),
}  # fmt: skip
TURNED = {
    2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.swapaxes(0, 1), 6: RGB.swapaxes(0, 1)[:, ::-1],
    7: RGB[::-1, ::-1].swapaxes(0, 1), 8: RGB.swapaxes(0, 1)[::-1],
}  # fmt: skip


def read(folder: Path, data: bytes) -> Picture:
    (folder / "a.tif").write_bytes(data)
    return read_picture(folder / "a.tif")


def levels(picture: Picture) -> NDArray[Any]:
    """As the file stores them."""
    return picture.rgb if picture.bits == 8 else np.rint(picture.rgb * 65535).astype(np.uint16)


def pages(path: Path, *kinds: str, big: bool = False) -> Path:
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for kind in kinds:
            pixels, bits = KINDS[kind]
            writer.write(pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack", subfiletype=bits)
    return path


class TestPages:
    @pytest.mark.parametrize("big", [False, True], ids=["small", "big"])
    @pytest.mark.parametrize(
        "kinds",
        [["full", "small"], ["small", "full"], ["full", "mask", "small", "small mask"], ["page", "small"]],
        ids="+".join,
    )
    def test_the_one_in_full_resolution_is_read(self, tmp_path: Path, kinds: list[str], big: bool) -> None:
        path = pages(tmp_path / "a.tif", *kinds, big=big)
        np.testing.assert_array_equal(read_picture(path).rgb, RGB)
        assert picture_size(path) == (70, 53)

    @pytest.mark.parametrize("kinds", [["full", "full"], ["page", "page"], ["full", "small", "full"]], ids="+".join)
    def test_several_of_them_are_refused(self, tmp_path: Path, kinds: list[str]) -> None:
        with pytest.raises(PictureError, match="holds several frames or pages"):
            read_picture(pages(tmp_path / "a.tif", *kinds))

    def test_overviews_in_sub_directories_are_passed_over(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(RGB, photometric="rgb", subifds=1)
            writer.write(SMALL, photometric="rgb", subfiletype=1)
        np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").rgb, RGB)

    @pytest.mark.parametrize(
        ("photometric", "named"),
        [("rgb", "has its picture in full resolution in a sub-directory"), ("cfa", "holds a camera's raw data")],
    )
    def test_a_thumbnail_is_not_taken_for_the_picture(self, tmp_path: Path, photometric: str, named: str) -> None:
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(SMALL, photometric="rgb", subfiletype=1, subifds=1)
            writer.write(RGB if photometric == "rgb" else DEEP, photometric=photometric)
        with pytest.raises(PictureError, match=named):
            read_picture(tmp_path / "a.tif")

    def test_directories_that_lead_in_a_circle(self, tmp_path: Path) -> None:
        data = bytearray(encoded(Image.fromarray(RGB), "TIFF"))
        (start,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, start)
        struct.pack_into("<I", data, start + 2 + 12 * count, start)
        np.testing.assert_array_equal(read(tmp_path, bytes(data)).rgb, RGB)


class TestLayouts:
    @pytest.mark.parametrize("options", [
        {}, {"bigtiff": True}, {"byteorder": ">"}, {"tile": (32, 16)}, {"compression": "zlib", "predictor": True},
        {"tile": (32, 16), "compression": "zlib", "bigtiff": True}, {"rowsperstrip": 9},
    ], ids=lambda options: "+".join(options) or "plain")  # fmt: skip
    def test_pixels_are_right(self, tmp_path: Path, options: dict[str, Any]) -> None:
        path = tmp_path / "a.tif"
        inverted = [("miniswhite", GREY, 255 - GREY), ("miniswhite", DEEP, 65535 - DEEP)]
        for photometric, stored, expected in (
            ("rgb", RGB, RGB), ("minisblack", GREY, GREY), ("minisblack", DEEP, DEEP), *inverted,
        ):  # fmt: skip
            if options.get("byteorder") == ">" and stored is DEEP and photometric == "miniswhite":
                continue  # refused
            tifffile.imwrite(path, stored, photometric=photometric, **options)
            found = levels(read_picture(path))
            np.testing.assert_array_equal(found if expected.ndim == 3 else found[..., 0], expected)

    @pytest.mark.parametrize("tile", [None, (16, 32)])
    def test_planes_apart(self, tmp_path: Path, tile: tuple[int, int] | None) -> None:
        options: dict[str, Any] = {"photometric": "rgb", "planarconfig": "separate", "tile": tile}
        tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(RGBA, 2, 0), extrasamples=["unassalpha"], **options)
        picture = read_picture(tmp_path / "a.tif")
        np.testing.assert_array_equal(picture.rgb, RGBA[..., :3])
        np.testing.assert_array_equal(picture.alpha, RGBA[..., 3])

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd"])
    def test_compressions(self, tmp_path: Path, compression: str) -> None:
        for pixels in (RGB, DEEP):
            data = encoded(Image.fromarray(pixels), "TIFF", compression=compression)
            np.testing.assert_array_equal(
                np.squeeze(levels(read(tmp_path, data))[..., : 1 if pixels is DEEP else 3]), pixels
            )

    @pytest.mark.parametrize("orientation", TURNED)
    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
    def test_orientations(self, tmp_path: Path, orientation: int, compression: str) -> None:
        options: dict[str, Any] = {"tiffinfo": {ORIENTATION: orientation}, "dpi": (300, 150)}
        picture = read(tmp_path, encoded(Image.fromarray(RGB), "TIFF", compression=compression, **options))
        np.testing.assert_array_equal(picture.rgb, TURNED[orientation])
        assert picture.dpi == ((150, 300) if orientation >= 5 else (300, 150))

    def test_colours_of_jpeg(self, tmp_path: Path) -> None:
        even = np.full((48, 32, 3), (200, 90, 40), np.uint8)
        for mode in ("RGB", "YCbCr"):
            data = encoded(Image.fromarray(even).convert(mode), "TIFF", compression="jpeg", quality=95)
            assert np.abs(read(tmp_path, data).rgb.astype(int) - even).max() <= 4

    def test_bits_from_right_to_left(self, tmp_path: Path) -> None:
        tags = {256: (8,), 257: (1,), 258: (1,), 259: (1,), 262: (1,), 266: (2,), 277: (1,), 278: (1,)}
        assert read(tmp_path, tiff(tags, b"\x03")).rgb[0, :, 0].tolist() == [255, 255, 0, 0, 0, 0, 0, 0]

    def test_what_pillow_takes_for_something_else_is_refused(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", bigtiff=True, byteorder=">")
        with pytest.raises(PictureError, match="is a BigTIFF of big-endian numbers"):
            read_picture(tmp_path / "a.tif")


class TestCutShort:
    def test_strips_that_are_missing(self, tmp_path: Path) -> None:
        tags = {256: (4,), 257: (64,), 258: (8,), 259: (1,), 262: (1,), 277: (1,), 278: (16,)}
        with pytest.raises(PictureError, match="cut short: it has 1 of 4 strips"):
            read(tmp_path, tiff(tags, bytes(256)))

    def test_a_strip_that_is_too_short(self, tmp_path: Path) -> None:
        tags = {256: (4,), 257: (64,), 258: (8,), 259: (1,), 262: (1,), 277: (1,), 278: (64,)}
        with pytest.raises(PictureError, match="cut short: the data of its strips ends before the pixels of number 0"):
            read(tmp_path, tiff(tags, bytes(255)))

    @pytest.mark.parametrize("named", ["tiles", "strips"])
    def test_pieces_without_data(self, tmp_path: Path, named: str) -> None:
        path = tmp_path / "a.tif"
        piece: dict[str, Any] = {"tile": (16, 16)} if named == "tiles" else {"rowsperstrip": 16}
        tifffile.imwrite(path, GREY[:64, :48], photometric="minisblack", **piece)
        data = bytearray(path.read_bytes())
        with tifffile.TiffFile(path) as file:
            tag = file.pages[0].tags["TileByteCounts" if named == "tiles" else "StripByteCounts"]  # type: ignore[union-attr]
            width = {3: 2, 4: 4}[int(tag.dtype)]
            last = tag.valueoffset + width * (tag.count - 1)
        data[last : last + width] = bytes(width)
        with pytest.raises(PictureError, match=f"cut short: the data of its {named} ends before the pixels"):
            read(tmp_path, bytes(data))

    @pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd", "jpeg"])
    def test_compressed_data_that_ends_early(self, tmp_path: Path, compression: str, capfd: Any) -> None:
        data = encoded(Image.fromarray(RGB), "TIFF", compression=compression)
        with tifffile.TiffFile(_kept(tmp_path, data)) as file:
            length = file.pages[0].databytecounts[0]  # type: ignore[union-attr]
        named = "cut short: " if compression == "jpeg" else "libtiff reports: "
        with pytest.raises(PictureError, match=named):
            read(tmp_path, tagged(data, LENGTHS, length // 2))
        assert capfd.readouterr().err == ""

    def test_jpeg_data_in_many_scans(self, tmp_path: Path) -> None:
        pixels = encoded(Image.fromarray(GREY), "JPEG", progressive=True)
        tags = {256: (53,), 257: (70,), 258: (8,), 259: (7,), 262: (1,), 277: (1,), 278: (70,)}
        with pytest.raises(PictureError, match="holds progressive JPEG data"):
            read(tmp_path, tiff(tags, pixels))
        pixels = encoded(Image.fromarray(GREY), "JPEG")
        assert read(tmp_path, tiff(tags, pixels)).grey


def _kept(folder: Path, data: bytes) -> Path:
    (folder / "kept.tif").write_bytes(data)
    return folder / "kept.tif"


class TestMessages:
    """libtiff's errors, which it would write to stderr."""

    @pytest.fixture
    def damaged(self, tmp_path: Path) -> Path:
        """Pixels that are all there, with a checksum that is wrong, which Pillow passes over."""
        data = bytearray(encoded(Image.fromarray(RGB), "TIFF", compression="lzma"))
        with tifffile.TiffFile(_kept(tmp_path, bytes(data))) as file:
            page = file.pages[0]
            end = page.dataoffsets[0] + page.databytecounts[0]  # type: ignore[union-attr]
        data[end - 60 : end] = bytes(60)
        (tmp_path / "a.tif").write_bytes(data)
        return tmp_path / "a.tif"

    def test_are_errors_of_the_picture(self, damaged: Path, capfd: Any) -> None:
        with pytest.raises(PictureError, match=r"libtiff reports: Decoding error at scanline 0, data is corrupt"):
            read_picture(damaged)
        assert capfd.readouterr().err == ""

    def test_of_other_threads_go_where_they_went(self, damaged: Path, capfd: Any) -> None:
        def other() -> None:
            with Image.open(damaged) as image, suppress(OSError):
                image.load()

        with libtiff.errors() as heard:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join(20)
        assert heard == []
        assert "LZMADecode: Decoding error at scanline 0" in capfd.readouterr().err

    def test_are_let_be_where_libtiff_is_out_of_reach(self, damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(libtiff.ctypes, "CDLL", lambda _: object())
        assert libtiff._install.__wrapped__() is None
