"""Processes with limits: each in a group of its own, ended at its limit together with everything that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mrs.runtime.manifest import JsonObject


ROOT = Path(__file__).resolve().parents[2]
POLL, GRACE = 0.05, 2.0
NOT_STARTED = "not started, no time left"
WRONG = 3  # exit code of a worker that found a wrong result


class Clock(Protocol):
    """Seconds, and waiting for them."""

    def now(self) -> float:
        """Of a clock that all processes share."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes:
        name: for the screen.
        work: of `worker.WORK`.
        given: what it is told, of JSON's types.
        environment: variables that it has beside ours.
        shown: whether what it prints is shown as it comes; otherwise it is kept for whoever asks.
        longest: seconds it may take; None to share what is left with the jobs after it, one at a time.
    """

    name: str
    work: str
    given: JsonObject = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    shown: bool = True
    longest: float | None = None


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        job: which one.
        code: of its process; None where its limit ended it, or it was never started.
        seconds: it took.
        trouble: why it did not end by itself with code 0; "" where it did.
        output: what it printed, where that was not shown at once.
    """

    job: Job
    code: int | None
    seconds: float
    trouble: str
    output: str = ""


class Running(Protocol):
    """A process."""

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None as long as it runs."""
        ...

    def stop(self) -> None:
        """End it, and what it started."""
        ...

    def output(self) -> str:
        """What it printed, where that is not shown at once."""
        ...


class Process:
    """A process in a group of its own, which its end leaves empty.

    What it is told to read ends when this process does, however that happens: see `worker.end_with_parent`.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], shown: bool, root: Path = ROOT) -> None:
        # A file, not a pipe: a pipe stays open as long as anything that the process started.
        self._kept = None if shown else tempfile.TemporaryFile()  # noqa: SIM115  # closed where the process ends
        self._said = b""
        self._process = subprocess.Popen(
            command, cwd=root, env={**os.environ, "PYTHONPATH": _path(root), **environment}, process_group=0,
            stdin=subprocess.PIPE, stdout=self._kept, stderr=None if shown else subprocess.STDOUT,
        )  # fmt: skip

    def poll(self) -> int | None:
        if self._process.returncode is not None:
            return self._process.returncode
        # It keeps its number, and the group with it, until it was waited for.
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        return self._end()

    def stop(self) -> None:
        # A worker that is asked to end says where it was.
        self._signal(signal.SIGTERM)
        end = time.monotonic() + GRACE
        while self.poll() is None:
            if time.monotonic() > end:
                self._end()
                return
            time.sleep(POLL)

    def output(self) -> str:
        return self._said.decode(errors="replace")

    def _end(self) -> int:
        self._signal(signal.SIGKILL)
        with self._process:
            code = self._process.wait()
        if self._kept is not None:
            with self._kept as file:
                file.seek(0)
                self._said = file.read()
        return code

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def run(
    jobs: Sequence[Job], end: float, at_once: int, start: Callable[[Job, float], Running], clock: Clock
) -> Iterator[Ended]:
    """Run jobs in their order, and tell how each ended as soon as it did.

    Args:
        jobs: what to do.
        end: of the clock; what has not ended by then is stopped.
        at_once: how many run at a time.
        start: starts a process for a job, which should end by itself shortly before a time of the clock.
        clock: to wait with.
    """
    waiting = deque(jobs)
    running: list[tuple[Job, Running, float, float]] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once and clock.now() < end:
                begin = clock.now()
                share = (end - begin) / len(waiting)
                job = waiting.popleft()
                limit = min(end, begin + (share if job.longest is None else job.longest))
                running.append((job, start(job, limit), begin, limit))
            for each in list(running):
                job, process, begin, limit = each
                code = process.poll()
                if code is None and clock.now() < limit:
                    continue
                if code is None:
                    process.stop()
                running.remove(each)
                seconds = clock.now() - begin
                trouble = f"stopped after {seconds:.0f} s, its limit" if code is None else told(code)
                yield Ended(job, code, seconds, trouble, process.output())
            if running:
                clock.sleep(POLL)
            elif clock.now() >= end:
                yield from (Ended(job, None, 0.0, NOT_STARTED) for job in waiting)
                return
    finally:
        for _, process, _, _ in running:
            process.stop()


def told(code: int) -> str:
    """What an exit code says; "" for 0."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    if code == WRONG:
        return "wrong results"
    return f"ended with code {code}" if code else ""


def _path(root: Path) -> str:
    """For Python: the checkout, ours for the worker, then whatever else is needed to find the libraries."""
    return os.pathsep.join(dict.fromkeys([str(root), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
