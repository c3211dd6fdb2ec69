"""Seconds that may be spent, so that a command ends in time whatever the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


class Budget:
    """Starts work only where the longest of its kind so far would still fit.

    Args:
        seconds: to spend from now on.
        expected: seconds that the first of a kind may take, none by default.
        now: a clock in seconds.

    Attributes:
        left_out: what was not started, by name.
    """

    def __init__(
        self, seconds: float, expected: Mapping[str, float] | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.left_out: list[str] = []
        self._longest = dict(expected or {})
        self._now = now
        self._end = now() + seconds

    @property
    def left(self) -> float:
        """Seconds left, below 0 where too many were spent."""
        return self._end - self._now()

    def spend(self, kind: str, name: str, work: Callable[[], T]) -> T | None:
        """What `work` returns; None where it was left out."""
        if self.left <= self._longest.get(kind, 0.0):
            self.left_out.append(name)
            return None
        begin = self._now()
        try:
            return work()
        finally:
            self._longest[kind] = max(self._longest.get(kind, 0.0), self._now() - begin)
