from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mrs.benchmarking.quality import intervals
from mrs.benchmarking.quality.intervals import interval


def test_intervals_are_those_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    # Skewed, where bias and acceleration matter, and with so many resamples that both can be told from chance.
    values = np.random.default_rng(24).exponential(3, 24) ** 3
    monkeypatch.setattr(intervals, "RESAMPLES", 200_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=200_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert interval(values.tolist()) == pytest.approx(tuple(theirs), abs=0.01 * (theirs.high - theirs.low))


def test_an_interval_is_the_same_each_time() -> None:
    values = np.random.default_rng(0).normal(30, 2, 11).tolist()
    assert interval(values) == interval(values)
    assert interval(values) != interval(values, seed=1)


def test_resamples_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [float(value) for value in range(50)]
    whole = interval(values)
    monkeypatch.setattr(intervals, "BLOCK", 50 * 7)
    assert interval(values) == pytest.approx(whole)


def test_few_or_equal_pictures() -> None:
    assert interval([1.0, 2.0]) is None
    assert interval([0.25] * 4) == (0.25, 0.25)
    # All but one equal: as far from normal as can be.
    low, high = interval([1.0, 1.0, 1.0, 1.0, 5.0])
    assert 1 <= low < 1.8 < high <= 5
