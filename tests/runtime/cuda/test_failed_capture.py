"""A capture that fails leaves torch as it was, in every version, and says why it failed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from mrs.runtime.cuda.device import Cuda
from mrs.runtime.errors import BackendError
from tests.runtime.cuda.torch_double import INVALIDATED, Memory, memory

pytestmark = pytest.mark.slow(13)

__all__ = ["memory"]
FORBIDDEN = "CUDA error: operation not permitted when stream is capturing"


class InterruptError(BaseException):
    """Of a signal's handler."""


def capture(work: Callable[[], None]) -> Any:
    return Cuda(1).capture("stream", work)


def invalidating(memory: Memory, error: BaseException) -> Callable[[], None]:
    def work() -> None:
        memory.status = "invalidated"
        raise error

    return work


@pytest.mark.parametrize("kind", [RuntimeError, BackendError, TypeError, InterruptError])
@pytest.mark.parametrize("invalidated", [True, False])
def test_what_failed_is_told_and_nothing_is_left(memory, kind: type[BaseException], invalidated: bool) -> None:
    error = kind(FORBIDDEN)

    def work() -> None:
        raise error

    with pytest.raises(kind) as caught:
        capture(invalidating(memory, error) if invalidated else work)
    assert caught.value is error
    assert error.__cause__ is None
    # While the error lives.
    memory.check()


def test_the_cause_of_a_cause_stays(memory) -> None:
    def work() -> None:
        memory.status = "invalidated"
        try:
            raise RuntimeError(FORBIDDEN)
        except RuntimeError as error:
            raise BackendError("torch failed at step 2") from error

    with pytest.raises(BackendError, match="at step 2") as caught:
        capture(work)
    assert str(caught.value.__cause__) == FORBIDDEN


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_in_a_capture(memory, enabled: bool) -> None:
    """It may hold an older graph, in the traceback of an error for example, whose destruction ends the capture."""
    threshold, collects = gc.get_threshold(), gc.isenabled()
    older: list[Any] = [capture(lambda: None)]

    def work() -> None:
        cycle: list[Any] = [older.pop()]
        cycle.append(cycle)
        del cycle
        assert len([[] for _ in range(1000)]) == 1000

    (gc.enable if enabled else gc.disable)()
    gc.set_threshold(1)
    try:
        made = capture(work)
        assert gc.isenabled() == enabled
        with pytest.raises(KeyError):
            capture(lambda: {}[0])
        assert gc.isenabled() == enabled
    finally:
        gc.set_threshold(*threshold)
        (gc.enable if collects else gc.disable)()
    assert made.ended
    gc.collect()
    del made
    memory.check()


def test_what_another_thread_disturbed_is_torchs_own_error(memory) -> None:
    def work() -> None:
        memory.status = "invalidated"

    with pytest.raises(RuntimeError, match=INVALIDATED):
        capture(work)
    gc.collect()
    memory.check()


def test_an_interrupt_when_it_has_just_begun(memory) -> None:
    memory.interrupt = InterruptError()
    with pytest.raises(InterruptError):
        capture(lambda: None)
    gc.collect()
    memory.check()


def test_a_device_that_is_lost_does_not_hide_why(memory, monkeypatch) -> None:
    def lost() -> bool:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lost)
    with pytest.raises(RuntimeError, match=FORBIDDEN):
        capture(invalidating(memory, RuntimeError(FORBIDDEN)))


def test_many_failures_and_a_capture_that_succeeds(memory) -> None:
    for _ in range(3):
        with pytest.raises(RuntimeError, match=FORBIDDEN):
            capture(invalidating(memory, RuntimeError(FORBIDDEN)))
    graph = capture(lambda: None)
    assert (memory.underway, sorted(memory.uses.values())[-1], memory.drawing) == ([], 1, False)
    del graph
    memory.check()


@pytest.mark.parametrize("status", ["active", "invalidated"])
def test_what_failed_is_not_kept(memory, status: str) -> None:
    class Held:
        pass

    def work() -> None:
        held = Held()
        kept.append(weakref.ref(held))
        memory.status = status
        raise RuntimeError(FORBIDDEN)

    kept: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(RuntimeError, match=FORBIDDEN) as caught:
            capture(work)
        del caught
        assert kept[0]() is None
    finally:
        gc.enable()
