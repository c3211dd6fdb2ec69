"""An exception between any two instructions of the pool, or of a block that has a worker, costs no worker."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from mrs.kernels import threads
from mrs.runtime import pool as module
from mrs.runtime.pool import Lease, Pool
from mrs.runtime.request import Request

pytestmark = pytest.mark.slow(4)

FILES = (module.__file__, threads.__file__)
WORKERS = "abc"


class Interrupted(BaseException):
    """As a handler of a signal may raise it."""


class Interrupt:
    """Raises before instruction number `at` of the files above and of the functions named `block`."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in FILES and frame.f_code.co_name != "block":
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise Interrupted
        return self


@contextmanager
def tracing(tracer: Any) -> Iterator[None]:
    before = sys.gettrace()
    # Python 3.12 looks once whether any frame wants its instructions traced: here.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(tracer)
    try:
        yield
    finally:
        sys.settrace(before)


def run(call: Callable[[], None], at: int) -> tuple[bool, BaseException | None]:
    """Call, interrupted at an instruction: whether it came so far, and the error, with its traceback as a notebook
    keeps it."""
    interrupt = Interrupt(at)
    try:
        with tracing(interrupt):
            call()
    except Interrupted as error:
        return interrupt.left <= 0, error
    return interrupt.left <= 0, None


def plain(pool: Pool[str]) -> Callable[[], None]:
    def block() -> None:
        with pool.worker(Request()) as worker:
            assert worker in WORKERS

    return block


def failing(pool: Pool[str]) -> Callable[[], None]:
    def block() -> None:
        try:
            with pool.worker(Request()):
                raise KeyError
        except KeyError:
            pass

    return block


def lent(pool: Pool[str]) -> Callable[[], None]:
    @contextmanager
    def using(worker: str) -> Iterator[str]:
        try:
            yield worker
        finally:
            str(worker)

    def block() -> None:
        with pool.worker(Request(), using) as worker:
            assert worker in WORKERS

    return block


def gathering(pool: Pool[str]) -> Callable[[], None]:
    def block() -> None:
        with pool.every_worker() as workers:
            assert len(workers) == len(WORKERS)

    return block


def waiting(pool: Pool[str]) -> Callable[[], None]:
    """All workers are away, and come back when it waits."""
    away = pool.every_worker()
    thread = threading.Thread(target=away.__enter__)
    thread.start()
    thread.join()

    class Coming(Request):
        def left(self) -> float | None:
            return_all()
            return super().left()

    def return_all() -> None:
        away._over = True
        pool.wake()

    def block() -> None:
        with pool.worker(Coming()):
            pass

    def call() -> None:
        try:
            block()
        finally:
            return_all()

    return call


SCENES = (plain, failing, lent, gathering, waiting)


def check_whole(pool: Pool[str]) -> None:
    """Every worker is there at once, and nobody waits."""
    assert all(slot.free for slot in pool._slots)
    with pool.every_worker() as workers:
        assert sorted(workers) == list(WORKERS)
    assert pool._line == []


@pytest.mark.parametrize("cleaning", [True, False], ids=["", "nothing-cleans-up"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_an_interrupt_anywhere_costs_no_worker(
    scene: Callable[[Pool[str]], Callable[[], None]], cleaning: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a second interrupt wherever a lease would say that it is over, in half of the cases."""
    pool, kept, at, came = Pool(WORKERS, queue=1), [], 0, True
    while came:
        # The second half looks at every third: it takes as long, and shows less.
        at += 1 if cleaning else 3
        call = scene(pool)
        with monkeypatch.context() as patch:
            if not cleaning:
                patch.setattr(Lease, "_end", cut_off)
            came, error = run(call, at)
        kept.append(error)
        # Some are enough: each has its frames, at which every garbage collection looks.
        del kept[:-20]
        check_whole(pool)
    assert at > 100
    assert sorted(pool.close()) == list(WORKERS)


def cut_off(lease: Lease[Any]) -> None:
    raise Interrupted
