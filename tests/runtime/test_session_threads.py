"""Threads share a restorer: its workers, threads of the processor, memory, queue, deadlines and cancellations."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from mrs.runtime.errors import BusyError, CancelledError, DeadlineError, InputError
from mrs.runtime.plan import Plan
from mrs.runtime.request import Cancellation
from mrs.runtime.session import Restorer
from tests.runtime.on_threads import LIMIT, elsewhere, in_thread
from tests.runtime.restores import bytes_of, changed, entered

pytestmark = pytest.mark.usefixtures("one_thread")


def test_closing_waits_for_the_restores_that_run(restorer: Restorer, picture) -> None:
    with restorer.lend(picture) as lent:
        closing, found = in_thread(restorer.close)
        before = lent.copy()
        with pytest.raises(InputError, match="from within its own restore"):
            restorer.close()
        closing.join(0.02)
        assert (closing.is_alive(), found) == (True, [])
        np.testing.assert_array_equal(lent, before)
    closing.join(LIMIT)
    assert found == [None]


def test_threads_wait_for_each_other(restorer: Restorer, fake) -> None:
    inside, most = 0, 0

    class Slow(fake.make):  # type: ignore[misc]
        def evaluate(self, step: int) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            time.sleep(0.002)
            super().evaluate(step)
            inside -= 1

    fake.make = Slow
    pictures = [bytes_of((8, 8, 3), seed) for seed in range(4)]
    alone = [restorer.restore(picture, seed=seed) for seed, picture in enumerate(pictures)]
    together: list[Any] = [None] * 4

    def work(seed: int) -> None:
        for _ in range(3):
            together[seed] = restorer.restore(pictures[seed], seed=seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_there_is_nothing_to_wait_for_on_a_cpu(pair: Restorer, picture) -> None:
    pair.synchronize()
    pair.restore(picture)
    pair.synchronize()


# Workers


def test_as_many_restores_run_at_a_time_as_there_are_workers(pair: Restorer, fake) -> None:
    pictures = [bytes_of((8, 8, 3), seed) for seed in range(2)]
    alone = [pair.restore(picture, seed=seed) for seed, picture in enumerate(pictures)]
    both = threading.Barrier(2)

    class Meeting(fake.make):  # type: ignore[misc]
        def evaluate(self, step: int) -> None:
            # Neither goes on before the other has begun.
            both.wait(LIMIT)
            super().evaluate(step)

    fake.make = Meeting
    with Restorer(pair.plan, threads=1, workers=2) as meeting:
        running = [in_thread(lambda k=k: meeting.restore(pictures[k], seed=k)) for k in range(2)]
        for (thread, found), expected in zip(running, alone, strict=True):
            thread.join(LIMIT)
            np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_many_threads_give_the_pictures_of_one(tiny, name: str) -> None:
    pictures = [bytes_of((15, 22, 3), seed) for seed in range(6)]
    with Restorer(tiny.plan(name), threads=1) as restorer:
        alone = [restorer.restore(picture, seed=seed) for seed, picture in enumerate(pictures)]
    with Restorer(tiny.plan(name), threads=1, workers=2) as restorer:
        running = [in_thread(lambda k=k: [restorer.restore(pictures[k], seed=k) for _ in range(3)]) for k in range(6)]
        for (thread, found), expected in zip(running, alone, strict=True):
            thread.join(LIMIT)
            for restored in found[0]:
                np.testing.assert_array_equal(restored, expected)


@pytest.mark.parametrize(("threads", "workers", "each"), [(5, 2, 2), (4, 1, 4), (1, 3, 1)])
def test_workers_share_the_threads(
    fake, fake_plan: Plan, monkeypatch: pytest.MonkeyPatch, threads: int, workers: int, each: int
) -> None:
    asked: list[int] = []
    compile_ = fake.compile
    monkeypatch.setattr(fake, "compile", lambda *given: (asked.append(given[-1].threads), compile_(*given))[1])
    with Restorer(fake_plan, threads=threads, workers=workers) as restorer:
        restorer.warm_up(8, 8)
    assert asked == [each] * workers


def test_workers_share_the_memory(fake, fake_plan: Plan, picture) -> None:
    for workers, shape in ((1, (1, 6, 16, 24)), (2, (1, 6, 8, 8))):
        with Restorer(changed(fake_plan, engine=None), memory=160 * 16 * 24, workers=workers) as restorer:
            restorer.restore(picture)
        assert fake.compiled[-1] == shape


def test_warming_up_compiles_and_runs_on_every_worker(pair: Restorer, fake) -> None:
    pair.warm_up(7, 12, batch=2, dtype="float32", tensors=True)
    assert fake.compiled == [(2, 6, 8, 12)] * 2
    assert [network.evaluated for network in fake.networks] == [[0, 1, 2]] * 2
    with pair.lend(bytes_of((2, 7, 12, 3))):
        elsewhere(lambda: pair.restore(bytes_of((2, 7, 12, 3))))
    assert len(fake.compiled) == 2


@pytest.mark.parametrize("size", [(0, 8), (8, -1), (8, 8, 0)], ids=str)
def test_no_picture_has_such_a_size(restorer: Restorer, fake, size: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="cannot warm up for"):
        restorer.warm_up(*size)
    assert fake.compiled == []


@pytest.mark.parametrize("size", [(64, 96), (10**9, 10**9)], ids=str)
def test_what_would_be_cut_is_warmed_up_as_tiles(fake, fake_plan: Plan, size: tuple[int, int]) -> None:
    """A restore of it then compiles nothing; whole it would take more memory than there is."""
    with Restorer(changed(fake_plan, engine=None), memory=160 * 16 * 16) as restorer:
        restorer.warm_up(*size)
        assert fake.compiled == [(1, 6, 12, 12)]
        restorer.restore(bytes_of((64, 96, 3)))
        assert fake.compiled == [(1, 6, 12, 12)]


def test_so_many_pictures_at_once_cannot_be_warmed_up(fake, fake_plan: Plan) -> None:
    with Restorer(fake_plan, memory=160 * 16 * 24) as restorer:
        with pytest.raises(InputError, match="1000000 pictures at once exceed the memory"):
            restorer.warm_up(8, 8, batch=10**6)
        assert fake.compiled == []


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "", np.uint8], ids=repr)
def test_no_picture_is_kept_in_such_a_type(restorer: Restorer, dtype: Any) -> None:
    with pytest.raises(InputError, match="cannot warm up for 1 x 8x8 of"):
        restorer.warm_up(8, 8, dtype=dtype)


# Calls that wait


def test_a_deadline_reaches_the_queue(restorer: Restorer, picture) -> None:
    out = np.full_like(picture, 7)
    calls = [
        lambda: restorer.restore(picture, timeout=0.01),
        lambda: restorer.restore_into(picture, out, timeout=0.01),
        lambda: restorer.lend(picture, timeout=0.01).__enter__(),
        lambda: restorer.restore(picture, tile=8, timeout=0),
    ]
    with restorer.lend(picture):
        for call in calls:
            assert isinstance(elsewhere(call), DeadlineError)
    assert (out == 7).all()
    # With a free worker there is nothing to wait for.
    restorer.restore(picture, timeout=0)
    restorer.restore(picture, tile=8, timeout=0)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_that_is_none(restorer: Restorer, picture, timeout: float) -> None:
    for call in (restorer.restore, restorer.lend):
        with pytest.raises(InputError, match="timeout"), entered(call(picture, timeout=timeout)):
            pytest.fail("went on")


def test_a_cancellation_reaches_the_queue(restorer: Restorer, fake, picture) -> None:
    cancellation = Cancellation()
    with restorer.lend(picture):
        waiting = [
            in_thread(lambda: restorer.restore(picture, cancellation=cancellation)),
            in_thread(lambda: restorer.lend(picture, cancellation=cancellation).__enter__()),
        ]
        cancellation.cancel()
        for thread, found in waiting:
            thread.join(LIMIT)
            assert isinstance(found[0], CancelledError)
    with pytest.raises(CancelledError):
        restorer.restore_into(picture, picture, cancellation=cancellation)
    assert len(fake.networks) == 1
    restorer.restore(picture)


def test_a_cancellation_ends_a_restore_between_two_evaluations(fake, fake_plan: Plan, picture) -> None:
    """Whole or in tiles; what was compiled is of use afterwards."""
    cancellation = Cancellation()

    class Cancelling(fake.make):  # type: ignore[misc]
        def evaluate(self, step: int) -> None:
            super().evaluate(step)
            cancellation.cancel()

    fake.make = Cancelling
    out = np.full_like(picture, 7)
    with Restorer(fake_plan) as restorer:
        for index, tile in enumerate((0, 8)):
            cancellation = Cancellation()
            with pytest.raises(CancelledError):
                restorer.restore_into(picture, out, tile=tile, cancellation=cancellation)
            assert fake.networks[index].evaluated == [0]
            assert (out == 7).all()
            cancellation = Cancellation()
            with pytest.raises(CancelledError):
                restorer.lend(picture, cancellation=cancellation).__enter__()
        assert len(fake.networks) == 2
        expected = restorer.restore(picture, tile=8)
        assert len(fake.networks) == 2
    with Restorer(fake_plan) as fresh:
        np.testing.assert_array_equal(fresh.restore(picture, tile=8), expected)


def test_a_restore_that_is_not_cancelled_is_asked_before_each_evaluation(fake, restorer: Restorer, picture) -> None:
    class Asked(Cancellation):
        times = 0

        @property
        def cancelled(self) -> bool:
            self.times += 1
            return False

    asked = Asked()
    expected = restorer.restore(picture)
    np.testing.assert_array_equal(restorer.restore(picture, cancellation=asked), expected)
    # Before it waits for a worker, and before each of three evaluations.
    assert asked.times == 4


@pytest.mark.parametrize("queue", [0, 1])
def test_the_queue_has_the_length_that_was_asked_for(fake_plan: Plan, picture, queue: int) -> None:
    with Restorer(fake_plan, queue=queue) as restorer:
        with restorer.lend(picture):
            answer = elsewhere(lambda: restorer.restore(picture, timeout=0.01))
        assert isinstance(answer, DeadlineError if queue else BusyError)


def test_wrong_pictures_are_told_without_waiting(fake_plan: Plan, picture) -> None:
    with Restorer(fake_plan, queue=0) as restorer, restorer.lend(picture):
        for wrong in (lambda: restorer.restore(picture[0]), lambda: restorer.restore(picture, seed=-1)):
            assert isinstance(elsewhere(wrong), InputError)
