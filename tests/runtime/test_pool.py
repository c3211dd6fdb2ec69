"""Workers go to threads in the order in which they asked; whoever gives up, is cancelled or fails loses none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from mrs.runtime.errors import BusyError, CancelledError, DeadlineError, InputError, MrsError
from mrs.runtime.pool import Pool
from mrs.runtime.request import Cancellation, Request

# Longer than anything here takes: what waits as long has failed.
LIMIT = 120.0


class Asking(Request):
    """A request that tells when its call is in the queue, and about to wait."""

    def __init__(self, timeout: float | None = None, cancellation: Cancellation | None = None) -> None:
        super().__init__(timeout, cancellation)
        self.queued = threading.Event()

    def left(self) -> float | None:
        self.queued.set()
        return super().left()


class Call(threading.Thread):
    """A call on a thread of its own, which keeps its worker until told to leave.

    Attributes:
        inside, leave, ended: it has its worker; it may give it back; it has done so or failed.
        settled: it is inside or has failed.
        got: the worker.
        error: with which it failed.
    """

    def __init__(self, pool: Pool[Any], request: Asking | None = None) -> None:
        super().__init__(daemon=True)
        self.pool, self.request = pool, request or Asking()
        self.inside, self.leave, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.settled = threading.Event()
        self.got: Any = None
        self.error: MrsError | None = None
        self.start()

    def run(self) -> None:
        try:
            with self.pool.worker(self.request) as self.got:
                self.inside.set()
                self.settled.set()
                assert self.leave.wait(LIMIT)
        except MrsError as error:
            self.error = error
        finally:
            self.ended.set()
            self.settled.set()

    def queued(self) -> Call:
        assert self.request.queued.wait(LIMIT)
        return self

    def has_it(self) -> Call:
        assert self.settled.wait(LIMIT)
        assert self.inside.is_set(), self.error
        return self

    def left(self) -> Call:
        """Let it go on, until it has ended."""
        self.leave.set()
        assert self.ended.wait(LIMIT)
        return self


def holding(pool: Pool[Any], count: int = 1) -> list[Call]:
    """Calls that have their workers."""
    return [Call(pool).has_it() for _ in range(count)]


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


def in_thread_or_raise(function: Callable[[], Any]) -> Any:
    """What another thread gets, or the error that it meets."""
    thread, found = in_thread(function)
    ended(thread)
    if isinstance(found[0], MrsError):
        raise found[0]
    return found[0]


def ended(thread: threading.Thread) -> None:
    thread.join(LIMIT)
    assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def all_there(pool: Pool[Any], count: int) -> bool:
    """Whether so many calls find a worker without waiting."""
    calls = holding(pool, count)
    return len({call.left().got for call in calls}) == count


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that requests see; only tests move it."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


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
