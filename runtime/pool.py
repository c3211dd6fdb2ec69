"""Workers shared by threads: first come, first served, with a bounded queue, deadlines and cancellation."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from mrs.runtime.errors import BusyError, CancelledError, DeadlineError, InputError

W = TypeVar("W")


class Cancellation:
    """Cancels the calls that it was given to, as long as they wait: for a worker, or between two tiles."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[threading.Event] = []
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel, from any thread; again has no effect."""
        with self._lock:
            self._cancelled = True
            for event in self._waiting:
                event.set()

    @contextmanager
    def waking(self, event: threading.Event) -> Iterator[None]:
        """Set an event when cancelled, which may be at once."""
        with self._lock:
            self._waiting.append(event)
            if self._cancelled:
                event.set()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.remove(event)


class Request:
    """A call's deadline and cancellation.

    Args:
        timeout: seconds from now to wait for a worker, 0 to take one that is free or none; None for any time.
        cancellation: that may end the call before that; None for none.

    Raises:
        InputError: for a timeout below 0.
    """

    def __init__(self, timeout: float | None = None, cancellation: Cancellation | None = None) -> None:
        # The comparison is false for NaN.
        if timeout is not None and not timeout >= 0:
            raise InputError(f"timeout {timeout} is not a number of seconds from 0 on")
        self.timeout = timeout
        self.cancellation = cancellation
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Seconds left, at least 0, at most what can be waited for; None without a deadline."""
        return None if self._end is None else min(max(0.0, self._end - time.monotonic()), threading.TIMEOUT_MAX)

    def check_launch(self) -> None:
        """Refuse to launch where the call is cancelled or too late.

        Raises:
            CancelledError, DeadlineError: if so.
        """
        self.check()
        # Without any time to wait a worker that is free at once is in time.
        if self._end is not None and self.timeout and time.monotonic() > self._end:
            raise self.too_late()

    def too_late(self) -> DeadlineError:
        """What to raise where no worker came in time."""
        return DeadlineError(
            f"no worker was free within {self.timeout:g} s", hint="give more time, or load with more workers"
        )

    def check(self) -> None:
        """Refuse to go on where the call is cancelled.

        Raises:
            CancelledError: if so.
        """
        if self.cancellation is not None and self.cancellation.cancelled:
            raise CancelledError("the call was cancelled before its restore was complete")


class Pool(Generic[W]):
    """Hands each worker to one thread at a time, in the order in which they asked.

    Args:
        workers: at least one.
        queue: how many calls may wait; one more is refused.
    """

    def __init__(self, workers: Sequence[W], queue: int) -> None:
        self._lock = threading.Lock()
        self._workers = tuple(workers)
        self._free = deque(workers)
        self._waiting: deque[_Place[W]] = deque()
        self._queue = queue
        self._closed = False
        self._all_free = threading.Condition(self._lock)
        self._gathering = threading.Lock()
        self._mine = threading.local()

    @contextmanager
    def worker(self, request: Request) -> Iterator[W]:
        """A worker for this thread alone; the next in line gets it afterwards.

        Raises:
            InputError: where this thread has one already, or the pool is closed.
            BusyError: where the queue is full.
            DeadlineError, CancelledError: as the request says.
        """
        self._check_alone()
        taken = self._take(request)
        self._mine.busy = True
        try:
            yield taken
        finally:
            self._mine.busy = False
            self._give_back(taken)

    @contextmanager
    def every_worker(self) -> Iterator[Sequence[W]]:
        """All workers, when each has come back.

        Raises:
            InputError: where this thread has one already, or the pool is closed.
            BusyError: where the queue is full.
        """
        self._check_alone()
        taken: list[W] = []
        # Two threads that each have some would wait for each other.
        with self._gathering:
            self._mine.busy = True
            try:
                for _ in self._workers:
                    taken.append(self._take(Request()))
                yield tuple(taken)
            finally:
                self._mine.busy = False
                for worker in taken:
                    self._give_back(worker)

    def close(self) -> tuple[W, ...]:
        """Refuse all calls from now on, those that wait too, and wait for those that run.

        Returns:
            All workers the first time, none afterwards.

        Raises:
            InputError: from within a restore, which would wait for itself.
        """
        self._check_alone()
        with self._lock:
            first, self._closed = not self._closed, True
            for place in self._waiting:
                place.event.set()
            while len(self._free) < len(self._workers):
                self._all_free.wait()
        return self._workers if first else ()

    def _take(self, request: Request) -> W:
        request.check_launch()
        with self._lock:
            self._check_open()
            if self._free and not self._waiting:
                return self._free.popleft()
            if len(self._waiting) >= self._queue:
                raise BusyError(
                    f"{len(self._waiting)} calls are waiting for {len(self._workers)} workers",
                    hint="call less often, or load with more workers or a longer queue",
                )
            place: _Place[W] = _Place()
            self._waiting.append(place)
        try:
            self._wait(place, request)
        except BaseException:
            # A worker may have come in the meantime, even with an interrupt.
            with self._lock:
                if place.worker is None:
                    self._waiting.remove(place)
                    raise
            self._give_back(place.worker)
            raise
        assert place.worker is not None
        return place.worker

    def _wait(self, place: _Place[W], request: Request) -> None:
        cancellation = request.cancellation or Cancellation()
        with cancellation.waking(place.event):
            place.event.wait(request.left())
        request.check_launch()
        with self._lock:
            if place.worker is None:
                self._check_open()
                raise request.too_late()

    def _give_back(self, worker: W) -> None:
        with self._lock:
            if self._waiting and not self._closed:
                place = self._waiting.popleft()
                place.worker = worker
                place.event.set()
            else:
                self._free.append(worker)
                self._all_free.notify_all()

    def _check_alone(self) -> None:
        if getattr(self._mine, "busy", False):
            # With one worker it would wait for itself.
            raise InputError(
                "a restorer was called from within its own restore",
                hint="wait until it has ended, or load the plan a second time",
            )

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("this restorer is closed", hint="load the plan again")


class _Place(Generic[W]):
    """A place in the queue; `worker` is set under the pool's lock, then `event`."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.worker: W | None = None
