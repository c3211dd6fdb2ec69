"""A build times an evaluation of larger pictures on the engine that it chose, as far as that is done in seconds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrs.export.autotune import pace
from mrs.export.autotune.candidates import Candidate
from mrs.export.autotune.pace import measure_pace
from mrs.export.autotune.workload import Pair, Target, Workload
from mrs.export.graph_variant import GraphVariant
from mrs.kernels.table import Row, Table
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Loop

VARIANT = GraphVariant("length", "weights")
LOOP = Loop(Table((9.0, 4.0, 0.0), (Row(*[0.1] * 11),) * 2, 0.5, "none"), np.ones((2, 3), np.float32))
WORKLOAD = Workload({VARIANT: b"graph"}, [Pair(np.full((8, 8, 3), 51, np.uint8))], (1, 16, 16), LOOP)
# 20 us a pixel in an evaluation.
CHOSEN = Candidate("openvino", "fp32", 2 * 16 * 16 * 0.02, variant="length-weights")


class Engine:
    """Takes as long as it is told to, on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> None:
        self.now, self.seconds, self.made = 0.0, seconds, list[int]()
        monkeypatch.setattr("mrs.export.autotune.pace.time.perf_counter", lambda: self.now)
        monkeypatch.setattr("mrs.export.autotune.pace.mixed.compile_network", self.compile)
        monkeypatch.setattr(pace, "SIDES", (256, 512, 1024))

    def compile(self, backend: Any, graph: bytes, modulation: Any, shape: Any, precision: str, settings: Any) -> Any:
        engine, side = self, shape[2]
        assert (graph, shape, precision) == (b"graph", (1, 6, side, side), "fp32")
        self.made.append(side)

        class Network:
            packed = np.zeros(shape, np.float32)
            first = True

            def evaluate(self, step: int) -> None:
                assert step == 1
                np.testing.assert_allclose(self.packed, 0.2)
                # The first takes longer.
                engine.now += engine.seconds[side] * (5 if self.first else 1)
                self.first = False

        return Network()


def measured(chosen: Candidate = CHOSEN, each: int = 100, **changes: Any) -> tuple[tuple[int, float], ...]:
    target = Target("auto", "fp32", "auto", CompileSettings(2))
    return measure_pace(replace(WORKLOAD, **changes), target, changes.get("reference", LOOP), chosen, each)


def test_sides_are_measured_after_a_first_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, {256: 0.065536, 512: 0.524288, 1024: 3.145728})
    assert measured() == ((256, 1.0), (512, 2.0), (1024, 3.0))
    assert engine.made == [256, 512, 1024]


def test_what_takes_long_or_more_memory_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # 4.2 s expected at 1024.
    engine = Engine(monkeypatch, {256: 0.1, 512: 1.05})
    assert [side for side, _ in measured()] == [256, 512]
    assert engine.made == [256, 512]
    # One point tells nothing.
    engine = Engine(monkeypatch, {256: 1.1})
    assert measured() == ()
    # From the candidate's own time.
    assert measured(replace(CHOSEN, latency_ms=2 * 16 * 16 * 0.07)) == ()
    assert measured(replace(CHOSEN, latency_ms=math.nan)) == ()
    assert engine.made == [256]
    monkeypatch.setattr("mrs.export.autotune.pace.default_memory", lambda device: 512**2 * 100)
    Engine(monkeypatch, {256: 0.065536, 512: 0.524288})
    assert [side for side, _ in measured()] == [256, 512]


def test_where_tiles_are_no_matter_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, {})
    codec: Any = object()
    assert measured(reference=replace(LOOP, codec=codec)) == ()
    assert measured(replace(CHOSEN, backend="torch")) == ()
    assert backends.get("torch").device == "cuda"
    assert engine.made == []
