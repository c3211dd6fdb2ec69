"""Parts of restores are recorded while somebody asks, with their thread, worker and step; else nothing is done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mrs.runtime import tracing
from mrs.runtime.cpu_chain import CpuChain
from mrs.runtime.errors import DeadlineError
from mrs.runtime.session import Restorer
from mrs.runtime.tracing import Part, Recorder, recording, timed


def named(parts: list[Part], name: str) -> list[Part]:
    return [part for part in parts if part.name == name]


def test_nothing_is_wrapped_while_nobody_records() -> None:
    assert timed("network", abs) is abs
    with recording():
        assert timed("network", abs) is not abs
    assert timed("network", abs) is abs


def test_calls_are_recorded_with_their_times_whether_they_end_or_fail() -> None:
    ticks = iter([1.0, 2.5, 4.0, 8.0])
    recorder = Recorder(now=lambda: next(ticks))
    divide: Callable[[int, int], int] = recorder.timed("network", lambda a, b: a // b)
    assert divide(6, 3) == 2
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)
    here = threading.get_ident()
    assert recorder.parts == [
        Part("network", 1.0, 2.5, here, None, 0),
        Part("network", 4.0, 8.0, here, None, 1),
    ]


def test_the_inner_of_two_records_alone_and_the_outer_goes_on() -> None:
    with recording() as outer:
        with recording() as inner:
            timed("start", abs)(1)
        timed("finish", abs)(1)
    assert [part.name for part in inner.parts] == ["start"]
    assert [part.name for part in outer.parts] == ["finish"]
    assert tracing.active() is None


def test_a_restore_in_parts(restorer, picture) -> None:
    expected = restorer.restore(picture, 3)
    with recording() as recorder:
        traced = restorer.restore(picture, 3)
    np.testing.assert_array_equal(traced, expected)
    with recording() as again:
        for _ in range(2):
            restorer.restore(picture, 3)
    # The second call's wait is again before any worker.
    assert {part.worker for part in named(again.parts, "wait") + named(again.parts, "restore")} == {None}
    done = [(part.name, part.worker, part.step) for part in sorted(recorder.parts, key=lambda part: part.begin)]
    steps = [(name, 1, step) for step in range(3) for name in ("network", "step")]
    assert done == [("restore", None, None), ("wait", None, None), ("start", 1, None), *steps, ("finish", 1, None)]
    whole, *inner = sorted(recorder.parts, key=lambda part: part.begin)
    assert all(whole.begin <= part.begin <= part.end <= whole.end for part in inner)


def test_the_conditioner_and_enlarging_are_parts_where_there_are_such(fake_network, fake_plan, picture) -> None:
    network = fake_network((1, 6, 16, 24))
    network.context = np.zeros((1, 4, 1, 1), np.float32)
    chain = CpuChain(network, fake_plan.table, 1, condition=lambda pictures: np.ones((1, 4), np.float32))
    with recording() as recorder:
        chain.restore_into(picture[None], None, 0)
    assert [part.name for part in recorder.parts][:2] == ["conditioner", "start"]
    enlarging = replace(fake_plan, manifest={**fake_plan.manifest, "upscale": 2})
    with Restorer(enlarging, threads=1) as restorer, recording() as recorder:
        restorer.restore(picture)
    assert len(named(recorder.parts, "enlarge")) == 1


def test_every_tile_counts_its_own_steps(restorer, picture) -> None:
    with recording() as recorder:
        restorer.restore(picture, tile=8, overlap=0)
    assert [part.step for part in named(recorder.parts, "network")] == [0, 1, 2] * 6


def test_workers_have_numbers_and_a_call_that_waits_shows_it(pair, picture) -> None:
    def on_a_thread(work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def while_the_second_is_lent() -> None:
        with pair.lend(picture):
            on_a_thread(too_late)

    def too_late() -> None:
        with pytest.raises(DeadlineError):
            pair.restore(picture, timeout=0.05)
        refused.append(True)

    refused: list[bool] = []
    with recording() as recorder, pair.lend(picture):
        on_a_thread(while_the_second_is_lent)
    assert refused
    assert {part.worker for part in named(recorder.parts, "network")} == {1, 2}
    assert max(part.end - part.begin for part in named(recorder.parts, "wait")) > 0.04
