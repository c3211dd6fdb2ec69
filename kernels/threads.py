"""Threads that work for others, and waits that an interrupt ends.

Ctrl-C, or whatever else a signal's handler raises, may come between any two instructions. What is waited on here is
therefore made of calls into C that are done or not done, `SimpleQueue` above all: conditions, events and futures are
Python code, and an exception within leaves their locks taken for ever. And every wait looks up now and then: a signal
that comes just before a thread blocks is noticed only when it wakes.
"""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar, TypeVarTuple

T_co = TypeVar("T_co", covariant=True)
Arguments = TypeVarTuple("Arguments")
Bell = SimpleQueue[None]

# Seconds until an interrupt is noticed at the latest.
NOTICE = 0.1


def wait(bell: Bell, seconds: float | None = None) -> None:
    """Wait until a bell is rung by `put(None)`, for `NOTICE` or so many seconds at most: look, then wait again."""
    with suppress(Empty):
        bell.get(timeout=NOTICE if seconds is None else min(NOTICE, seconds))


class Task(Generic[T_co]):
    """A call of a function, made here or on another thread, once at most.

    Args:
        function: called with `arguments`.
        bell: rung when it has ended; by default one of its own.
    """

    def __init__(
        self, function: Callable[[*Arguments], T_co], *arguments: *Arguments, bell: Bell | None = None
    ) -> None:
        self._call: list[Callable[[], T_co]] = [partial(function, *arguments)]
        self._bell: Bell = SimpleQueue() if bell is None else bell
        self._ended: tuple[T_co | None, BaseException | None] | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended, or never begins."""
        return self._ended is not None

    def run(self) -> None:
        """Make the call, unless it was made or cancelled."""
        try:
            call = self._call.pop()
        except IndexError:
            return
        ended: tuple[T_co | None, BaseException | None]
        try:
            ended = call(), None
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is asked for)
            ended = None, error
        self._ended = ended
        self._bell.put(None)
        # The error's traceback holds this frame: nothing here may hold the error.
        del self, call, ended

    def cancel(self) -> bool:
        """Let it never begin; whether it has not begun."""
        try:
            self._call.pop()
        except IndexError:
            return False
        self._ended = None, RuntimeError("the task was cancelled")
        return True

    def result(self) -> T_co:
        """Wait until it has ended: what the function returned, or raised."""
        self.wait()
        assert self._ended is not None
        result, error = self._ended
        if error is not None:
            try:
                raise error
            finally:
                # As above.
                del self, error
        return result  # type: ignore[return-value]

    def wait(self) -> None:
        """Wait until it has ended."""
        while self._ended is None:
            wait(self._bell)


def end(tasks: Sequence[Task[object]]) -> None:
    """Let none of these begin any more, and wait for those that have begun."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        task.wait()


class Threads:
    """Threads that carry out tasks in the order in which they are submitted; begun when needed, in each process anew.

    Nobody waits for them at the end of the process. They end with this object, when all that was submitted is done.

    Args:
        count: of threads at most.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._begin()

    def submit(self, task: Task[object]) -> None:
        """Let a thread carry out a task."""
        if self._process != os.getpid():
            # After a fork none of the threads is there.
            self._begin()
        self._work.put(task)
        try:
            self._idle.pop()
        except IndexError:
            if len(self._threads) < self._count:
                # Not `threading.Thread`, whose start waits for an event.
                self._threads.append(_thread.start_new_thread(_work, (self._work, self._idle)))

    def __del__(self) -> None:
        for _ in self._threads:
            self._work.put(None)

    def _begin(self) -> None:
        self._work: SimpleQueue[Task[object] | None] = SimpleQueue()
        # One entry for each thread that has nothing to do; a lost one costs a thread too many.
        self._idle: list[None] = []
        self._threads: list[int] = []
        self._process = os.getpid()


def _work(work: SimpleQueue[Task[object] | None], idle: list[None]) -> None:
    while (task := work.get()) is not None:
        task.run()
        # Held while waiting for the next one, it would keep what it returned.
        del task
        idle.append(None)
