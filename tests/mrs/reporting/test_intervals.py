from __future__ import annotations

import numpy as np
import pytest

from mrs.reporting.intervals import COVERAGE, of_median


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_too_few_samples_have_no_interval(count: int) -> None:
    assert of_median([1.0] * count) is None


@pytest.mark.parametrize("count", [5, 6, 7, 20, 31])
def test_intervals_hold_the_true_median_as_often_as_they_say(count: int) -> None:
    random = np.random.default_rng(0)
    found = [of_median(random.exponential(1.0, count).tolist()) for _ in range(2000)]
    held = np.mean([each.low <= np.log(2) <= each.high for each in found if each])
    # Four standard deviations of 2000 tosses below.
    assert held > COVERAGE - 4 * (COVERAGE * (1 - COVERAGE) / 2000) ** 0.5
    # Not by being as wide as they can be.
    assert count < 10 or held < 0.98


def test_the_bounds_are_samples_about_the_median() -> None:
    assert of_median([5.0, 1.0, 4.0, 2.0, 3.0]) == (3.0, 1.0, 5.0)
    # P(fewer than 3 of 10 below) = 0.055 on each side is too much, fewer than 2 is 0.011.
    assert of_median([float(value) for value in range(10)]) == (4.5, 1.0, 8.0)
