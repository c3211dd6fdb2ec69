"""Pictures to search on: crops that fit their clean ones, alike each time, with whole pictures kept back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrs.runtime.errors import InputError
from mrs.tuning.pairs import read_pairs

SIDE = 32


def write(folder: Path, sizes: dict[str, tuple[int, int]], seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for name, size in sizes.items():
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return write(tmp_path / "clean", {f"{index}.png": (70, 100) for index in range(6)})


def test_one_crop_of_each_where_there_are_enough(clean) -> None:
    pairs = read_pairs(clean, None, SIDE + 3, 6, 4, "rain")
    assert pairs.degraded.shape == pairs.clean.shape == (6, SIDE, SIDE, 3)
    assert pairs.pictures == (0, 1, 2, 3, 4, 5)
    assert pairs.degradation == "rain"
    assert not np.array_equal(pairs.degraded, pairs.clean)
    again = read_pairs(clean, None, SIDE, 6, 4, "rain")
    assert again.digest == pairs.digest
    assert read_pairs(clean, None, SIDE, 6, 4, "haze").digest != pairs.digest


def test_several_crops_that_do_not_overlap_where_pictures_are_few(clean) -> None:
    pairs = read_pairs(clean, None, SIDE, 16, 4, None, "rain")
    assert len(pairs.clean) == 16
    assert len({crop.tobytes() for crop in pairs.clean}) == 16
    assert pairs.pictures == (0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5)
    whole = np.asarray(Image.open(clean / "0.png"))
    # 70 pixels hold two crops of 32 with 3 around them, 100 hold three with 2.
    tiles = {whole[3 + 32 * y : 35 + 32 * y, 2 + 32 * x : 34 + 32 * x].tobytes() for y in range(2) for x in range(3)}
    assert {crop.tobytes() for crop in pairs.clean[:3]} < tiles


def test_every_third_picture_is_kept_back_with_all_its_crops(clean) -> None:
    searched, unseen = read_pairs(clean, None, SIDE, 16, 4, "rain").divided()
    assert set(searched.pictures) == {0, 1, 3, 4}
    assert set(unseen.pictures) == {2, 5}
    assert len(searched.clean) + len(unseen.clean) == 16
    seen = {crop.tobytes() for crop in searched.clean}
    assert not any(crop.tobytes() in seen for crop in unseen.clean)


def test_small_pictures_make_room_for_others(tmp_path) -> None:
    sizes = {f"{index}.png": (20, 90) if index in (1, 4) else (64, 64) for index in range(8)}
    pairs = read_pairs(write(tmp_path / "mixed", sizes), None, SIDE, 6, 4, "rain")
    assert pairs.pictures == (0, 1, 2, 3, 4, 5)


def test_pairs_are_cut_alike_and_not_degraded_again(tmp_path) -> None:
    names = {f"{index}.png": (70, 70) for index in range(3)}
    write(tmp_path / "set" / "GT", names)
    for name in names:
        (tmp_path / "set" / "LQ").mkdir(exist_ok=True)
        picture = np.asarray(Image.open(tmp_path / "set" / "GT" / name))
        Image.fromarray(255 - picture).save(tmp_path / "set" / "LQ" / name)
    pairs = read_pairs(tmp_path / "set", None, SIDE, 9, 4, None, "rain")
    np.testing.assert_array_equal(pairs.degraded, 255 - pairs.clean)
    assert pairs.degradation is None
    beside = read_pairs(tmp_path / "set" / "LQ", tmp_path / "set" / "GT", SIDE, 9, 4)
    assert beside.digest == pairs.digest
    with pytest.raises(InputError, match="come in pairs"):
        read_pairs(tmp_path / "set", None, SIDE, 9, 4, "rain")


def test_the_bundled_pictures_are_clean() -> None:
    pairs = read_pairs(None, None, 64, 9, 4, None, "rain")
    assert set(pairs.pictures) == {0, 1, 2}
    assert len(pairs.divided()[1].clean) == 3


def test_what_cannot_be(clean, tmp_path) -> None:
    for arguments, says in (
        ((clean, None, 30, 6, 4, "rain"), "crops of 28 pixels are too small"),
        ((clean, None, SIDE, 2, 4, "rain"), "2 pictures are too few"),
        ((clean, None, SIDE, 6, 4), "nothing says what degrades"),
        ((clean, None, SIDE, 6, 4, "fog"), "degradation 'fog' is unknown"),
        ((clean, None, 80, 6, 4, "rain"), "0 pictures of at least 80x80 pixels are too few"),
        ((tmp_path / "none", None, SIDE, 6, 4, "rain"), "does not exist"),
    ):
        with pytest.raises(InputError, match=says):
            read_pairs(*arguments)
    write(tmp_path / "odd" / "GT", {f"{index}.png": (64, 64) for index in range(3)})
    write(tmp_path / "odd" / "LQ", {f"{index}.png": (32, 32) for index in range(3)})
    with pytest.raises(InputError, match=r"0.png: 32x32 pixels degraded and 64x64 clean are no pair"):
        read_pairs(tmp_path / "odd", None, SIDE, 6, 4)
