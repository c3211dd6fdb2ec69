"""Rain: as hard as it says, streaks that stand up, everywhere alike."""

from __future__ import annotations

import numpy as np
import pytest

from mrs.degradations.rain import MAX_OPACITY, PSNR_RANGE, rain
from tests.mrs.degradations.pictures import natural, psnr

pytestmark = pytest.mark.slow(6)


@pytest.mark.parametrize(("strength", "target"), [(0.0, 26), (0.25, 24), (1.0, 18)])
def test_rain_of_a_severity_has_its_psnr(strength: float, target: float) -> None:
    picture = natural("coffee")
    found = [psnr(rain(picture, np.random.default_rng(seed), strength), picture) for seed in range(10)]
    assert min(found) >= target - 0.01
    # Streaks that reach MAX_OPACITY lose some of their strength, more of them in a shower.
    assert np.mean(found) <= target + 0.5


def test_rain_without_a_severity_is_what_the_shipped_weights_were_measured_on() -> None:
    rained = rain(natural("astronaut"), np.random.default_rng(5))
    assert rained.sum(dtype=np.float64) == pytest.approx(38875.1830614, abs=1e-3)
    assert rained[17, 33].tolist() == pytest.approx([0.7952438593, 0.7707953453, 0.7402347326], abs=1e-6)


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
