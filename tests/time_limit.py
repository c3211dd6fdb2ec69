"""The end of a test that hangs: which one it is and where each thread stands, then the end of the process.

pytest-timeout has the limits. Its own timers are a thread for each test, which costs more than most of the tests, and
they write the stacks to stdout, which the processes of pytest-xdist do not have. This is one thread for all tests.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from threading import Thread

# By name: tests replace the clock of the module.
from time import monotonic, sleep
from typing import Any

import pytest

from tests.leftovers import end_descendants

LOOKS = 0.5  # seconds between two looks at the clock


class Watchdog:
    """Ends this process when the test that it watches takes longer than it may.

    Attributes:
        watched: a test and its seconds.
    """

    def __init__(self) -> None:
        self.watched: tuple[pytest.Item, float] | None = None
        self._deadline = 0.0
        self._thread: Thread | None = None

    def watch(self, item: pytest.Item, seconds: float) -> None:
        """Watch a test, from now on."""
        self._deadline = monotonic() + seconds
        self.watched = item, seconds
        if self._thread is None:
            self._thread = Thread(target=self._look, name="time limit of the tests", daemon=True)
            self._thread.start()

    def rest(self) -> None:
        """Watch nothing until the next test."""
        self.watched = None

    def _look(self) -> None:
        while True:
            sleep(LOOKS)
            watched = self.watched
            if watched is not None and monotonic() > self._deadline:
                _end(*watched)


def _end(item: pytest.Item, seconds: float) -> None:
    try:
        captured = item.config.pluginmanager.getplugin("capturemanager")
        if captured is not None:
            captured.suspend_global_capture()
            sys.__stderr__.write("".join(captured.read_global_capture()))
        sys.__stderr__.write(f"\n{item.nodeid} has not ended within {seconds:g} s; its threads:\n")
        sys.__stderr__.flush()
        faulthandler.dump_traceback(sys.__stderr__)
        end_descendants()
    finally:
        os._exit(1)


watchdog = Watchdog()


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    watchdog.watch(item, settings.timeout)
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    watchdog.rest()
    return True


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    # On a machine with a GPU the plugin may be missing, and other programs have the clock there.
    if not pluginmanager.hasplugin("timeout"):
        parser.addini("timeout", "has no effect without pytest-timeout")
        parser.addini("timeout_method", "has no effect without pytest-timeout")
