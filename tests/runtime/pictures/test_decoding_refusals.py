"""Pictures of kinds that are not read, and damaged files, are refused by what they are."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFile

from mrs.runtime.errors import PictureError
from mrs.runtime.pictures import decoding as picture_decoding
from mrs.runtime.pictures.decoding import read_picture
from tests.runtime.pictures.picture_files import chunk, noise, png, read_saved, saved, tiff


def several_frames(folder: Path, form: str) -> Path:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    return saved(folder / "a", frames[0], form, save_all=True, append_images=frames[1:])


class TestKindsThatAreRefused:
    @pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
    def test_several_frames(self, tmp_path: Path, form: str) -> None:
        with pytest.raises(PictureError, match="holds several frames or pages") as caught:
            read_picture(several_frames(tmp_path, form))
        assert caught.value.hint

    @pytest.mark.parametrize(
        ("colour", "channels", "named"),
        [(2, 3, "16-bit colour"), (6, 4, "16-bit colour"), (4, 2, "16-bit grey with transparency")],
    )
    def test_16_bit_colour_png(self, tmp_path: Path, colour: int, channels: int, named: str) -> None:
        (tmp_path / "a.png").write_bytes(png(1, 1, 16, colour, bytes(1 + 2 * channels)))
        with pytest.raises(PictureError, match=f"holds {named}"):
            read_picture(tmp_path / "a.png")

    def test_16_bit_grey_png_with_a_transparent_level(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(png(1, 1, 16, 0, bytes(3), chunk(b"tRNS", b"\0\1")))
        with pytest.raises(PictureError, match="16-bit grey with transparency"):
            read_picture(tmp_path / "a.png")

    @pytest.mark.parametrize("planar", [1, 2])
    def test_16_bit_colour_tiff(self, tmp_path: Path, planar: int) -> None:
        tags = {256: (1,), 257: (1,), 258: (16, 16, 16), 259: (1,), 262: (2,), 277: (3,), 278: (1,), 284: (planar,)}
        (tmp_path / "a.tif").write_bytes(tiff(tags, bytes(6)))
        with pytest.raises(PictureError, match="holds 16-bit samples"):
            read_picture(tmp_path / "a.tif")

    def test_12_bit_tiff(self, tmp_path: Path) -> None:
        tags = {256: (2,), 257: (1,), 258: (12,), 259: (1,), 262: (1,), 277: (1,), 278: (1,)}
        (tmp_path / "a.tif").write_bytes(tiff(tags, bytes(3)))
        with pytest.raises(PictureError, match="holds 12-bit samples"):
            read_picture(tmp_path / "a.tif")

    @pytest.mark.parametrize(
        ("mode", "named"),
        [
            ("F", "signed or floating-point samples"),
            ("I", "signed or floating-point samples"),
            ("LAB", "pixels of mode LAB"),
            ("YCbCr", "pixels of mode YCbCr"),
        ],
    )
    def test_tiff_modes(self, tmp_path: Path, mode: str, named: str) -> None:
        with pytest.raises(PictureError, match=named):
            read_saved(tmp_path, Image.new(mode, (2, 2)), "TIFF")

    def test_another_format(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match="is not a PNG, JPEG, WebP, TIFF or BMP picture"):
            read_saved(tmp_path, Image.new("L", (2, 2)), "GIF")


class TestBadFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match=r"missing\.png does not exist"):
            read_picture(tmp_path / "missing.png")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match="is a folder, not a picture"):
            read_picture(tmp_path)

    def test_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.png")  # opening it would wait for a writer
        with pytest.raises(PictureError, match="is not a regular file"):
            read_picture(tmp_path / "a.png")

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").touch()
        with pytest.raises(PictureError, match=r"a\.png is empty"):
            read_picture(tmp_path / "a.png")

    def test_no_picture(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("hello")
        with pytest.raises(PictureError, match="is not a PNG, JPEG, WebP, TIFF or BMP picture"):
            read_picture(tmp_path / "a.png")

    def test_unreadable(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match=r"cannot read .*: File name too long"):
            read_picture(tmp_path / ("a" * 300))

    @pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # what Pillow says of a damaged TIFF directory
    @pytest.mark.parametrize(
        ("form", "options"),
        [
            ("PNG", {}),
            ("JPEG", {}),
            ("JPEG", {"progressive": True}),
            ("WEBP", {}),
            ("WEBP", {"lossless": True}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_adobe_deflate"}),
            ("BMP", {}),
        ],
    )
    def test_cut_short_anywhere(self, tmp_path: Path, form: str, options: Any) -> None:
        file = io.BytesIO()
        Image.fromarray(noise(8, 8, 3)).save(file, form, **options)
        data, path = file.getvalue(), tmp_path / "a"
        step = max(1, len(data) // 150)
        end = len(data) - (4 if form == "PNG" else 0)  # a PNG ends in the checksum of its empty last chunk
        for length in [*range(20, end - 20, step), *range(end - 20, end)]:
            path.write_bytes(data[:length])
            with pytest.raises(PictureError, match=r"cannot decode|is not a PNG") as caught:
                read_picture(path)
            assert "\n" not in str(caught.value)
            assert str(path) in caught.value.message
            assert caught.value.hint

    def test_a_flipped_bit_in_a_png(self, tmp_path: Path) -> None:
        data = bytearray(png(64, 64, 8, 0, bytes(65 * 64)))
        data[-20] ^= 1
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(PictureError, match=r"cannot decode .*checksum"):
            read_picture(tmp_path / "a.png")

    def test_a_png_without_pixels(self, tmp_path: Path) -> None:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b""))
        with pytest.raises(PictureError, match="it holds no pixels"):
            read_picture(tmp_path / "a.png")

    def test_a_later_picture_is_read_although_an_earlier_one_was_damaged(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.jpg", Image.fromarray(noise(64, 64, 3)), "JPEG")
        data = path.read_bytes()
        path.write_bytes(data[:-300])
        with pytest.raises(PictureError, match="truncated"):
            read_picture(path)
        assert not ImageFile.LOAD_TRUNCATED_IMAGES
        path.write_bytes(data)
        assert read_picture(path).rgb.shape == (64, 64, 3)

    def test_out_of_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr(picture_decoding, "_pixels", fail)
        with pytest.raises(PictureError, match="does not fit into memory"):
            read_saved(tmp_path, Image.new("L", (2, 2)), "PNG")
