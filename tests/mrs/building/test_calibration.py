"""Pictures to calibrate and to tune on: the bundled ones never change, a folder's are cropped and chosen by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mrs import degradations
from mrs.building import calibration
from mrs.building.calibration import calibration_pairs, tuning_pictures
from mrs.degradations import DEGRADATIONS
from mrs.runtime.enlarging import enlarged_levels
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


@pytest.mark.parametrize(("multiple", "upscale"), [(16, 4), (4, 3)])
def test_pictures_of_super_resolution_are_scaled_down_and_enlarged(multiple: int, upscale: int) -> None:
    for pair in calibration_pairs(None, None, multiple, upscale=upscale):
        assert pair.clean is not None
        height, width = pair.clean.shape[:2]
        assert pair.degraded.shape == pair.clean.shape
        assert not any(side % multiple or side % upscale for side in (height, width))
        small = Image.fromarray(pair.clean).resize((width // upscale, height // upscale), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(pair.degraded, enlarged_levels(np.asarray(small), upscale))
        assert 18 < psnr(pair.degraded, pair.clean) < 40


def test_a_folder_of_small_pictures_is_enlarged(tmp_path: Path) -> None:
    small = noise(41, 33)
    Image.fromarray(small).save(tmp_path / "a.png")
    (pair,) = calibration_pairs(tmp_path, None, 16, upscale=4)
    np.testing.assert_array_equal(pair.degraded, enlarged_levels(small[:40, :32][:, :], 4))
    assert pair.degraded.shape == (160, 128, 3)
    assert pair.clean is None
    with pytest.raises(InputError, match="no picture of at least 64x64 pixels"):
        calibration_pairs(tmp_path, None, 64, upscale=3)


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


# Pictures to tune on


def numbered(folder: Path, count: int, height: int = 24, width: int = 24) -> None:
    """Pictures whose order by name is the number in each of their values."""
    folder.mkdir(exist_ok=True)
    for index in range(count):
        Image.fromarray(np.full((height, width, 3), index, np.uint8)).save(folder / f"{index:03}.png")


def numbers(pictures: NDArray[np.uint8]) -> list[int]:
    assert all(len(np.unique(picture)) == 1 for picture in pictures)
    return [int(picture[0, 0, 0]) for picture in pictures]


@pytest.mark.parametrize(("side", "multiple", "expected"), [(64, 16, 64), (70, 16, 64), (50, 1, 50), (1000, 16, None)])
def test_the_bundled_pictures_are_what_is_tuned_on_by_default(side: int, multiple: int, expected: int | None) -> None:
    pairs = calibration_pairs(None, None, multiple)
    expected = expected or min(length for pair in pairs for length in pair.degraded.shape[:2])
    pictures = tuning_pictures(None, None, side, 10, multiple)
    assert pictures.shape == (len(pairs), expected, expected, 3)
    assert pictures.dtype == np.uint8
    for picture, pair in zip(pictures, pairs, strict=True):
        top, left = ((length - expected) // 2 for length in pair.degraded.shape[:2])
        np.testing.assert_array_equal(picture, pair.degraded[top : top + expected, left : left + expected])
    np.testing.assert_array_equal(tuning_pictures(None, None, side, 2, multiple), pictures[:2])


@pytest.mark.parametrize(("side", "multiple", "crop"), [(16, 8, 16), (19, 8, 16), (9, 1, 9), (8, 8, 8)])
def test_pictures_of_a_folder_are_cropped_in_their_middle(tmp_path: Path, side: int, multiple: int, crop: int) -> None:
    picture = noise(21, 30)
    Image.fromarray(picture).save(tmp_path / "a.png")
    pictures = tuning_pictures(tmp_path, None, side, 10, multiple)
    assert pictures.shape == (1, crop, crop, 3)
    top, left = (21 - crop) // 2, (30 - crop) // 2
    np.testing.assert_array_equal(pictures[0], picture[top : top + crop, left : left + crop])


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (3, 10, [0, 1, 2]),
        (10, 10, list(range(10))),
        (11, 5, [0, 2, 4, 6, 8]),
        (19, 10, [0, 1, 3, 5, 7, 9, 11, 13, 15, 17]),
        (24, 4, [0, 6, 12, 18]),
        (5, 1, [0]),
    ],
)
def test_the_pictures_lie_evenly_over_the_folder(tmp_path: Path, count: int, most: int, expected: list[int]) -> None:
    numbered(tmp_path, count)
    assert numbers(tuning_pictures(tmp_path, None, 24, most, 8)) == expected


def test_pictures_that_are_too_small_make_way_for_others(tmp_path: Path) -> None:
    """Here every second one is a thumbnail, so that no evenly spaced one is large enough."""
    numbered(tmp_path, 8)
    for index in range(0, 8, 2):
        Image.fromarray(noise(8, 30)).save(tmp_path / f"{index:03}.png")
    assert numbers(tuning_pictures(tmp_path, None, 16, 4, 8)) == [1, 3, 5, 7]
    assert numbers(tuning_pictures(tmp_path, None, 16, 2, 8)) == [1, 3]


def test_folders_below_are_searched_and_other_files_left(tmp_path: Path) -> None:
    numbered(tmp_path, 2)
    numbered(tmp_path / "deep", 1)
    (tmp_path / "a.txt").write_text("no picture")
    assert len(tuning_pictures(tmp_path, None, 8, 10, 8)) == 3


def test_clean_pictures_are_degraded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = [noise(20, 20, seed) for seed in range(3)]
    for index, picture in enumerate(clean):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    given = []

    def darker(picture: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        assert picture.dtype == np.float32
        given.append((np.rint(picture * 255).astype(np.uint8), rng.random()))
        return picture / 2

    monkeypatch.setitem(degradations.DEGRADATIONS, "dusk", darker)
    dark = tuning_pictures(tmp_path, "dusk", 16, 10, 8)
    # What is degraded is the crop, each with a stream of its own.
    for (seen, _), picture in zip(given, clean, strict=True):
        np.testing.assert_array_equal(seen, picture[2:18, 2:18])
    assert len({draw for _, draw in given}) == 3
    np.testing.assert_array_equal(dark, np.rint(np.stack(clean)[:, 2:18, 2:18] / 510 * 255).astype(np.uint8))


def test_the_rain_is_the_same_each_time(tmp_path: Path) -> None:
    for index in range(2):
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / f"{index}.png")
    first, again = (tuning_pictures(tmp_path, "rain", 32, 10, 8) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.max() > 100
    assert not np.array_equal(first[0], first[1])
    # The pictures that quality is measured on later are rained on with other seeds.
    measured = degradations.get("rain")(np.full((32, 32, 3), 90 / 255, np.float32), np.random.default_rng([0, 0]))
    assert not np.array_equal(first[0], np.rint(measured * 255).astype(np.uint8))


@pytest.mark.parametrize("bundled", [True, False])
def test_crops_smaller_than_the_network_takes(tmp_path: Path, bundled: bool) -> None:
    numbered(tmp_path, 1)
    with pytest.raises(InputError) as caught:
        tuning_pictures(None if bundled else tmp_path, None, 15, 10, 16)
    assert caught.value.message == "crops of 15 pixels are too small"
    assert caught.value.hint == "this network needs at least 16"


def test_what_cannot_be_tuned_on(tmp_path: Path) -> None:
    numbered(tmp_path / "small", 3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("no picture")
    for folder, degradation, message, hint in (
        (None, "rain", "the bundled pictures are degraded already", "give a folder with the degradation"),
        (tmp_path / "small", "fog", "degradation 'fog' is unknown", f"use one of {', '.join(sorted(DEGRADATIONS))}"),
        (tmp_path / "none", None, f"folder {tmp_path / 'none'} does not exist", "give a folder of pictures"),
        (tmp_path / "small" / "000.png", None, "000.png does not exist", "give a folder of pictures"),
        (tmp_path / "empty", None, "empty holds no picture of at least 32x32 pixels", "use a smaller crop"),
        # Crops of 39 pixels are 32 to a network that takes multiples of 16.
        (tmp_path / "small", None, "small holds no picture of at least 32x32 pixels", "use a smaller crop"),
    ):
        with pytest.raises(InputError) as caught:
            tuning_pictures(folder, degradation, 39, 10, 16)
        assert message in caught.value.message
        assert caught.value.hint == hint
    with pytest.raises(PictureError, match=r"a\.png"):
        tuning_pictures(tmp_path / "broken", None, 32, 10, 16)


def test_a_network_of_dear_evaluations_has_smaller_pictures() -> None:
    """And never larger ones than others."""
    assert all(pair.degraded.shape == (48, 48, 3) for pair in calibration_pairs(None, "rain", 16, side=63))
    shapes = [pair.degraded.shape for pair in calibration_pairs(None, "rain", 16)]
    assert [pair.degraded.shape for pair in calibration_pairs(None, "rain", 16, side=999)] == shapes


def test_pictures_of_so_much_noise() -> None:
    (pair, *_) = calibration_pairs(None, None, 16, noise_sigma=25)
    noise = pair.degraded.astype(float) - pair.clean
    inside = (pair.clean > 80) & (pair.clean < 175)
    assert noise[inside].std() == pytest.approx(25, rel=0.03)
