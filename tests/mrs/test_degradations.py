"""Degradations give pictures, from the random numbers they are given and no others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from mrs import degradations
from mrs.degradations.rain import MAX_OPACITY, PSNR_RANGE, rain
from mrs.runtime.errors import InputError

Picture = NDArray[np.float32]

CROP = (slice(40, 168), slice(100, 260))


def natural(name: str) -> Picture:
    return getattr(data, name)()[CROP].astype(np.float32) / np.float32(255)


def psnr(a: Picture, b: Picture) -> float:
    return float(-10 * np.log10(np.mean(np.square(a.astype(np.float64) - b))))


def every(function: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("name", sorted(degradations.DEGRADATIONS))(function)


# What holds for all of them


@every
@pytest.mark.parametrize("shape", [(1, 1, 3), (16, 3, 3), (1, 64, 3), (37, 5, 3), (64, 64, 3)], ids=str)
@pytest.mark.parametrize("content", ["black", "white", "grey", "random"])
def test_shape_type_and_range(name: str, shape: tuple[int, ...], content: str) -> None:
    fill = {"black": 0, "white": 1, "grey": 0.5, "random": np.random.default_rng(0).random(shape)}[content]
    picture = np.broadcast_to(np.asarray(fill, np.float32), shape)
    before = picture.copy()
    for seed in range(5):
        degraded = degradations.get(name)(picture, np.random.default_rng(seed))
        assert degraded.shape == shape
        assert degraded.dtype == np.float32
        assert degraded.min() >= 0
        assert degraded.max() <= 1
        assert not np.shares_memory(degraded, picture)
    np.testing.assert_array_equal(picture, before)


@every
def test_everything_random_comes_from_the_generator(name: str) -> None:
    picture, degrade = natural("coffee"), degradations.get(name)
    first = degrade(picture, np.random.default_rng(7))
    np.testing.assert_array_equal(degrade(picture, np.random.default_rng(7)), first)
    assert not np.array_equal(degrade(picture, np.random.default_rng(8)), first)
    rng = np.random.default_rng(7)
    degrade(picture, rng)
    assert not np.array_equal(degrade(picture, rng), first)


@every
def test_any_memory_layout(name: str) -> None:
    picture, degrade = natural("chelsea"), degradations.get(name)
    flipped = picture[:, ::-1]
    expected = degrade(np.ascontiguousarray(flipped), np.random.default_rng(0))
    np.testing.assert_array_equal(degrade(flipped, np.random.default_rng(0)), expected)


@pytest.mark.parametrize("name", ["snow", "", "Rain"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(InputError) as caught:
        degradations.get(name)
    assert repr(name) in caught.value.message
    assert "rain" in caught.value.hint


# Rain


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_rain_on_photographs_spans_the_stated_psnr(name: str) -> None:
    picture = natural(name)
    low, high = PSNR_RANGE
    found = [psnr(rain(picture, np.random.default_rng(seed)), picture) for seed in range(25)]
    # Streaks that reach MAX_OPACITY lose a little of their strength.
    assert low - 0.01 <= min(found)
    assert max(found) <= high + 0.5
    assert min(found) < low + 2.5
    assert max(found) > high - 2.5


def test_rain_on_black_is_exact_and_grey() -> None:
    black = np.zeros((96, 96, 3), np.float32)
    for seed in range(10):
        rained = rain(black, np.random.default_rng(seed))
        low, high = PSNR_RANGE
        assert low - 0.01 <= psnr(rained, black) <= high + 0.5
        np.testing.assert_array_equal(rained[..., :1], rained[..., 1:2])
        np.testing.assert_array_equal(rained[..., :1], rained[..., 2:])


def test_rain_only_lightens_and_hides_nothing() -> None:
    picture = natural("astronaut")
    for seed in range(5):
        rained = rain(picture, np.random.default_rng(seed))
        assert (rained >= picture).all()
        opacity = (rained - picture)[picture < 0.9] / (1 - picture)[picture < 0.9]
        assert opacity.max() <= MAX_OPACITY + 1e-5


def test_rain_on_white_is_white() -> None:
    white = np.ones((32, 48, 3), np.float32)
    np.testing.assert_array_equal(rain(white, np.random.default_rng(0)), white)


def test_rain_is_streaks_that_stand_up() -> None:
    # Streaks are long along their motion: neighbours above and below are more alike than those beside.
    black = np.zeros((128, 128, 3), np.float32)
    for seed in range(5):
        rained = rain(black, np.random.default_rng(seed))[..., 0]
        down, across = np.abs(np.diff(rained, axis=0)).mean(), np.abs(np.diff(rained, axis=1)).mean()
        assert down < 0.8 * across


def test_rain_falls_evenly_to_the_rim() -> None:
    # Streaks enter from outside, and none that leaves comes back in on the other side.
    black = np.zeros((64, 64, 3), np.float32)
    all_rained = [rain(black, np.random.default_rng(seed))[..., 0] for seed in range(60)]
    alike = [np.corrcoef(rained[0], rained[-1])[0, 1] for rained in all_rained]
    assert abs(np.mean(alike)) < 0.1
    rained = np.mean(all_rained, axis=0)
    rim = np.concatenate([rained[:4].ravel(), rained[-4:].ravel(), rained[:, :4].ravel(), rained[:, -4:].ravel()])
    assert rim.mean() == pytest.approx(rained[16:48, 16:48].mean(), rel=0.15)
