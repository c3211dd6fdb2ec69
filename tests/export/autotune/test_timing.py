"""Restores are timed interleaved, for as long as is said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.export.autotune import timing
from mrs.kernels.table import Row, Table
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Loop


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


@pytest.mark.parametrize(("device", "looks"), [("gpu", 2), (None, 4)])
def test_a_conditioner_is_no_part_of_a_gpus_times(
    monkeypatch: pytest.MonkeyPatch, device: str | None, looks: int
) -> None:
    """There a restore has it on the GPU; on a CPU it is part of every restore."""
    looked: list[Any] = []

    def condition(pictures: Any) -> Any:
        looked.append(pictures)
        return np.full((1, 2), pictures.max(), np.float32)

    monkeypatch.setattr(timing, "device_of", lambda backend: device)
    monkeypatch.setattr(timing, "make_chain", lambda device, network, loop, *_, **__: SimpleNamespace(loop=loop))
    loop = Loop(Table((1.0, 0.0), (Row(*[0.1] * 11),), 0.5, "none"), np.ones((1, 3), np.float32), condition)
    backend: Any = None
    chain: Any = timing.chain_of(backend, b"", "fp32", loop, (1, 4, 4, 3), CompileSettings(1))
    one, other = np.zeros((1, 4, 4, 3), np.uint8), np.ones((1, 4, 4, 3), np.uint8)
    told = [float(chain.loop.condition(each)[0, 0]) for each in (one, other, one.copy(), other)]
    assert (told, len(looked)) == ([0, 1, 0, 1], looks)
