"""Calls that ask a pool for a worker and keep it until they are told to leave."""

from __future__ import annotations

import threading
from typing import Any

from mrs.runtime.errors import MrsError
from mrs.runtime.pool import Pool
from mrs.runtime.request import Cancellation, Request
from tests.runtime.on_threads import LIMIT


class Asking(Request):
    """A request that tells when its call is in the queue, and about to wait."""

    def __init__(self, timeout: float | None = None, cancellation: Cancellation | None = None) -> None:
        super().__init__(timeout, cancellation)
        self.queued = threading.Event()

    def left(self) -> float | None:
        self.queued.set()
        return super().left()


class Call(threading.Thread):
    """A call on a thread of its own, which keeps its worker until told to leave.

    Attributes:
        inside, leave, ended: it has its worker; it may give it back; it has done so or failed.
        settled: it is inside or has failed.
        got: the worker.
        error: with which it failed.
    """

    def __init__(self, pool: Pool[Any], request: Asking | None = None) -> None:
        super().__init__(daemon=True)
        self.pool, self.request = pool, request or Asking()
        self.inside, self.leave, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.settled = threading.Event()
        self.got: Any = None
        self.error: MrsError | None = None
        self.start()

    def run(self) -> None:
        try:
            with self.pool.worker(self.request) as self.got:
                self.inside.set()
                self.settled.set()
                assert self.leave.wait(LIMIT)
        except MrsError as error:
            self.error = error
        finally:
            self.ended.set()
            self.settled.set()

    def queued(self) -> Call:
        assert self.request.queued.wait(LIMIT)
        return self

    def has_it(self) -> Call:
        assert self.settled.wait(LIMIT)
        assert self.inside.is_set(), self.error
        return self

    def left(self) -> Call:
        """Let it go on, until it has ended."""
        self.leave.set()
        assert self.ended.wait(LIMIT)
        return self


def holding(pool: Pool[Any], count: int = 1) -> list[Call]:
    """Calls that have their workers."""
    return [Call(pool).has_it() for _ in range(count)]


def all_there(pool: Pool[Any], count: int) -> bool:
    """Whether so many calls find a worker without waiting."""
    calls = holding(pool, count)
    return len({call.left().got for call in calls}) == count
