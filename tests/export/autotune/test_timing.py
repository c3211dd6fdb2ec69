"""Restores are timed interleaved, for as long as is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrs.export.autotune import timing


@pytest.mark.parametrize(("seconds", "rounds", "count"), [(0.0, (2, 9), 2), (1e9, (2, 4), 4)])
def test_rounds_of_timing(monkeypatch: pytest.MonkeyPatch, seconds: float, rounds: tuple[int, int], count: int) -> None:
    order: list[int] = []

    class Chain:
        def __init__(self, number: int) -> None:
            self.number = number

        def restore_into(self, picture: Any, out: Any, seed: int, before: Any = None) -> None:
            order.append(self.number)

    monkeypatch.setattr(timing, "SECONDS", seconds)
    monkeypatch.setattr(timing, "ROUNDS", rounds)
    picture = np.zeros((1, 4, 4, 3), np.uint8)
    times = timing.time_interleaved({0: (Chain(0), picture), 2: (Chain(2), picture)})  # type: ignore[dict-item]
    assert {index: len(entries) for index, entries in times.items()} == {0: count, 2: count}
    assert order == [0, 2] * count
