"""How fast the machine is meanwhile: a fixed work for comparison, and how long threads waited for a processor."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.threads import Task, Threads

# Never change these: files of results are compared by what this work took then. It is as long as one evaluation of a
# small network, works on memory that no cache of a core holds, and knows none of the engines.
NUMBERS, PASSES, TIMES = 1 << 20, 12, 3


class Yardstick:
    """A fixed work on all threads of a plan: arithmetic on memory, and arithmetic on bits.

    Args:
        threads: that share the processors, each with as much work.
    """

    def __init__(self, threads: int) -> None:
        self._pool = Threads(threads)
        self._numbers = [np.ones(NUMBERS, np.float32) for _ in range(threads)]

    def __call__(self) -> None:
        """Do it once."""
        tasks = [Task(_work, each) for each in self._numbers]
        for task in tasks:
            self._pool.submit(task)
        for task in tasks:
            task.result()


def _work(numbers: NDArray[np.float32]) -> None:
    for _ in range(TIMES):
        for _ in range(PASSES):
            np.multiply(numbers, np.float32(1), out=numbers)
        hashlib.sha256(numbers.data.cast("B")).digest()
        for _ in range(PASSES):
            np.sqrt(numbers, out=numbers)


class Waiting:
    """How much of its time this process waited for processors that others had, from when this is made.

    Args:
        threads: that would run at a time.
        tasks: where Linux tells of each thread what it waited for.
    """

    def __init__(self, threads: int, tasks: Path = Path("/proc/self/task")) -> None:
        self._threads, self._tasks = threads, tasks
        self._begin, self._waited = time.perf_counter(), self._all()

    def share(self) -> float | None:
        """Of the time since then, 0 to 1; None where the system does not tell."""
        now, waited = time.perf_counter(), self._all()
        if waited is None or self._waited is None or now <= self._begin:
            return None
        return min(1.0, max(0.0, waited - self._waited) / (now - self._begin) / self._threads)

    def _all(self) -> float | None:
        """Seconds that all threads waited, those that have ended since left out."""
        total, told = 0, False
        try:
            numbers = os.listdir(self._tasks)
        except OSError:
            return None
        for number in numbers:
            try:
                total += int((self._tasks / number / "schedstat").read_text().split()[1])
            except (OSError, ValueError, IndexError):
                # A thread that has just ended, or a kernel that keeps no count.
                continue
            told = True
        return total / 1e9 if told else None
