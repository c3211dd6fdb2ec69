"""Tasks on other threads: once, in order, with their errors; and nothing is kept of what has ended."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from mrs.kernels import threads
from mrs.kernels.threads import Task, Threads, end, wait

# Longer than anything here takes: what waits as long has failed.
LIMIT = 20.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


def test_a_task_gives_what_its_function_returns() -> None:
    task = Task(divmod, 7, 3)
    assert not task.done
    Threads(1).submit(task)
    assert task.result() == (2, 1)
    assert task.done
    # Again, and it is not called again.
    task.run()
    assert task.result() == (2, 1)


def test_a_task_may_be_run_by_whoever_has_it() -> None:
    task = Task(threading.get_ident)
    task.run()
    assert task.result() == threading.get_ident()


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_a_task_raises_what_its_function_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    workers = Threads(1)
    for _ in range(2):
        task = Task(fail)
        workers.submit(task)
        with pytest.raises(type(error)) as caught:
            task.result()
        assert caught.value is error
    # The thread lives on.
    task = Task(len, "ab")
    workers.submit(task)
    assert task.result() == 2


def test_a_task_that_is_cancelled_never_begins() -> None:
    called: list[int] = []
    task = Task(called.append, 1)
    assert task.cancel()
    assert task.done
    Threads(1).submit(task)
    task.wait()
    with pytest.raises(RuntimeError, match="was cancelled"):
        task.result()
    assert not task.cancel()
    ran = Task(called.append, 2)
    ran.run()
    assert not ran.cancel()
    assert called == [2]


def test_ending_waits_for_what_runs_and_drops_what_waits() -> None:
    running, leave, called = threading.Event(), threading.Event(), []

    def work() -> None:
        running.set()
        assert leave.wait(LIMIT)
        called.append("first")

    workers = Threads(1)
    tasks = [Task(work), Task(called.append, "second"), Task(called.append, "never given")]
    for task in tasks[:2]:
        workers.submit(task)
    assert running.wait(LIMIT)
    threading.Timer(0.02, leave.set).start()
    end(tasks)
    assert called == ["first"]
    assert all(task.done for task in tasks)


def test_as_many_threads_as_are_needed_and_no_more_than_allowed() -> None:
    workers, inside, most = Threads(3), [], []
    leave = threading.Event()

    def work() -> int:
        inside.append(1)
        most.append(len(inside))
        assert leave.wait(LIMIT)
        inside.pop()
        return threading.get_ident()

    tasks = [Task(work) for _ in range(7)]
    for task in tasks:
        workers.submit(task)
    until(lambda: len(inside) == 3)
    leave.set()
    assert len({task.result() for task in tasks}) == 3
    assert max(most) == 3
    # One after the other they need one thread alone.
    single = Threads(3)
    for _ in range(10):
        task = Task(threading.get_ident)
        single.submit(task)
        task.result()
        until(lambda: len(single._idle) == 1)
    assert len(single._threads) == 1


def test_tasks_of_one_thread_are_done_in_order() -> None:
    workers, done = Threads(1), []
    tasks = [Task(done.append, number) for number in range(50)]
    for task in tasks:
        workers.submit(task)
    tasks[-1].wait()
    assert done == list(range(50))


def test_one_bell_for_several_tasks() -> None:
    workers, bell, leave = Threads(2), threads.SimpleQueue(), threading.Event()
    tasks = [Task(leave.wait, LIMIT, bell=bell), Task(len, "ab", bell=bell)]
    for task in tasks:
        workers.submit(task)
    while not any(task.done for task in tasks):
        wait(bell)
    assert [task.done for task in tasks] == [False, True]
    leave.set()
    assert tasks[0].result()


def test_a_wait_looks_up_now_and_then() -> None:
    begin = time.monotonic()
    wait(threads.SimpleQueue())
    wait(threads.SimpleQueue(), 0.01)
    assert time.monotonic() - begin >= threads.NOTICE
    bell: Any = threads.SimpleQueue()
    bell.put(None)
    begin = time.monotonic()
    wait(bell, LIMIT)
    assert bell.empty()


def test_what_a_task_returned_or_raised_is_not_kept() -> None:
    """Networks on a GPU, and errors that hold their frames, go when the caller lets go of them."""

    class Thing:
        pass

    class Wrong(Exception):
        pass

    def fail(thing: Thing) -> None:
        raise Wrong

    workers, thing = Threads(1), Thing()
    known = [weakref.ref(thing)]
    gc.disable()
    try:
        task: Any = Task(lambda thing: thing, thing)
        workers.submit(task)
        assert task.result() is thing
        task = Task(fail, thing)
        workers.submit(task)
        try:
            task.result()
        except Wrong as error:
            known.append(weakref.ref(error))
        del task, thing
        until(lambda: [each() for each in known] == [None, None])
    finally:
        gc.enable()


def test_threads_end_with_the_object() -> None:
    workers, ended = Threads(2), []

    class Local(threading.local):
        def __del__(self) -> None:
            ended.append(1)

    # Held by the thread alone.
    kept: Any = threading.local()
    task = Task(setattr, kept, "local", Local())
    workers.submit(task)
    task.wait()
    del workers, task
    until(lambda: bool(ended))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_has_threads_of_its_own() -> None:
    workers = Threads(1)
    task = Task(len, "ab")
    workers.submit(task)
    assert task.result() == 2
    until(lambda: len(workers._idle) == 1)
    child = os.fork()
    if child == 0:
        again = Task(len, "abc")
        workers.submit(again)
        limit = time.monotonic() + LIMIT
        while not again.done and time.monotonic() < limit:
            wait(again._bell)
        os._exit(again.result() if again.done else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3
