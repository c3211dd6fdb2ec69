"""Calls on threads of their own, which no test waits for in vain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from mrs.runtime.errors import MrsError

# Longer than anything here takes: what waits as long has failed.
LIMIT = 120.0


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run on another thread; the list gets what it returned or raised."""
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(function())
        except MrsError as error:
            found.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, found


def ended(thread: threading.Thread) -> None:
    thread.join(LIMIT)
    assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def elsewhere(call: Callable[[], Any]) -> Any:
    """What a call on another thread gives, or its error."""
    thread, found = in_thread(call)
    ended(thread)
    return found[0]
