"""Work is started only where it will probably end in time."""

from __future__ import annotations

import pytest

from benchmarks.gpu.budget import Budget


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def takes(self, seconds: float, result: str = "done") -> str:
        self.now += seconds
        return result


@pytest.fixture
def time() -> Time:
    return Time()


def test_work_is_done_and_its_result_returned(time: Time) -> None:
    budget = Budget(10, now=time)
    assert budget.spend("kind", "name", lambda: time.takes(4)) == "done"
    assert budget.left == 6
    assert budget.left_out == []


def test_what_the_longest_of_its_kind_would_overrun_is_left_out(time: Time) -> None:
    budget = Budget(10, now=time)
    budget.spend("kind", "long", lambda: time.takes(4))
    budget.spend("kind", "short", lambda: time.takes(1.5))
    assert budget.spend("kind", "fits", lambda: time.takes(1.5)) == "done"
    assert budget.left == 3
    assert budget.spend("kind", "no", lambda: pytest.fail("it was started")) is None
    assert budget.left_out == ["no"]


def test_kinds_are_told_apart(time: Time) -> None:
    budget = Budget(10, now=time)
    budget.spend("slow", "one", lambda: time.takes(6))
    assert budget.spend("slow", "two", lambda: time.takes(6)) is None
    assert budget.spend("quick", "three", lambda: time.takes(3)) == "done"


def test_the_first_of_a_kind_may_be_expected_to_take_long(time: Time) -> None:
    budget = Budget(10, {"slow": 10.0}, now=time)
    assert budget.spend("slow", "one", lambda: time.takes(1)) is None
    assert budget.spend("quick", "two", lambda: time.takes(1)) == "done"


def test_nothing_is_started_without_time(time: Time) -> None:
    budget = Budget(0, now=time)
    assert budget.spend("kind", "name", lambda: time.takes(1)) is None


def test_failed_work_has_taken_its_time_too(time: Time) -> None:
    def fail() -> None:
        time.takes(6)
        raise ValueError

    budget = Budget(10, now=time)
    with pytest.raises(ValueError):
        budget.spend("kind", "name", fail)
    assert budget.spend("kind", "other", lambda: time.takes(1)) is None
