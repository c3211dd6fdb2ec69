"""Workers go to threads in the order in which they asked; no error loses one, and a thread has one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from mrs.runtime.errors import BusyError, InputError, MrsError
from mrs.runtime.pool import Pool
from mrs.runtime.request import Request
from tests.runtime.on_threads import LIMIT, ended, in_thread
from tests.runtime.pool_calls import Call, all_there, holding


def in_thread_or_raise(function: Callable[[], Any]) -> Any:
    """What another thread gets, or the error that it meets."""
    thread, found = in_thread(function)
    ended(thread)
    if isinstance(found[0], MrsError):
        raise found[0]
    return found[0]


# Order


@pytest.mark.parametrize("workers", [1, 3])
def test_first_come_first_served(workers: int) -> None:
    pool = Pool(range(workers), queue=8)
    running = holding(pool, workers)
    assert {call.got for call in running} == set(range(workers))
    waiting = [Call(pool).queued() for _ in range(5)]
    for number, call in enumerate(waiting):
        freed = running.pop(0).left()
        # It gets the very worker that came back, and none of those behind it does.
        assert call.has_it().got == freed.got
        assert not any(later.inside.is_set() for later in waiting[number + 1 :])
        running.append(call)
    for call in running:
        assert call.left().error is None
    assert all_there(pool, workers)


def test_no_two_threads_have_one_worker() -> None:
    pool = Pool([[0], [0]], queue=8)
    begin = threading.Barrier(4)

    def work() -> int:
        begin.wait(LIMIT)
        most = 0
        for _ in range(100):
            with pool.worker(Request(LIMIT)) as worker:
                worker[0] += 1
                most = max(most, worker[0])
                # Others may run here.
                time.sleep(0)
                worker[0] -= 1
        return most

    threads = [in_thread(work) for _ in range(4)]
    for thread, found in threads:
        ended(thread)
        assert found == [1]


@pytest.mark.parametrize("queue", [0, 1, 3])
def test_one_more_than_the_queue_holds_is_refused(queue: int) -> None:
    pool = Pool("ab", queue)
    running = holding(pool, 2)
    waiting = [Call(pool).queued() for _ in range(queue)]
    with pytest.raises(BusyError, match=f"{queue} calls are waiting for 2 workers") as caught, pool.worker(Request()):
        pytest.fail("had a worker")
    assert caught.value.hint == "call less often, or load with more workers or a longer queue"
    # Those that wait are served all the same.
    for call in [*running, *waiting]:
        assert call.left().error is None
    assert all_there(pool, 2)


# Errors


@pytest.mark.parametrize("error", [ValueError, InputError("wrong"), KeyboardInterrupt], ids=repr)
def test_a_worker_comes_back_after_an_error(error: Any) -> None:
    pool = Pool("a", queue=0)
    for _ in range(2):
        with pytest.raises(error if isinstance(error, type) else type(error)), pool.worker(Request()):
            raise error
    assert all_there(pool, 1)


def test_an_interrupt_in_the_queue_leaves_no_place_behind() -> None:
    class Interrupted(Request):
        def left(self) -> float | None:
            raise KeyboardInterrupt

    pool = Pool("a", queue=1)
    (running,) = holding(pool)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), pool.worker(Interrupted()):
            pytest.fail("had a worker")
    waiting = Call(pool).queued()
    running.left()
    assert waiting.has_it().left().error is None


# Blocks


def test_a_context_serves_one_block() -> None:
    pool = Pool("a", queue=0)
    lease = pool.worker(Request())
    with lease:
        pass
    with pytest.raises(RuntimeError, match="for one block"), lease:
        pytest.fail("went on")
    assert all_there(pool, 1)


def test_without_a_block_a_worker_is_kept_until_it_is_given_back() -> None:
    pool = Pool("a", queue=0)
    lease = pool.worker(Request())
    # Looked at by a tool, and let go of.
    assert hasattr(lease, "__exit__")
    assert lease.__enter__() == "a"
    with pytest.raises(BusyError):
        in_thread_or_raise(lambda: pool.worker(Request()).__enter__())
    lease.__exit__(None, None, None)
    with ExitStack() as stack:
        assert stack.enter_context(pool.worker(Request())) == "a"
        with pytest.raises(BusyError):
            in_thread_or_raise(lambda: pool.worker(Request()).__enter__())
    assert all_there(pool, 1)


def test_a_block_gets_what_is_made_of_its_worker() -> None:
    pool, seen = Pool("a", queue=0), []

    @contextmanager
    def using(worker: str) -> Iterator[str]:
        try:
            yield worker * 3
        except KeyError as error:
            seen.append(error)

    with pool.worker(Request(), using) as made:
        assert made == "aaa"
    # It may end an error, too, as any context may.
    with pool.worker(Request(), using):
        raise KeyError
    assert len(seen) == 1
    assert all_there(pool, 1)


# One thread, twice


def test_a_thread_that_has_a_worker_is_refused_another() -> None:
    # Two workers and a queue: it would get one, and with a single one it would wait for itself.
    pool = Pool("ab", queue=4)
    says = "a restorer was called from within its own restore"
    with pool.worker(Request()):
        for ask in (lambda: pool.worker(Request()), pool.every_worker):
            for _ in range(2):
                with pytest.raises(InputError, match=says) as caught, ask():
                    pytest.fail("had a second")
                assert caught.value.hint == "wait until it has ended, or load the plan a second time"
        with pytest.raises(InputError, match=says):
            pool.close()
    with pool.every_worker():
        for ask in (lambda: pool.worker(Request()), pool.every_worker):
            with pytest.raises(InputError, match=says), ask():
                pytest.fail("had a second")
        with pytest.raises(InputError, match=says):
            pool.close()
    # None of this closed it, or lost a worker.
    assert all_there(pool, 2)
    with pool.worker(Request()) as worker:
        assert worker in "ab"


def test_a_thread_may_have_workers_of_two_pools() -> None:
    one, other = Pool("a", queue=0), Pool("b", queue=0)
    with one.worker(Request()) as first, other.worker(Request()) as second:
        assert (first, second) == ("a", "b")
    with one.every_worker() as firsts, other.every_worker() as seconds:
        assert (firsts, seconds) == (("a",), ("b",))
