"""All workers at once, and a pool that closes: whoever runs is waited for, whoever waits is told."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mrs.runtime.errors import BusyError, CancelledError, DeadlineError, InputError, MrsError
from mrs.runtime.pool import Pool
from mrs.runtime.request import Cancellation, Request
from tests.runtime.on_threads import LIMIT, ended, in_thread, until
from tests.runtime.pool_calls import Asking, Call, all_there, holding

# All of them


def test_every_worker_waits_for_each_and_keeps_all_others_out() -> None:
    pool = Pool("abc", queue=4)
    (running,) = holding(pool)
    has_all, leave = threading.Event(), threading.Event()

    def gather() -> Any:
        with pool.every_worker() as workers:
            has_all.set()
            assert leave.wait(LIMIT)
            return sorted(workers)

    thread, found = in_thread(gather)
    assert not has_all.wait(0.02)
    running.left()
    assert has_all.wait(LIMIT)
    waiting = Call(pool).queued()
    assert not waiting.inside.is_set()
    leave.set()
    ended(thread)
    assert found == [["a", "b", "c"]]
    assert waiting.has_it().left().error is None
    assert all_there(pool, 3)


def test_every_worker_comes_back_after_an_error() -> None:
    pool = Pool("abc", queue=0)
    with pytest.raises(ValueError, match="wrong"), pool.every_worker():
        raise ValueError("wrong")
    assert all_there(pool, 3)


def test_those_gathered_come_back_where_the_queue_is_full() -> None:
    pool = Pool("abc", queue=0)
    (running,) = holding(pool)
    with pytest.raises(BusyError), pool.every_worker():
        pytest.fail("had all")
    assert all_there(pool, 2)
    running.left()
    with pool.every_worker() as workers:
        assert len(workers) == 3


def test_two_threads_that_gather_do_not_wait_for_each_other() -> None:
    pool = Pool("ab", queue=4)
    running = holding(pool, 2)

    def gather() -> Any:
        with pool.every_worker() as workers:
            return sorted(workers)

    gathering = [in_thread(gather) for _ in range(2)]
    until(lambda: len(pool._line) == 2)
    # One comes back after the other: taken by turns, each of the two would have one.
    for call in running:
        call.left()
    for thread, found in gathering:
        ended(thread)
        assert found == [["a", "b"]]


# Closing


def closed(error: object) -> bool:
    return isinstance(error, InputError) and str(error) == "this restorer is closed (load the plan again)"


def test_a_closed_pool_refuses() -> None:
    pool = Pool("ab", queue=4)
    assert pool.close() == ("a", "b")
    # Again, and nothing is released twice.
    assert pool.close() == ()
    for ask in (lambda: pool.worker(Request()), pool.every_worker):
        for _ in range(2):
            with pytest.raises(InputError) as caught, ask():
                pytest.fail("had a worker")
            assert closed(caught.value)
    assert pool.close() == ()


def test_closing_wakes_those_that_wait_and_waits_for_those_that_run() -> None:
    pool = Pool("ab", queue=4)
    running = holding(pool, 2)
    waiting = [
        Call(pool).queued(),
        Call(pool, Asking(LIMIT)).queued(),
        Call(pool, Asking(None, Cancellation())).queued(),
    ]
    thread, found = in_thread(pool.close)
    for call in waiting:
        assert closed(call.left().error)
        assert not call.inside.is_set()
    # It has begun to close, and waits.
    late = Call(pool)
    assert closed(late.left().error)
    second, nothing = in_thread(pool.close)
    assert running[0].left().error is None
    thread.join(0.02)
    second.join(0.02)
    assert (found, nothing) == ([], [])
    assert running[1].left().error is None
    ended(thread)
    ended(second)
    # Whichever looks first has the workers.
    assert sorted(found + nothing) == [(), ("a", "b")]


def test_a_closed_pool_hands_out_nothing_that_comes_back() -> None:
    class Slow(Asking):
        """Keeps its call in the queue, though it is woken."""

        def left(self) -> float | None:
            super().left()
            assert resumed.wait(LIMIT)
            return None

    resumed = threading.Event()
    pool = Pool("a", queue=4)
    (running,) = holding(pool)
    first = Call(pool, Slow()).queued()
    second = Call(pool).queued()
    closing, found = in_thread(pool.close)
    # Once this one knows, the pool is closed.
    assert closed(second.left().error)
    running.left()
    ended(closing)
    assert found == [("a",)]
    resumed.set()
    assert closed(first.left().error)
    assert not first.inside.is_set()


def test_closing_while_a_thread_gathers() -> None:
    pool = Pool("ab", queue=4)
    (running,) = holding(pool)

    def gather() -> None:
        with pool.every_worker():
            pytest.fail("had all")

    gathering, refused = in_thread(gather)
    closing, found = in_thread(pool.close)
    # Whichever came first, the one that gathers gives back what it has.
    ended(gathering)
    assert closed(refused[0])
    running.left()
    ended(closing)
    assert found == [("a", "b")]


def test_a_pool_of_many_closes_under_load() -> None:
    pool = Pool(range(3), queue=16)
    begin = threading.Barrier(7)

    def work() -> Any:
        begin.wait(LIMIT)
        while True:
            with pool.worker(Request(LIMIT)):
                pass

    threads = [in_thread(work) for _ in range(6)]
    begin.wait(LIMIT)
    assert sorted(pool.close()) == [0, 1, 2]
    for thread, found in threads:
        ended(thread)
        assert closed(found[0])


def test_errors_are_told_apart() -> None:
    """A caller may try again after some of them, and must not after others."""
    kinds = (BusyError, DeadlineError, CancelledError, InputError)
    assert all(issubclass(kind, MrsError) for kind in kinds)
    assert not any(issubclass(one, other) for one in kinds for other in kinds if one is not other)
