from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mrs.benchmarking.quality.intervals import interval


@pytest.mark.parametrize("count", [5, 24])
def test_intervals_are_those_of_scipy(count: int) -> None:
    # Skewed, where bias and acceleration matter.
    values = np.random.default_rng(count).exponential(3, count) ** 2
    found = interval(values.tolist())
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=50_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    plain = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(2)).confidence_interval
    width = theirs.high - theirs.low
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.04 * width)
    assert count == 5 or abs(theirs.high - plain.high) > 0.1 * width


def test_an_interval_is_the_same_each_time() -> None:
    values = np.random.default_rng(0).normal(30, 2, 11).tolist()
    assert interval(values) == interval(values)
    assert interval(values) != interval(values, seed=1)


def test_few_or_equal_pictures() -> None:
    assert interval([1.0, 2.0]) is None
    assert interval([0.25] * 4) == (0.25, 0.25)
    # All but one equal: as far from normal as can be.
    low, high = interval([1.0, 1.0, 1.0, 1.0, 5.0])
    assert 1 <= low < 1.8 < high <= 5
