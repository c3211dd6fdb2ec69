"""Times between two events, with the caches cold and the host out of the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.gpu.clock import FEWEST, HOLD, LONGEST_HOLD, Clock, Work


def work(cuda: Any, name: str, microseconds: float) -> Work:
    return Work(lambda: cuda.launch(name, microseconds), lambda: cuda.launch(f"prepare {name}", 100.0))


@pytest.fixture
def clock(cuda: Any) -> Clock:
    return Clock(cuda, lambda: cuda.launch("flush", 1000.0))


def test_only_the_work_lies_between_the_events(cuda: Any, clock: Clock) -> None:
    assert clock.sample(work(cuda, "a", 7.5)) == pytest.approx(7.5)
    assert cuda.log == ["prepare a", "flush", "sleep", "event", "a", "event", "query", "wait"]


def test_warm_work_runs_just_before_and_nothing_is_evicted(cuda: Any, clock: Clock) -> None:
    assert clock.sample(replace(work(cuda, "a", 7.5), cold=False)) == pytest.approx(7.5)
    assert cuda.log == ["prepare a", "a", "prepare a", "sleep", "event", "a", "event", "query", "wait"]


def test_a_sample_that_the_host_was_late_for_is_repeated_with_a_longer_wait(cuda: Any, clock: Clock) -> None:
    cuda.late = iter([True, True, False, False])
    assert clock.sample(work(cuda, "a", 3.0)) == pytest.approx(3.0)
    assert cuda.log.count("prepare a") == cuda.log.count("a") == 3
    clock.sample(work(cuda, "a", 3.0))
    assert cuda.holds == [HOLD, 2 * HOLD, 4 * HOLD, 4 * HOLD]
    assert clock.late == 0


def test_after_the_longest_wait_a_late_sample_is_kept_and_counted(cuda: Any, clock: Clock) -> None:
    cuda.late = iter([True] * 50)
    assert clock.sample(work(cuda, "a", 3.0)) == pytest.approx(3.0)
    assert cuda.holds[-1] == LONGEST_HOLD
    assert clock.late == 1


def test_works_are_sampled_by_turns_once_all_of_them_ran(cuda: Any, clock: Clock) -> None:
    samples = clock.compare({"one": work(cuda, "a", 2.0), "two": work(cuda, "b", 5.0)}, rounds=3)
    assert samples == {"one": pytest.approx([2.0] * 3), "two": pytest.approx([5.0] * 3)}
    runs = [name for name in cuda.log if name in ("a", "b", "synchronize")]
    assert runs == ["a", "b", "synchronize", "a", "b", "a", "b", "a", "b"]


def test_slow_work_has_fewer_rounds(cuda: Any) -> None:
    clock = Clock(cuda, lambda: None, now=lambda: cuda.time / 1e6)
    assert len(clock.compare({"one": work(cuda, "a", 1e5)}, rounds=50, seconds=2.0)["one"]) == pytest.approx(19, abs=1)
    assert len(clock.compare({"one": work(cuda, "a", 1e6)}, rounds=50, seconds=2.0)["one"]) == FEWEST
