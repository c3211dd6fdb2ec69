"""What a library raises is one line of ours; what is not the library's is let through."""

from __future__ import annotations

import os
import signal
import time

import pytest

from mrs.benchmarking.rivals.rival import failures
from mrs.runtime.errors import BackendError, CheckpointError


class Stop(Exception):
    pass


def test_the_first_cause_is_told() -> None:
    """torch has it as an attribute of its own."""
    inner, outer = OSError("no compiler\nin sight"), RuntimeError("backend failed")
    outer.inner_exception = inner
    with pytest.raises(BackendError, match=r"^torch failed: OSError: no compiler$"), failures("torch"):
        raise outer
    # One that leads back to itself ends.
    inner.inner_exception = outer
    with pytest.raises(BackendError, match=r"^torch failed: OSError"), failures("torch"):
        raise outer


def test_errors_of_ours_say_enough() -> None:
    with pytest.raises(CheckpointError, match=r"^no weights$"), failures("torch"):
        raise CheckpointError("no weights")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass(interrupt: type[BaseException]) -> None:
    with pytest.raises(interrupt), failures("torch"):
        raise interrupt


def interrupt_oneself() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(5)


@pytest.mark.signals
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no such signal")
def test_what_a_signal_s_handler_raises_passes() -> None:
    def handler(number: int, frame: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(Stop), failures("torch"):
            interrupt_oneself()
    finally:
        signal.signal(signal.SIGUSR1, before)
