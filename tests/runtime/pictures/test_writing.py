"""Pictures are written as they are, with what belongs to them, or not at all."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from mrs.runtime.errors import PictureError
from mrs.runtime.pictures import writing as pictures
from mrs.runtime.pictures.writing import SUFFIXES, Picture, check_target, read_picture, write_picture

LOSSLESS_SUFFIXES = [".png", ".tif", ".tiff", ".bmp", ".webp"]
METADATA_SUFFIXES = [".png", ".jpg", ".webp", ".tif"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]
MAKE, ORIENTATION, WIDTH, CAMERA, EXPOSURE, GPS = 271, 274, 256, 0x8769, 0x829A, 0x8825


def noise(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(5).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """Colours that lossy formats keep well."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / width, y * 255 / height, 255 - x * 255 / width], axis=2).astype(np.uint8)


def camera_exif(width: int = 4000) -> bytes:
    exif = Image.Exif()
    exif[MAKE], exif[ORIENTATION] = "Us", 1
    exif[WIDTH] = width  # as some cameras write it; in a TIFF it is the length of the stored rows
    exif[CAMERA] = {EXPOSURE: 0.5}
    exif[GPS] = {1: "N"}
    return exif.tobytes()


def stored(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        return np.array(image)


class TestLevels:
    @pytest.mark.parametrize("suffix", LOSSLESS_SUFFIXES)
    @pytest.mark.parametrize(
        "size", [(1, 1), (1, 5), (300, 7)], ids=str
    )  # 300 rows are more than are converted at once
    def test_lossless_formats_give_the_array_back(self, tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
        rgb = noise(*size, 3)
        path = tmp_path / f"a{suffix}"
        write_picture(path, rgb, Picture(rgb, lossless=True))
        np.testing.assert_array_equal(read_picture(path).rgb, rgb)

    @pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
    def test_jpeg_is_close_and_keeps_full_colour_resolution(self, tmp_path: Path, suffix: str) -> None:
        rgb = smooth(32, 32)
        rgb[::2, ::2] = 255, 0, 0  # single red pixels, which shared colour samples would blur
        path = tmp_path / f"a{suffix}"
        write_picture(path, rgb)
        assert np.abs(stored(path).astype(int) - rgb).mean() < 8
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert {layer[1:3] for layer in getattr(image, "layer", [])} == {(1, 1)}

    def test_webp_is_lossy_without_a_lossless_source(self, tmp_path: Path) -> None:
        rgb = noise(64, 64, 3)
        for name, like in (("none", None), ("lossy", Picture(rgb, lossless=False)), ("lossless", Picture(rgb))):
            write_picture(tmp_path / f"{name}.webp", rgb, like)
        assert [read_picture(tmp_path / f"{name}.webp").lossless for name in ("none", "lossy", "lossless")] == [
            False,
            False,
            True,
        ]

    @pytest.mark.parametrize("suffix", [".jpg", ".webp"])
    def test_quality_counts(self, tmp_path: Path, suffix: str) -> None:
        rgb, path = noise(64, 64, 3), tmp_path / f"a{suffix}"
        sizes = []
        for quality in (20, 95, 100):
            write_picture(path, rgb, overwrite=True, quality=quality)
            sizes.append(path.stat().st_size)
        assert sizes == sorted(set(sizes))
        write_picture(path, rgb, overwrite=True)
        assert path.stat().st_size == sizes[1]

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_every_level_survives_as_float(self, tmp_path: Path, dtype: Any) -> None:
        rgb = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
        write_picture(tmp_path / "a.png", (rgb / 255).astype(dtype))
        np.testing.assert_array_equal(stored(tmp_path / "a.png"), rgb)

    def test_floats_are_clipped_and_rounded_to_the_nearest_level(self, tmp_path: Path) -> None:
        rgb = np.array([[[-0.5, 1.5, 10.4 / 255], [10.6 / 255, 254.6 / 255, 0.4 / 255]]], np.float32)
        write_picture(tmp_path / "a.png", rgb)
        assert stored(tmp_path / "a.png").tolist() == [[[0, 255, 10], [11, 255, 0]]]

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_is_refused(self, tmp_path: Path, bad: float) -> None:
        rgb = np.zeros((300, 2, 3), np.float32)
        rgb[299, 1, 2] = bad
        with pytest.raises(PictureError, match=r"a\.png: pixels hold NaN or infinity"):
            write_picture(tmp_path / "a.png", rgb)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "rgb",
        [
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4, 4), np.uint8),
            np.zeros((1, 4, 4, 3), np.uint8),
            np.zeros((0, 4, 3), np.uint8),
            np.zeros((4, 4, 3), np.int32),
        ],
        ids=lambda array: f"{array.dtype}{array.shape}",
    )
    def test_other_arrays_are_refused(self, tmp_path: Path, rgb: NDArray[Any]) -> None:
        with pytest.raises(PictureError, match=r"pixels are \w+ of shape"):
            write_picture(tmp_path / "a.png", rgb)

    @pytest.mark.parametrize("quality", [0, 101])
    def test_quality_out_of_range_is_refused(self, tmp_path: Path, quality: int) -> None:
        with pytest.raises(PictureError, match=f"quality is {quality}"):
            write_picture(tmp_path / "a.jpg", noise(2, 2, 3), quality=quality)

    def test_a_view_that_is_not_contiguous_is_written(self, tmp_path: Path) -> None:
        rgb = noise(3, 5, 7).transpose(1, 2, 0)[::-1]
        write_picture(tmp_path / "a.png", rgb)
        np.testing.assert_array_equal(stored(tmp_path / "a.png"), rgb)


