"""How sure a mean over a few pictures is: bootstrap intervals of 95 %."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 9999
CONFIDENCE = 0.95
# Pictures without which there is no interval.
FEWEST = 3
# Values that are drawn at once: a row at a time would be slow, all of thousands of pictures large.
BLOCK = 4 << 20
_NORMAL = NormalDist()


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """The interval of a mean, by the bootstrap, bias-corrected and accelerated: BCa (Efron 1987,
    doi 10.1080/01621459.1987.10478410). Pictures are few and differ much, where the plain percentiles are too narrow.

    For a difference give the differences picture by picture: resampling then keeps the pairs together.

    Args:
        values: one for each picture.
        seed: of the resampling; equal values give equal intervals.

    Returns:
        Lower and upper end; None for fewer than `FEWEST` pictures, which say nothing of others.
    """
    sample = np.asarray(values, np.float64)
    count = len(sample)
    if count < FEWEST:
        return None
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    mean = sample.mean()
    means = resampled(sample, RESAMPLES, seed)
    # Ties, which few pictures make, count half. All resamples on one side has no finite correction.
    below = (np.sum(means < mean) + np.sum(means <= mean)) / (2 * RESAMPLES)
    bias = _NORMAL.inv_cdf(min(max(below, 1 / RESAMPLES), 1 - 1 / RESAMPLES))
    # The mean without one picture, less the mean of these means.
    pull = (sample - mean) / (count - 1)
    acceleration = float(np.sum(pull**3) / (6 * np.sum(pull**2) ** 1.5))

    def level(tail: float) -> float:
        z = bias + _NORMAL.inv_cdf(tail)
        return _NORMAL.cdf(bias + z / (1 - acceleration * z))

    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (level(tail), level(1 - tail))).tolist()
    return low, high


def resampled(sample: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of as many values as there are, drawn from them with replacement: one for each resample."""
    random, count = np.random.default_rng(seed), len(sample)
    return np.concatenate(
        [sample[random.integers(0, count, (rows, count))].mean(axis=1) for rows in _blocks(resamples, count)]
    )


def _blocks(rows: int, width: int) -> list[int]:
    """Rows in blocks of at most `BLOCK` values."""
    most = max(1, BLOCK // width)
    return [min(most, rows - begin) for begin in range(0, rows, most)]
