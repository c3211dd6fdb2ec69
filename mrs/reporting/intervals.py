"""How sure a figure of times is: intervals that assume nothing of how they are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np

# Of intervals of medians. Five rounds are the fewest of which the extremes hold the median so surely.
COVERAGE = 0.9


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
