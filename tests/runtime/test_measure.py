"""Works are timed in turn, for as many rounds as are asked for or as there is time for; samples spread."""

from __future__ import annotations

import pytest

from mrs.runtime.measure import Spread, interleaved, ratios


class Clock:
    """Seconds that pass only while a work runs."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.order: list[str] = []

    def work(self, name: str, seconds: float) -> None:
        self.order.append(name)
        self.seconds += seconds

    def now(self) -> float:
        return self.seconds


@pytest.mark.parametrize(
    ("least", "most", "seconds", "rounds"),
    [(2, None, 0.0, 2), (2, 9, 0.0, 2), (2, 4, 1e9, 4), (1, None, 10.0, 4), (3, 3, 1e9, 3), (5, None, 10.0, 5)],
)
def test_rounds_in_turn_until_there_are_enough_or_the_time_is_over(
    least: int, most: int | None, seconds: float, rounds: int
) -> None:
    clock = Clock()
    works = {"short": lambda: clock.work("short", 1.0), "long": lambda: clock.work("long", 2.0)}
    samples = interleaved(works, least=least, most=most, seconds=seconds, now=clock.now)
    assert clock.order == ["short", "long"] * rounds
    assert samples == {"short": [1e3] * rounds, "long": [2e3] * rounds}


def test_a_work_that_takes_long_takes_part_in_the_first_rounds_alone() -> None:
    clock = Clock()
    works = {"short": lambda: clock.work("short", 1.0), "long": lambda: clock.work("long", 20.0)}
    samples = interleaved(works, least=3, limits={"long": 2}, now=clock.now)
    assert clock.order == ["short", "long", "short", "long", "short"]
    assert [len(each) for each in samples.values()] == [3, 2]


@pytest.mark.parametrize(
    ("samples", "spread"),
    [
        ([3.0], (3.0, 3.0, 3.0, 3.0, 3.0)),
        ([1.0, 3.0], (2.0, 1.5, 2.5, 2.8, 2.98)),
        ([5.0, 1.0, 2.0, 4.0, 3.0], (3.0, 2.0, 4.0, 4.6, 4.96)),
    ],
)
def test_a_spread_interpolates_between_samples(samples: list[float], spread: tuple[float, ...]) -> None:
    found = Spread.of(samples)
    assert found == pytest.approx(spread)
    assert found.jitter == pytest.approx(spread[4] / spread[0] - 1)


def test_ratios_are_of_samples_of_one_round() -> None:
    assert ratios([2.0, 9.0], to=[1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="shorter"):
        ratios([2.0, 9.0], to=[1.0])
