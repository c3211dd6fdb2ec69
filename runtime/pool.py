"""Workers shared by threads: first come, first served, with a bounded queue, deadlines and cancellation.

An exception may come between any two instructions here: Ctrl-C in a notebook, or whatever else the handler of a signal
raises. So nothing has to be undone. Nobody notes that a worker is free, or that a call no longer waits; both follow
from what is there: a worker is free unless its lease lives, a lease lives as long as its `with` block, and of the line
only the first lease that lives takes workers, each by one assignment. That needs no lock either, which a thread that is
interrupted, or not there after a fork, might keep for ever.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar, overload

from mrs.kernels.threads import Bell, wait
from mrs.runtime.errors import BusyError, InputError
from mrs.runtime.request import Request
from mrs.runtime.system.forks import Origin
from mrs.runtime.tracing import timed

W = TypeVar("W")
T_co = TypeVar("T_co", covariant=True)

# Seconds between two looks at what still runs, while closing.
SOON = 0.02


class _Exit:
    """`__exit__` of a lease, made so that its life tells how long the `with` block runs.

    The interpreter fetches it when a block begins, keeps it on its own stack, and drops it when the block is left, even
    where an exception comes before `__exit__` has begun. No traceback keeps it: a frame refers to the function that it
    runs, not to the `partial` that called it.
    """

    @overload
    def __get__(self, lease: None, kind: object = None) -> _Exit: ...
    @overload
    def __get__(self, lease: Lease[object], kind: object = None) -> partial[bool | None]: ...
    def __get__(self, lease: Lease[object] | None, kind: object = None) -> _Exit | partial[bool | None]:
        if lease is None:
            return self
        leave = partial(Lease._leave, lease)
        if lease._origin is None:
            lease._block = weakref.ref(leave)
        return leave

    def __call__(
        self,
        lease: Lease[object],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        # As `contextlib.ExitStack` does it.
        return lease._leave(kind, error, trace)


class Lease(Generic[T_co]):
    """Workers for the length of one `with` block, which gets what `using` makes of them; see `Pool`.

    Attributes:
        request: its deadline and cancellation.
        need: how many workers.
        bell: rung when it may be the first in line.
    """

    def __init__(
        self,
        pool: Pool[W],
        request: Request,
        need: int,
        using: Callable[[Sequence[W]], AbstractContextManager[T_co]],
    ) -> None:
        # Not through self: what refers to itself is not freed before the next garbage collection.
        self._using: Callable[[Lease[object]], AbstractContextManager[T_co]] = lambda lease: using(pool.take(lease))
        self._wake = pool.wake
        self.request, self.need = request, need
        self.bell: Bell = SimpleQueue()
        self._origin: Origin | None = None
        self._block: weakref.ref[partial[bool | None]] | None = None
        self._over = False

    @property
    def lives(self) -> bool:
        """Whether its block runs, or is about to."""
        block, origin = self._block, self._origin
        return not self._over and (block is None or block() is not None) and (origin is None or origin.here)

    @property
    def stranded(self) -> bool:
        """Whether its block ran at a fork in a thread that is not in this process."""
        return not self._over and self._origin is not None and not self._origin.here

    @property
    def mine(self) -> bool:
        """Whether it lives, and this thread began it."""
        return self._origin is not None and self._origin.thread == threading.get_ident() and self.lives

    def __enter__(self) -> T_co:
        if self._origin is not None:
            raise RuntimeError("a lease is for one block")
        if self._block is not None and self._block() is None:
            # Somebody looked at `__exit__` but has no block: it lives until that is called.
            self._block = None
        self._origin = Origin()
        try:
            self._inside = self._using(self)
            return self._inside.__enter__()
        except BaseException:
            self._end()
            raise

    __exit__ = _Exit()

    def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return self._inside.__exit__(kind, error, trace)
        finally:
            self._end()

    def _end(self) -> None:
        self._over = True
        self._wake()


class _Slot(Generic[W]):
    """A worker, and the lease that took it last; the assignment of one is all that taking is."""

    def __init__(self, worker: W) -> None:
        self.worker = worker
        self.lease: Lease[object] | None = None

    @property
    def free(self) -> bool:
        return self.lease is None or not self.lease.lives


class Pool(Generic[W]):
    """Hands each worker to one thread at a time, in the order in which they asked.

    Args:
        workers: at least one.
        queue: how many calls may wait; one more is refused.
        renew: called with a worker that was at work when this process was forked off, before it is used here.
    """

    def __init__(self, workers: Sequence[W], queue: int, renew: Callable[[W], object] = lambda worker: None) -> None:
        self._slots = [_Slot(worker) for worker in workers]
        # Whoever comes appends itself; who no longer waits is removed by whoever looks.
        self._line: list[Lease[object]] = []
        self._queue, self._renew = queue, renew
        self._closed = False
        self._unreleased = [tuple(workers)]

    @overload
    def worker(self, request: Request) -> Lease[W]: ...
    @overload
    def worker(self, request: Request, using: Callable[[W], AbstractContextManager[T_co]]) -> Lease[T_co]: ...
    def worker(
        self, request: Request, using: Callable[[W], AbstractContextManager[object]] = nullcontext
    ) -> Lease[object]:
        """A context: a worker for this thread alone; the next in line gets it afterwards.

        Args:
            request: the call's.
            using: makes a context of the worker, whose value the block gets; by default the worker itself.

        Raises:
            InputError: where this thread has one already, or the pool is closed.
            BusyError: where the queue is full.
            DeadlineError, CancelledError: as the request says.
        """
        return Lease(self, request, 1, lambda workers: using(workers[0]))

    def every_worker(self) -> Lease[Sequence[W]]:
        """A context: all workers, when each has come back.

        Raises:
            InputError: where this thread has one already, or the pool is closed.
            BusyError: where the queue is full.
        """
        return Lease(self, Request(), len(self._slots), nullcontext)

    @property
    def mine(self) -> bool:
        """Whether this thread has a worker, or waits for one."""
        known = self._line + [slot.lease for slot in self._slots if slot.lease is not None]
        return any(lease.mine for lease in known)

    def close(self) -> tuple[W, ...]:
        """Refuse all calls from now on, those that wait too, and wait for those that run.

        Returns:
            All workers the first time, none afterwards.

        Raises:
            InputError: from within a restore, which would wait for itself.
        """
        self._check_alone()
        self._closed = True
        for lease in self._waiting():
            lease.bell.put(None)
        while not all(slot.free for slot in self._slots):
            time.sleep(SOON)
        try:
            return self._unreleased.pop()
        except IndexError:
            return ()

    def take(self, lease: Lease[object]) -> tuple[W, ...]:
        """Wait until a lease has its workers."""
        request = lease.request
        self._check_alone()
        request.check_launch()
        self._check_open()
        self._line.append(lease)
        self._check_room(lease)
        timed("wait", self._wait)(lease)
        # Closing waits for whoever took a worker before it looked.
        self._check_open()
        self._line.remove(lease)
        self.wake()
        return tuple(slot.worker for slot in self._slots if slot.lease is lease)

    def _wait(self, lease: Lease[object]) -> None:
        request = lease.request
        while not self._taken(lease):
            left = request.left()
            if left == 0:
                raise request.too_late()
            wait(lease.bell, left)
            request.check_launch()
            self._check_open()

    def wake(self) -> None:
        """Let the first in line look for workers."""
        for lease in self._waiting()[:1]:
            lease.bell.put(None)

    def _taken(self, lease: Lease[object]) -> bool:
        """Take what is free, if it is this lease's turn; whether it has all that it needs."""
        if self._waiting()[0] is not lease:
            return False
        missing = self._missing(lease)
        for slot in self._slots:
            if missing and slot.free:
                if slot.lease is not None and slot.lease.stranded:
                    self._renew(slot.worker)
                slot.lease = lease
                missing -= 1
        return not missing

    def _missing(self, lease: Lease[object]) -> int:
        """How many workers a lease still waits for."""
        return lease.need - sum(slot.lease is lease for slot in self._slots)

    def _waiting(self) -> list[Lease[object]]:
        """The leases in line, the first one first; those that have died are removed."""
        line = self._line.copy()
        living = [lease for lease in line if lease.lives]
        for lease in () if len(living) == len(line) else set(line).difference(living):
            # Another thread may have removed it.
            with suppress(ValueError):
                self._line.remove(lease)
        return living

    def _check_room(self, lease: Lease[object]) -> None:
        # The line first: who took a worker since then is counted with it, not as one who waits.
        line = self._waiting()
        free, waiting = sum(slot.free for slot in self._slots), 0
        for other in line[: line.index(lease)]:
            free -= self._missing(other)
            waiting += free < 0
        if free < lease.need and waiting >= self._queue:
            raise BusyError(
                f"{waiting} calls are waiting for {len(self._slots)} workers",
                hint="call less often, or load with more workers or a longer queue",
            )

    def _check_alone(self) -> None:
        if self.mine:
            # With one worker it would wait for itself.
            raise InputError(
                "a restorer was called from within its own restore",
                hint="wait until it has ended, or load the plan a second time",
            )

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("this restorer is closed", hint="load the plan again")
