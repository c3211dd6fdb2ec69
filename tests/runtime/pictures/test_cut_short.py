"""Files that end early but properly: an error, and no rows of black or grey. TIFF has its own."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mrs.runtime.errors import PictureError
from mrs.runtime.pictures.decoding import read_picture
from tests.runtime.pictures.picture_files import bmp, encoded, noise, png

RGB = noise(70, 53, 3)
GREY = np.full((70, 53, 3), 128, np.uint8)
SMOOTH = np.dstack([np.mgrid[:70, :53][0] * 3, np.mgrid[:70, :53][1] * 4, np.full((70, 53), 90)]).astype(np.uint8)


def read(folder: Path, data: bytes) -> Any:
    (folder / "a").write_bytes(data)
    return read_picture(folder / "a").rgb


class TestPng:
    def test_one_row_of_64(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match="cut short: it holds 65 of 4160 bytes of pixels"):
            read(tmp_path, png(64, 64, 8, 0, bytes(65)))
        assert read(tmp_path, png(64, 64, 8, 0, bytes(65 * 64))).shape == (64, 64, 3)

    @pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 5), (9, 1), (1, 9), (33, 17)], ids=str)
    def test_interlaced(self, tmp_path: Path, size: tuple[int, int]) -> None:
        width, height = size
        image = Image.fromarray(noise(height, width))
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        rows = b"".join(
            b"\0" + bytes(row)
            for x, y, right, down in passes
            for row in np.asarray(image)[y::down, x::right]
            if len(row)
        )
        plain = png(width, height, 8, 0, rows)
        data = plain[:28] + b"\1" + struct.pack(">I", zlib.crc32(plain[12:28] + b"\1")) + plain[33:]
        np.testing.assert_array_equal(read(tmp_path, data)[..., 0], np.asarray(image))
        short = png(width, height, 8, 0, rows[:-1])
        short = short[:28] + data[28:33] + short[33:]
        with pytest.raises(PictureError, match=f"it holds {len(rows) - 1} of {len(rows)} bytes"):
            read(tmp_path, short)

    def test_damage_below_a_right_checksum(self, tmp_path: Path) -> None:
        stream = bytearray(zlib.compress(RGB.tobytes()))
        stream[40] ^= 0xFF
        with pytest.raises(PictureError, match=r"its compressed pixels are damaged|cut short"):
            read(tmp_path, png(53, 70, 8, 2, bytes(stream), packed=True))


class TestJpeg:
    @pytest.mark.parametrize("pixels", [RGB, SMOOTH, RGB[..., 0].copy()], ids=["noise", "smooth", "grey"])
    @pytest.mark.parametrize(
        "options",
        [{}, {"subsampling": 0}, {"restart_marker_blocks": 3}, {"quality": 10}, {"progressive": True}],
        ids=str,
    )
    def test_the_end_is_put_where_pixels_are_missing(
        self, tmp_path: Path, pixels: Any, options: dict[str, Any]
    ) -> None:
        data = encoded(Image.fromarray(pixels), "JPEG", **options)
        read(tmp_path, data)
        first = data.index(b"\xff\xda") + 14
        for part in (0.02, 0.3, 0.6):
            cut = data[: first + int((len(data) - first) * part)].rstrip(b"\xff")
            with pytest.raises(PictureError, match=r"cut short"):
                read(tmp_path, cut + b"\xff\xd9")

    @pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 3}, {"progressive": True}], ids=str)
    def test_a_grey_picture_is_whole(self, tmp_path: Path, options: dict[str, Any]) -> None:
        for pixels in (GREY, GREY[..., 0].copy()):
            assert (read(tmp_path, encoded(Image.fromarray(pixels), "JPEG", **options)) == 128).all()

    def test_colours_that_never_come(self, tmp_path: Path) -> None:
        """One scan for each component, of which the last two are cut off."""
        data = encoded(Image.fromarray(SMOOTH), "JPEG", subsampling=0)
        scan = data.index(b"\xff\xda")
        alone = data[:scan] + struct.pack(">BBHBBBBBB", 0xFF, 0xDA, 8, 1, 1, 0, 0, 63, 0) + bytes(500) + b"\xff\xd9"
        with pytest.raises(PictureError, match="cut short: it has 1 scans, which are not all"):
            read(tmp_path, alone)


class TestWebp:
    @pytest.mark.parametrize("lossless", [False, True])
    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.98])
    def test_a_chunk_that_is_shorter(self, tmp_path: Path, part: float, lossless: bool) -> None:
        data = encoded(Image.fromarray(RGB), "WEBP", lossless=lossless)
        (length,) = struct.unpack_from("<I", data, 16)
        length = int(length * part) // 2 * 2
        body = data[8:16] + struct.pack("<I", length) + data[20 : 20 + length]
        with pytest.raises(PictureError, match="cannot decode"):
            read(tmp_path, b"RIFF" + struct.pack("<I", len(body)) + body)

    def test_pixels_of_another_size_than_the_canvas(self, tmp_path: Path) -> None:
        data = bytearray(encoded(Image.fromarray(RGB), "WEBP", exif=b"II*\0\0\0\0\0"))
        assert data[12:16] == b"VP8X"
        data[24] += 1
        with pytest.raises(PictureError, match="its canvas is 54x70, its pixels are 53x70"):
            read(tmp_path, bytes(data))


END, STOP = b"\0\0", b"\0\1"


class TestBmp:
    @pytest.mark.parametrize("half", [False, True], ids=["8 bits", "4 bits"])
    def test_runs_are_unpacked(self, tmp_path: Path, half: bool) -> None:
        if half:
            runs = b"\3\x12" + END + b"\0\3\x45\x60" + END + b"\1\x70\2\x89"
            rows = [[7, 8, 9], [4, 5, 6], [1, 2, 1]]
        else:
            runs = b"\3\x11" + END + b"\0\3\4\5\6\0" + END + b"\1\7\5\x09" + END + STOP
            rows = [[7, 9, 9], [4, 5, 6], [0x11] * 3]
        rgb = read(tmp_path, bmp(3, 3, runs, half))
        assert rgb[..., 0].tolist() == rows
        np.testing.assert_array_equal(rgb[..., 2], 255 - rgb[..., 0])

    def test_as_pillow_unpacks_them(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(3)
        rows = []
        for _ in range(9):
            row, left = b"", 300
            while left:
                count = min(left, int(rng.integers(1, 256)))
                if count > 2 and rng.integers(2):
                    row += bytes((0, count)) + rng.bytes(count) + bytes(count % 2)
                else:
                    row += bytes((count, int(rng.integers(256))))
                left -= count
            rows.append(row)
        data = bmp(300, 9, END.join(rows) + STOP)
        rgb = read(tmp_path, data)
        with Image.open(tmp_path / "a") as image:
            np.testing.assert_array_equal(rgb, np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize(
        ("runs", "named"),
        [
            (b"\3\1" + END + b"\1\1\1\1\1\1" + END, "it holds 2 of 3 rows"),
            (b"\3\1" + END + b"\3\1" + END + STOP, "leaves out pixels of row 2 of 3"),
            (b"\3\1" + END + END + b"\3\1" + STOP, "leaves out pixels of row 1 of 3"),
            (b"\3\1" + END + b"\0\2\0\1" + b"\3\1", "leaves out pixels of row 1 of 3"),
            (b"\3\1" + END + b"\3\1" + END + b"\0\3\1", "it holds 2 of 3 rows"),
            (b"\3\1\3\1\3\1" + END + END, "its row 0 of 3 is longer than 3 pixels"),
        ],
        ids=["ends", "stops", "skips a row", "jumps", "ends in pixels", "has no ends of rows"],
    )
    def test_runs_that_leave_pixels_out(self, tmp_path: Path, runs: bytes, named: str) -> None:
        with pytest.raises(PictureError, match=named):
            read(tmp_path, bmp(3, 3, runs))

    def test_many_rows_cost_no_more_than_their_pixels(self, tmp_path: Path) -> None:
        """Pillow appends each pixel that a row lacks by itself, and then needs minutes."""
        data = bmp(2000, 2000, (b"\xff\1" * 7 + b"\xd7\1" + END) * 2000)
        assert (read(tmp_path, data)[..., 0] == 1).all()