class TestGrey:
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg"])
    def test_written_as_the_rounded_mean(self, tmp_path: Path, suffix: str) -> None:
        like = Picture(np.zeros((1, 2, 3), np.uint8), grey=True)
        rgb = np.array([[[10, 11, 11], [10, 10, 11]]], np.uint8)
        for pixels in (rgb, (rgb / 255).astype(np.float32)):
            write_picture(tmp_path / f"a{suffix}", pixels, like, overwrite=True, quality=100)
            levels = stored(tmp_path / f"a{suffix}")
            assert levels.shape == (1, 2)
            assert np.abs(levels.astype(int) - [[11, 10]]).max() <= (1 if suffix == ".jpg" else 0)

    def test_webp_which_has_no_grey_gets_equal_channels(self, tmp_path: Path) -> None:
        like = Picture(np.zeros((1, 1, 3), np.uint8), np.full((1, 1), 9, np.uint8), grey=True)
        write_picture(tmp_path / "a.webp", np.array([[[10, 11, 12]]], np.uint8), like)
        assert stored(tmp_path / "a.webp").tolist() == [[[11, 11, 11, 9]]]

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_16_bits_survive(self, tmp_path: Path, suffix: str) -> None:
        levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        source, result = tmp_path / f"source{suffix}", tmp_path / f"result{suffix}"
        Image.fromarray(levels).save(source)
        like = read_picture(source)
        write_picture(result, like.rgb, like)
        np.testing.assert_array_equal(stored(result), levels)
        assert read_picture(result).bits == 16

    @pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".webp"])
    def test_16_bits_become_8_elsewhere(self, tmp_path: Path, suffix: str) -> None:
        like = Picture(np.full((2, 2, 3), 0.5, np.float32), grey=True, bits=16)
        write_picture(tmp_path / f"a{suffix}", like.rgb, like)
        result = read_picture(tmp_path / f"a{suffix}")
        assert result.bits == 8
        assert set(result.rgb.flat) == {128}

    def test_16_bits_become_8_beside_transparency(self, tmp_path: Path) -> None:
        like = Picture(np.full((2, 2, 3), 0.5, np.float32), np.full((2, 2), 9, np.uint8), grey=True, bits=16)
        write_picture(tmp_path / "a.png", like.rgb, like)
        assert stored(tmp_path / "a.png").tolist() == [[[128, 9]] * 2] * 2

    def test_8_bit_pixels_fill_the_range_of_16(self, tmp_path: Path) -> None:
        like = Picture(np.zeros((1, 3, 3), np.float32), grey=True, bits=16)
        write_picture(tmp_path / "a.png", np.array([[[0] * 3, [1] * 3, [255] * 3]], np.uint8), like)
        assert stored(tmp_path / "a.png").tolist() == [[0, 257, 65535]]


