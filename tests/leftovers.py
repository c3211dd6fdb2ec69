"""Threads and processes that tests start and do not end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import thread as executors
from contextlib import suppress
from pathlib import Path

import pytest

PATIENCE = 60.0  # seconds for what is about to end
# Python's own helper, which ends with the process.
TRACKER = "multiprocessing.resource_tracker"


def descendants(process: int) -> list[int]:
    """Processes that a process started, theirs before themselves. Linux tells them, other systems none."""
    found = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [*descendants(child), child]
    return found


def end_descendants() -> None:
    """End all that this process started."""
    for process in descendants(os.getpid()):
        with suppress(OSError):
            os.kill(process, signal.SIGKILL)


def _command(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ").strip()
    return ""


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """A thread that keeps its process from ending, or a process of its own, would hang or outlive the session."""
    before = set(threading.enumerate()), set(descendants(os.getpid()))
    yield
    # Python itself ends the threads of executors, such as those that libraries keep.
    threads = [
        thread
        for thread in threading.enumerate()
        if not (thread in before[0] or thread.daemon or thread in executors._threads_queues)
    ]
    for thread in threads:
        thread.join(PATIENCE / len(threads))
    commands = [_command(process) for process in descendants(os.getpid()) if process not in before[1]]
    left = [thread.name for thread in threads if thread.is_alive()]
    # A process without a command has ended, and nobody has asked how.
    left += [command for command in commands if command and TRACKER not in command]
    assert not left, f"tests of this session left behind: {', '.join(left)}"
