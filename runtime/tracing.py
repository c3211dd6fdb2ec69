"""What restores spend their time on, recorded while somebody asks for it.

Otherwise it costs a restore one look at a variable for each kind of part, and an evaluation nothing: `timed` gives the
very function that it was given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# Parts that a restore has for each evaluation; all others have no number.
NUMBERED = ("network", "step")


@dataclass(frozen=True)
class Part:
    """Something that a restore did.

    Attributes:
        name: `restore` for a whole call, `wait` for a worker; `enlarge`, `conditioner`, `encode`, `start`, `network`,
            `step`, `decode`, `finish`; `graph` for a whole chain that a GPU was given at once, `launches` where it
            was given piece by piece.
        begin, end: seconds of the recorder's clock.
        thread: that did it, by its identity.
        worker: for which it did, from 1 in the order in which they came; None for what comes before and after.
        step: evaluation, from 0, within its chain's restore; None for what is done once.
    """

    name: str
    begin: float
    end: float
    thread: int
    worker: int | None
    step: int | None


class Recorder:
    """Takes parts from all threads.

    Args:
        now: a clock in seconds.

    Attributes:
        parts: in the order in which they ended.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.parts: list[Part] = []
        self._now = now
        self._numbers: dict[Hashable, int] = {}
        # Each thread writes its own entry alone.
        self._at: dict[int, int] = {}

    def enter(self, worker: Hashable) -> None:
        """This thread works for a worker from now on."""
        self._at[threading.get_ident()] = self._numbers.setdefault(worker, len(self._numbers) + 1)

    def leave(self) -> None:
        """This thread works for no worker any more."""
        self._at.pop(threading.get_ident(), None)

    def timed(self, name: str, work: Callable[P, R]) -> Callable[P, R]:
        """`work`, each call of which is recorded, whether it ends or fails."""
        steps = count() if name in NUMBERED else None

        def recorded(*arguments: P.args, **options: P.kwargs) -> R:
            thread = threading.get_ident()
            worker, step = self._at.get(thread), None if steps is None else next(steps)
            begin = self._now()
            try:
                return work(*arguments, **options)
            finally:
                self.parts.append(Part(name, begin, self._now(), thread, worker, step))

        return recorded


_active: Recorder | None = None


def active() -> Recorder | None:
    """What records in this process; None where nobody asks for it."""
    return _active


@contextmanager
def recording(recorder: Recorder | None = None) -> Iterator[Recorder]:
    """Record all restores of this process inside; the last to begin records alone."""
    global _active
    before, _active = _active, recorder or Recorder()
    try:
        yield _active
    finally:
        _active = before


def timed(name: str, work: Callable[P, R]) -> Callable[P, R]:
    """`work` itself, or one that is recorded, for one restore."""
    return work if _active is None else _active.timed(name, work)
