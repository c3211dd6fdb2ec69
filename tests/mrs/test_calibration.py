"""Calibration pictures: the bundled ones are the same every time, a user's folder is cropped and judged by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mrs import calibration
from mrs.calibration import calibration_pairs
from mrs.runtime.errors import InputError, PictureError
from mrs.runtime.psnr import psnr


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# The bundled ones


def test_the_bundled_pictures_are_the_same_every_time() -> None:
    first, again = (calibration_pairs(None, "rain", 16) for _ in range(2))
    assert 1 <= len(first) <= calibration.MOST
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.degraded, other.degraded)
        np.testing.assert_array_equal(one.clean, other.clean)
    # Each picture has its own rain.
    differences = [pair.degraded.astype(int) - np.asarray(pair.clean) for pair in first]
    assert len({difference.tobytes() for difference in differences}) == len(first)


@pytest.mark.parametrize("multiple", [1, 16, 48])
def test_the_bundled_pictures_fit_the_network(multiple: int) -> None:
    for pair in calibration_pairs(None, "rain", multiple):
        assert pair.clean is not None
        assert pair.degraded.shape == pair.clean.shape
        assert pair.degraded.dtype == pair.clean.dtype == np.uint8
        assert pair.degraded.flags.c_contiguous
        assert all(0 < side <= calibration.LARGEST and side % multiple == 0 for side in pair.degraded.shape[:2])
        assert 15 < psnr(pair.degraded, pair.clean) < 30


def test_they_are_no_ground_truth_for_another_degradation() -> None:
    for pair, known in zip(calibration_pairs(None, None, 16), calibration_pairs(None, "rain", 16), strict=True):
        assert pair.clean is None
        np.testing.assert_array_equal(pair.degraded, known.degraded)


def test_a_network_too_coarse_for_the_bundled_pictures() -> None:
    with pytest.raises(InputError, match="bundled calibration pictures are smaller than 1024x1024"):
        calibration_pairs(None, None, 1024)


# A folder


def test_a_folder_is_cropped_in_the_middle(tmp_path: Path) -> None:
    picture = noise(21, 30)
    Image.fromarray(picture).save(tmp_path / "a.png")
    (pair,) = calibration_pairs(tmp_path, "rain", 8)
    # Already degraded: nothing is laid over it, and nobody knows its original.
    np.testing.assert_array_equal(pair.degraded, picture[2:18, 3:27])
    assert pair.clean is None


def test_large_pictures_are_cut_to_a_few_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "LARGEST", 18)
    picture = noise(40, 20)
    Image.fromarray(picture).save(tmp_path / "a.png")
    (pair,) = calibration_pairs(str(tmp_path), None, 4)
    np.testing.assert_array_equal(pair.degraded, picture[12:28, 2:18])


def test_the_first_by_name_that_are_large_enough(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for index, name in enumerate(["c.png", "a.png", "deep/b.png", "f.png", "e.png", "g.png"]):
        Image.fromarray(noise(8, 8, index)).save(tmp_path / name)
    Image.fromarray(noise(7, 30)).save(tmp_path / "b.png")
    (tmp_path / "notes.txt").write_text("no picture")
    pairs = calibration_pairs(tmp_path, None, 8)
    assert len(pairs) == calibration.MOST
    for pair, index in zip(pairs, (1, 0, 2, 4), strict=True):
        np.testing.assert_array_equal(pair.degraded, noise(8, 8, index))


def test_grey_pictures_have_three_channels(tmp_path: Path) -> None:
    Image.fromarray(noise(8, 8)[:, :, 0]).save(tmp_path / "a.png")
    (pair,) = calibration_pairs(tmp_path, None, 8)
    np.testing.assert_array_equal(pair.degraded, np.repeat(noise(8, 8)[:, :, :1], 3, axis=2))


def test_deep_pictures_are_rounded_to_bytes(tmp_path: Path) -> None:
    levels = noise(8, 8)[:, :, 0]
    Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "a.png")
    (pair,) = calibration_pairs(tmp_path, None, 8)
    assert pair.degraded.dtype == np.uint8
    np.testing.assert_array_equal(pair.degraded[:, :, 0], levels)


@pytest.mark.parametrize("name", ["none", "file"])
def test_a_folder_that_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=f"calibration folder .*{name} does not exist"):
        calibration_pairs(tmp_path / name, None, 8)


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(InputError, match="holds no pictures"):
        calibration_pairs(tmp_path, None, 8)


def test_a_folder_of_pictures_that_are_too_small(tmp_path: Path) -> None:
    Image.fromarray(noise(7, 30)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="holds no picture of at least 8x8 pixels"):
        calibration_pairs(tmp_path, None, 8)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(PictureError, match=r"a\.png"):
        calibration_pairs(tmp_path, None, 8)
