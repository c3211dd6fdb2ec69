"""How sure a figure is: intervals that assume nothing of how times and qualities are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np

from mrs.benchmarking.quality.intervals import resampled

# Of intervals of medians. Five rounds are the fewest of which the extremes hold the median so surely.
COVERAGE = 0.9
# Of intervals of means, which are drawn again and again from the pictures.
MEAN_COVERAGE = 0.95
DRAWS = 2000
FEWEST_PICTURES = 5


class Interval(NamedTuple):
    """A figure with the bounds between which the true one lies, as surely as the maker says."""

    middle: float
    low: float
    high: float


def of_median(samples: Sequence[float]) -> Interval | None:
    """The median between two of the samples that hold the true one with a probability of at least COVERAGE.

    How many samples lie below the true median is a toss of coins, whatever their distribution is (the sign test).

    Returns:
        None for so few samples that not even the smallest and the largest are so sure.
    """
    ordered, count = sorted(samples), len(samples)
    outside, skipped = 0, 0
    # Exact: whole numbers of 2^count. The bounds move inwards while what lies outside of them stays rare enough.
    while skipped < count // 2 and (outside := outside + 2 * comb(count, skipped)) <= (1 - COVERAGE) * 2**count:
        skipped += 1
    if not skipped:
        return None
    return Interval(float(np.median(ordered)), ordered[skipped - 1], ordered[-skipped])


@lru_cache(maxsize=1024)
def of_mean(values: tuple[float, ...]) -> Interval | None:
    """The mean with its bootstrap interval: percentiles of the means of pictures drawn again, always the same draws.

    Returns:
        None for fewer than FEWEST_PICTURES values, of which a bootstrap says too little.
    """
    if len(values) < FEWEST_PICTURES:
        return None
    sample = np.asarray(values, np.float64)
    tail = 50 * (1 - MEAN_COVERAGE)
    low, high = np.percentile(resampled(sample, DRAWS, seed=0), (tail, 100 - tail)).tolist()
    return Interval(float(sample.mean()), low, high)
