"""Who waits for a worker gives up at its deadline or when it is cancelled, and leaves none behind."""

from __future__ import annotations

import time

import pytest

from mrs.runtime.errors import CancelledError, DeadlineError, InputError
from mrs.runtime.pool import Pool
from mrs.runtime.request import Cancellation, Request
from tests.runtime.pool_calls import Asking, Call, all_there, holding


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that requests see; only tests move it."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


# Deadlines


@pytest.mark.parametrize("timeout", [-1, -1e-9, float("nan"), float("-inf")])
def test_a_timeout_that_is_none(timeout: float) -> None:
    with pytest.raises(InputError, match=f"timeout {timeout} is not a number of seconds from 0 on"):
        Request(timeout)


def test_a_free_worker_needs_no_time() -> None:
    pool = Pool("a", queue=0)
    for _ in range(20):
        with pool.worker(Request(0)) as worker:
            assert worker == "a"


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_deadline_ends_the_wait(timeout: float) -> None:
    pool = Pool("a", queue=1)
    (running,) = holding(pool)
    for _ in range(2):
        # The second time too there is room in the queue.
        says = f"no worker was free within {timeout:g} s"
        with pytest.raises(DeadlineError, match=says) as caught, pool.worker(Request(timeout)):
            pytest.fail("had a worker")
        assert caught.value.hint == "give more time, or load with more workers"
        assert isinstance(caught.value, TimeoutError)
    running.left()
    assert all_there(pool, 1)


def test_a_deadline_counts_from_the_request(clock: list[float]) -> None:
    pool = Pool("a", queue=0)
    request = Request(5)
    assert request.left() == 5
    clock[0] += 3
    assert request.left() == 2
    with pool.worker(request) as worker:
        assert worker == "a"
    clock[0] += 3
    assert request.left() == 0
    with pytest.raises(DeadlineError, match="within 5 s"), pool.worker(request):
        pytest.fail("had a worker")
    assert all_there(pool, 1)


@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
def test_more_time_than_there_is(timeout: float) -> None:
    pool = Pool("a", queue=1)
    (running,) = holding(pool)
    waiting = Call(pool, Asking(timeout)).queued()
    running.left()
    assert waiting.has_it().left().error is None


def test_a_late_call_gives_its_worker_to_the_next(clock: list[float]) -> None:
    """It is handed one, but only after its deadline does it wake up."""
    pool = Pool("a", queue=2)
    (running,) = holding(pool)
    late, patient = Call(pool, Asking(100)).queued(), Call(pool).queued()
    clock[0] += 101
    running.left()
    assert late.left().error.__class__ is DeadlineError
    assert not late.inside.is_set()
    assert patient.has_it().left().error is None
    assert all_there(pool, 1)


# Cancellation


def test_a_call_that_is_cancelled_already() -> None:
    pool, cancellation = Pool("a", queue=0), Cancellation()
    assert not cancellation.cancelled
    cancellation.cancel()
    assert cancellation.cancelled
    with pytest.raises(CancelledError, match="was cancelled"), pool.worker(Request(None, cancellation)):
        pytest.fail("had a worker")
    assert all_there(pool, 1)


def test_one_cancellation_ends_all_calls_that_wait_with_it() -> None:
    pool, cancellation, other = Pool("a", queue=4), Cancellation(), Cancellation()
    (running,) = holding(pool)
    waiting = [Call(pool, Asking(None, each)).queued() for each in (cancellation, other, cancellation, None)]
    cancellation.cancel()
    for call in (waiting[0], waiting[2]):
        assert call.left().error.__class__ is CancelledError
        assert not call.inside.is_set()
    # Their places are free, and the others keep theirs.
    late = Call(pool).queued()
    running.left()
    for call in (waiting[1], waiting[3], late):
        assert call.has_it().left().error is None
    cancellation.cancel()
    assert all_there(pool, 1)


def test_what_runs_is_not_cancelled() -> None:
    pool, cancellation = Pool("a", queue=0), Cancellation()
    call = Call(pool, Asking(None, cancellation)).has_it()
    cancellation.cancel()
    assert call.left().error is None
    assert all_there(pool, 1)


def test_a_call_cancelled_as_it_gets_a_worker_gives_it_to_the_next() -> None:
    class Unheard(Cancellation):
        """Wakes nobody: the worker comes first."""

        def cancel(self) -> None:
            self._cancelled = True

    pool, cancellation = Pool("a", queue=2), Unheard()
    (running,) = holding(pool)
    cancelled, patient = Call(pool, Asking(None, cancellation)).queued(), Call(pool).queued()
    cancellation.cancel()
    running.left()
    assert cancelled.left().error.__class__ is CancelledError
    assert not cancelled.inside.is_set()
    assert patient.has_it().left().error is None
    assert all_there(pool, 1)
