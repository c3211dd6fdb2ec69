"""Every degradation gives pictures, from the random numbers it is given and no others, worse with more severity."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from mrs import degradations
from mrs.degradations import planes
from mrs.runtime.errors import InputError
from tests.mrs.degradations.pictures import Picture, natural, psnr

pytestmark = pytest.mark.slow(10)


def every(function: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("name", sorted(degradations.DEGRADATIONS))(function)


def each(function: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("name", sorted(degradations.TASKS))(function)


# What holds for all of them


@every
@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (1, 2, 3), (16, 3, 3), (1, 64, 3), (7, 300, 3), (37, 5, 3), (64, 64, 3)], ids=str
)
def test_shape_type_and_range(name: str, shape: tuple[int, ...]) -> None:
    for content in (0, 1, 0.5, np.random.default_rng(0).random(shape)):
        picture = np.broadcast_to(np.asarray(content, np.float32), shape)
        before = picture.copy()
        for seed, strength in enumerate((None, 0.0, 0.3, 1.0)):
            degraded = degradations.get(name)(picture, np.random.default_rng(seed), strength)
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


@every
def test_more_severity_is_worse(name: str) -> None:
    pictures, degrade = [natural(photo) for photo in ("astronaut", "coffee", "chelsea")], degradations.get(name)

    def mean(strength: float) -> float:
        # The same seeds at each severity: what differs is the severity.
        return float(
            np.mean([psnr(degrade(p, np.random.default_rng(i), strength), p) for p in pictures for i in range(8)])
        )

    found = [mean(strength) for strength in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert all(np.diff(found) < -0.3), found


@each
def test_a_drawn_severity_is_even(name: str) -> None:
    """Both ends are reached: the mean damage of a drawn severity is near that of the evenly spread ones."""
    picture, degrade = natural("astronaut"), degradations.get(name)
    steps = 16

    def damage(strength: float | None, seed: int) -> float:
        return psnr(degrade(picture, np.random.default_rng(seed), strength), picture)

    drawn = np.mean([damage(None, seed) for seed in range(3 * steps)])
    spread = np.mean([damage((seed % steps + 0.5) / steps, seed) for seed in range(3 * steps)])
    assert drawn == pytest.approx(spread, abs=1.5)


@every
@pytest.mark.parametrize("wrong", [-0.01, 1.01, math.nan, math.inf])
def test_a_severity_that_is_none(name: str, wrong: float) -> None:
    with pytest.raises(InputError, match=f"severity {wrong} is outside") as caught:
        degradations.get(name)(natural("coffee"), np.random.default_rng(0), wrong)
    assert "0 for the lightest" in caught.value.hint


@each
def test_a_patch_sees_what_a_part_of_a_picture_sees(name: str) -> None:
    """The mean damage does not depend on the size of the picture."""
    rng = np.random.default_rng(3)
    waves = planes.smooth_field(rng, 384, 384, (10.0, 60.0)) + planes.smooth_field(rng, 384, 384, (5.0, 20.0))
    picture = np.clip(0.45 + 0.12 * waves, 0, 1)[:, :, None] * np.array([1, 0.9, 0.8], np.float32)
    degrade = degradations.get(name)

    def damage(side: int, times: int) -> float:
        errors = []
        for seed in range(times):
            part = picture[seed : seed + side, seed : seed + side]
            degraded = degrade(part, np.random.default_rng([side, seed]), 0.5)
            errors.append(np.mean(np.square(degraded - part), dtype=np.float64))
        return float(-10 * np.log10(np.mean(errors)))

    assert damage(64, 100) == pytest.approx(damage(320, 8), abs=1.6)


@pytest.mark.parametrize("name", ["hail", "", "Rain"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(InputError) as caught:
        degradations.get(name)
    assert repr(name) in caught.value.message
    assert "rain" in caught.value.hint


def test_the_ten_tasks() -> None:
    names = "motion-blur haze jpeg low-light noise raindrop rain shadow snow inpainting"
    assert list(degradations.TASKS) == names.split()


# Mixed


def test_mixed_is_one_of_the_ten_and_each_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, float | None]] = []

    def named(name: str) -> Callable[..., Picture]:
        return lambda picture, rng, strength=None: calls.append((name, strength)) or picture

    for name in degradations.TASKS:
        monkeypatch.setitem(degradations.TASKS, name, named(name))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        degradations.get("mixed")(np.zeros((1, 1, 3), np.float32), rng, 0.25)
    counts = [sum(called == name for called, _ in calls) for name in degradations.TASKS]
    assert sum(counts) == 2000
    assert min(counts) > 150
    assert max(counts) < 250
    assert {strength for _, strength in calls} == {0.25}
