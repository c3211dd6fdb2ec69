"""Evaluations counted, where a build takes minutes of them: a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from mrs.runtime.chain import Loop

# Seconds between two lines; what is over before the first says nothing.
OFTEN = 5.0


class Counted:
    """Called before each evaluation, as of `CpuChain.restore_into`; a GPU's restores count as one.

    Args:
        what: is evaluated, as the line begins.
        total: number of evaluations.
        report: gets the lines.
        now: a clock in seconds.
    """

    def __init__(
        self, what: str, total: int, report: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._total, self._report, self._now = what, total, report, now
        self._begun, self._told = 0, now()

    def __call__(self) -> None:
        """One more begins."""
        # Timing goes on beyond the least rounds, for seconds.
        if self._begun < self._total and self._now() - self._told >= OFTEN:
            self._told = self._now()
            self._report(f"{self._what}: {self._begun}/{self._total} evaluations")
        self._begun += 1


def evaluations(loops: Iterable[Loop], pictures: int = 1) -> int:
    """How many restores of so many pictures take, by each of these loops."""
    return pictures * sum(len(loop.table.rows) for loop in loops)