class TestTransparency:
    @pytest.mark.parametrize("grey", [False, True])
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
    def test_kept(self, tmp_path: Path, suffix: str, grey: bool) -> None:
        rgb, alpha = noise(5, 4, 3), noise(5, 4)
        alpha[0] = 0  # colours below full transparency count as well
        if grey:
            rgb[...] = rgb[..., :1]
        write_picture(tmp_path / f"a{suffix}", rgb, Picture(rgb, alpha, grey))
        result = read_picture(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(result.rgb, rgb)
        np.testing.assert_array_equal(result.alpha, alpha)
        assert result.grey == (grey and suffix != ".webp")

    @pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
    def test_refused_by_formats_without(self, tmp_path: Path, suffix: str) -> None:
        like = Picture(noise(2, 2, 3), np.array([[255, 255], [255, 254]], np.uint8))
        path = tmp_path / f"a{suffix}"
        with pytest.raises(PictureError, match="holds no transparency") as caught:
            check_target(path, like=like)
        assert ".png" in caught.value.hint
        with pytest.raises(PictureError, match="holds no transparency"):
            write_picture(path, like.rgb, like)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
    def test_full_opacity_is_not_missed(self, tmp_path: Path, suffix: str) -> None:
        like = Picture(noise(2, 2, 3), np.full((2, 2), 255, np.uint8))
        write_picture(tmp_path / f"a{suffix}", like.rgb, like)
        assert read_picture(tmp_path / f"a{suffix}").alpha is None

    def test_of_another_size_is_refused(self, tmp_path: Path) -> None:
        like = Picture(noise(2, 2, 3), np.zeros((2, 2), np.uint8))
        with pytest.raises(PictureError, match="4x3 pixels, but the source's transparency has 2x2"):
            write_picture(tmp_path / "a.png", noise(3, 4, 3), like)


class TestMetadata:
    @pytest.mark.parametrize("suffix", METADATA_SUFFIXES)
    @pytest.mark.parametrize("source", METADATA_SUFFIXES)
    def test_goes_from_every_format_to_every_other(self, tmp_path: Path, source: str, suffix: str) -> None:
        first, second = tmp_path / f"first{source}", tmp_path / f"second{suffix}"
        exif_bytes = camera_exif(width=9 if source == ".tif" else 4000)
        Image.fromarray(smooth(6, 9)).save(first, exif=exif_bytes, icc_profile=SRGB, dpi=(300, 150))
        like = read_picture(first)
        write_picture(second, like.rgb, like)
        with Image.open(second) as image:
            image.load()
            assert image.size == (9, 6)
            assert image.info["icc_profile"] == SRGB
            exif = image.getexif()
            assert exif[MAKE] == "Us"
            assert exif.get(ORIENTATION, 1) == 1
            assert exif.get_ifd(CAMERA)[EXPOSURE] == 0.5
            assert exif.get_ifd(GPS)[1] == "N"
            if ".webp" not in (source, suffix):
                assert image.info["dpi"] == pytest.approx((300, 150), abs=0.1)

    def test_a_rotated_photograph_is_upright_in_pixels_and_exif(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[ORIENTATION], exif[MAKE] = 6, "Us"
        Image.fromarray(smooth(6, 9)).save(tmp_path / "a.jpg", exif=exif)
        like = read_picture(tmp_path / "a.jpg")
        write_picture(tmp_path / "b.jpg", like.rgb, like)
        with Image.open(tmp_path / "b.jpg") as image:
            assert image.size == (6, 9)
            assert dict(image.getexif()) == {ORIENTATION: 1, MAKE: "Us"}

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
    def test_a_profile_of_grey_stays_with_grey(self, tmp_path: Path, suffix: str) -> None:
        like = Picture(noise(2, 2, 3), grey=True, icc=GREY_PROFILE)
        write_picture(tmp_path / f"a{suffix}", like.rgb, like)
        assert read_picture(tmp_path / f"a{suffix}").icc == GREY_PROFILE

    @pytest.mark.parametrize(
        ("suffix", "like", "named"),
        [
            (".bmp", Picture(noise(2, 2, 3), icc=SRGB), "BMP holds no ICC profile"),
            (".webp", Picture(noise(2, 2, 3), grey=True, icc=GREY_PROFILE), "WebP holds no ICC profile of grey"),
            (".jpg", Picture(noise(2, 2, 3), exif=bytes(65534)), "65534 bytes of EXIF, JPEG holds 65533"),
        ],
    )
    def test_what_a_format_cannot_hold_is_refused(self, tmp_path: Path, suffix: str, like: Picture, named: str) -> None:
        with pytest.raises(PictureError, match=named):
            check_target(tmp_path / f"a{suffix}", like=like)
        with pytest.raises(PictureError, match=named):
            write_picture(tmp_path / f"a{suffix}", like.rgb, like)
        assert list(tmp_path.iterdir()) == []

    def test_bmp_leaves_exif_out(self, tmp_path: Path) -> None:
        like = Picture(noise(2, 2, 3), exif=camera_exif(), dpi=(300, 300))
        write_picture(tmp_path / "a.bmp", like.rgb, like)
        result = read_picture(tmp_path / "a.bmp")
        assert result.exif is None
        assert result.dpi == pytest.approx((300, 300), abs=0.1)

    def test_metadata_that_cannot_be_encoded_is_an_error_and_leaves_no_file(self, tmp_path: Path) -> None:
        like = Picture(noise(2, 2, 3), exif=b"Exif\0\0junk")
        with pytest.raises(PictureError, match=r"cannot encode .*a\.tif as TIFF: "):
            write_picture(tmp_path / "a.tif", like.rgb, like)
        assert list(tmp_path.iterdir()) == []


class TestCheckTarget:
    def test_a_new_file_of_every_suffix_is_fine(self, tmp_path: Path) -> None:
        like = Picture(noise(2, 2, 3))
        for suffix in (*SUFFIXES, ".PNG"):
            check_target(tmp_path / f"a{suffix}", like=like)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(("name", "named"), [("a.gif", "the suffix .gif"), ("a", "a name without suffix")])
    def test_unsupported_suffix(self, tmp_path: Path, name: str, named: str) -> None:
        with pytest.raises(PictureError, match=f"{named} names no supported format") as caught:
            check_target(tmp_path / name)
        assert ".webp" in caught.value.hint

    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match="its folder does not exist"):
            check_target(tmp_path / "no" / "a.png")

    def test_folder_instead_of_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").mkdir()
        for overwrite in (False, True):
            with pytest.raises(PictureError, match="it is a folder"):
                check_target(tmp_path / "a.png", overwrite)

    def test_read_only_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda *_: False)  # for root, who may write everywhere
        with pytest.raises(PictureError, match="its folder is read-only"):
            check_target(tmp_path / "a.png")

    def test_an_existing_file_needs_overwrite(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(b"precious")
        with pytest.raises(PictureError, match=r"a\.png exists") as caught:
            check_target(path)
        assert "--overwrite" in caught.value.hint
        with pytest.raises(PictureError, match=r"a\.png exists"):
            write_picture(path, noise(2, 2, 3))
        assert path.read_bytes() == b"precious"
        check_target(path, overwrite=True)
        write_picture(path, noise(2, 2, 3), overwrite=True)
        assert read_picture(path).rgb.shape == (2, 2, 3)

    def test_a_link_to_nothing_counts_as_existing(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").symlink_to("gone.png")
        with pytest.raises(PictureError, match="exists"):
            check_target(tmp_path / "a.png")

    @pytest.mark.parametrize(("suffix", "side"), [(".jpg", 65500), (".webp", 16383)])
    def test_longest_side(self, tmp_path: Path, suffix: str, side: int) -> None:
        for shape in ((side + 1, 1, 3), (1, side + 1, 3)):
            like = Picture(np.zeros(shape, np.uint8))
            with pytest.raises(PictureError, match=f"is more than {side} a side"):
                check_target(tmp_path / f"a{suffix}", like=like)
        fits = Picture(np.zeros((side, 1, 3), np.uint8))
        write_picture(tmp_path / f"a{suffix}", fits.rgb, fits)
        assert read_picture(tmp_path / f"a{suffix}").rgb.shape == fits.rgb.shape


class TestAtomicity:
    def test_a_failure_while_writing_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> bytes:
            raise MemoryError

        path, old = tmp_path / "a.png", noise(2, 2, 3)
        write_picture(path, old)
        monkeypatch.setattr(pictures, "_encode", fail)
        with pytest.raises(PictureError, match=r"cannot encode .*: MemoryError"):
            write_picture(path, 255 - old, overwrite=True)
        assert list(tmp_path.iterdir()) == [path]
        np.testing.assert_array_equal(stored(path), old)

    def test_the_source_itself_can_be_replaced(self, tmp_path: Path) -> None:
        path, rgb = tmp_path / "a.png", noise(2, 2, 3)
        write_picture(path, rgb)
        like = read_picture(path)
        write_picture(path, 255 - rgb, replace(like, dpi=None), overwrite=True)
        np.testing.assert_array_equal(stored(path), 255 - rgb)
