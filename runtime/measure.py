"""Times of several works compared: in turn, so that a machine that drifts hits all alike; and how they spread."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)


class Spread(NamedTuple):
    """Median, quartiles, 90th and 99th percentile of some samples, between which is interpolated."""

    median: float
    q1: float
    q3: float
    p90: float
    p99: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Of at least one sample."""
        q1, median, q3, p90, p99 = np.percentile(samples, (25, 50, 75, 90, 99)).tolist()
        return cls(median, q1, q3, p90, p99)

    @property
    def jitter(self) -> float:
        """How much slower than the median the slowest hundredth begins, as a share of the median."""
        return self.p99 / self.median - 1


def ratios(samples: Sequence[float], to: Sequence[float]) -> list[float]:
    """Each sample against the other of its round: the machine may change its speed between rounds."""
    return [one / other for one, other in zip(samples, to, strict=True)]


def interleaved(
    works: Mapping[Key, Callable[[], object]],
    *,
    least: int,
    most: int | None = None,
    seconds: float = 0.0,
    limits: Mapping[Key, int] | None = None,
    now: Callable[[], float] = time.perf_counter,
) -> dict[Key, list[float]]:
    """Milliseconds of each work, once in each round.

    Args:
        works: by name, in the order in which they run.
        least: rounds, at least.
        most: rounds, at most; None for as many as there is time for.
        seconds: after which, beyond the least rounds, no other begins.
        limits: of some works the most samples, which are those of the first rounds.
        now: a clock in seconds.
    """
    samples: dict[Key, list[float]] = {key: [] for key in works}
    end, done = now() + seconds, 0
    while done < least or (now() < end and (most is None or done < most)):
        for key, work in works.items():
            if limits is not None and done >= limits.get(key, done + 1):
                continue
            begin = now()
            work()
            samples[key].append(1e3 * (now() - begin))
        done += 1
    return samples
