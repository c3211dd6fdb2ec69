"""Numbers of evaluations: which fit into a time, which of them is best, and what happens where engines disappoint."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.export.autotune import budget as latency
from mrs.export.autotune.budget import Fit, fitting, within
from mrs.export.autotune.candidates import Candidate
from mrs.export.autotune.workload import Pair, Target, Workload
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError

PICTURE = np.full((8, 8, 3), 128, np.uint8)
CLEAN = np.full((8, 8, 3), 51, np.uint8)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Two engines and what they measure: `lines` by engine, and each loop's own picture.

    A loop is its number of evaluations here, and restores to a grey of `greys`.
    """
    made = SimpleNamespace(
        lines={"openvino": (2.0, 10.0), "onnxruntime": (1.0, 20.0)}, greys={1: 0.4, 2: 0.25, 3: 0.2, 4: 0.3}, ran=[]
    )

    def line(candidate: Candidate, *_: Any) -> tuple[float, float]:
        found: Any = made.lines[candidate.backend]
        if isinstance(found, Exception):
            raise found
        return found

    def run_all(engine: Any, graph: bytes, precision: str, loop: Any, pairs: list[Pair], *_: Any) -> Any:
        made.ran.append((engine.name, precision, loop))
        return [np.full(pair.degraded.shape, made.greys[loop], np.float32) for pair in pairs]

    monkeypatch.setattr(latency, "_line", line)
    monkeypatch.setattr(latency, "run_all", run_all)
    monkeypatch.setattr(latency, "evaluations", lambda loops, pictures: pictures * sum(loops))
    monkeypatch.setattr(
        latency, "candidates", lambda *_: [Candidate("openvino", "bf16"), Candidate("onnxruntime", "fp32")]
    )
    monkeypatch.setattr(latency, "first_variant", lambda engine: "form")
    return made


def fits(milliseconds: float, pairs: list[Pair] | None = None, report: Any = lambda line: None) -> list[Fit]:
    loops: Any = {steps: steps for steps in (1, 2, 3, 4)}
    graphs: Any = {"form": b""}
    reference: Any = 2
    workload = Workload(graphs, pairs or [Pair(PICTURE, CLEAN), Pair(PICTURE)], (1, 8, 8), reference)
    return fitting(workload, Target(settings=CompileSettings(1, report=report)), loops, milliseconds)


def test_the_best_comes_first_and_more_is_not_better(machine) -> None:
    found = fits(100.0)
    # The truth is 0.2.
    assert [fit.steps for fit in found] == [3, 2, 4, 1]
    assert {fit.steps: fit.latency_ms for fit in found} == {1: 12.0, 2: 22.0, 3: 32.0, 4: 42.0}
    assert all(fit.of_truth for fit in found)
    assert found[1].quality_db == pytest.approx(-20 * np.log10(0.05), abs=0.01)
    # On the engine with the faster evaluation, and on pictures whose truth is known.
    assert machine.ran == [("openvino", "bf16", steps) for steps in (1, 2, 3, 4)]


@pytest.mark.parametrize(("milliseconds", "steps"), [(12.0, [1]), (31.9, [2, 1]), (32.0, [3, 2, 1])])
def test_only_what_fits_is_tried(machine, milliseconds: float, steps: list[int]) -> None:
    assert [fit.steps for fit in fits(milliseconds)] == steps


def test_of_equal_quality_the_faster_one(machine) -> None:
    machine.greys = dict.fromkeys((1, 2, 3, 4), 0.25)
    assert [fit.steps for fit in fits(100.0)] == [1, 2, 3, 4]


def test_without_a_truth_the_solution_in_100_steps_counts(machine) -> None:
    found = fits(100.0, [Pair(PICTURE)])
    # The reference is as good as two steps here: equal to them.
    assert [fit.steps for fit in found] == [2, 3, 4, 1]
    assert found[0].quality_db is None
    assert not any(fit.of_truth for fit in found)
    assert machine.ran[0] == ("openvino", "fp32", 2)


def test_a_time_that_nothing_keeps(machine) -> None:
    with pytest.raises(BackendError, match=r"in 1 evaluation takes 12\.0 ms here, more than 11\.5 ms") as error:
        fits(11.5)
    assert "smaller size" in error.value.hint


def test_an_engine_that_fails_is_left_out(machine) -> None:
    lines: list[str] = []
    machine.lines["openvino"] = BackendError("it is broken")
    assert fits(100.0, report=lines.append)[0].latency_ms == 61.0
    assert "openvino bf16 is left out: it is broken" in lines
    machine.lines["onnxruntime"] = BackendError("that too")
    with pytest.raises(BackendError, match="no backend could be timed"):
        fits(100.0)


# What is measured afterwards


def chooser(times: dict[int, float], asked: list[int]) -> Callable[[int], Any]:
    def choose(steps: int) -> Any:
        asked.append(steps)
        return SimpleNamespace(chosen=Candidate("openvino", "fp32", latency_ms=times[steps]))

    return choose


FITS = [Fit(steps, 10.0 * steps, quality, True) for steps, quality in ((4, 30.0), (5, 29.0), (3, 28.0), (2, 27.0))]


@pytest.mark.parametrize(
    ("times", "asked", "steps"),
    [
        ({4: 40.0}, [4], 4),
        # What is worse and slower than what was too slow is not tried.
        ({4: 60.0, 3: 45.0}, [4, 3], 3),
        ({4: 60.0, 3: 55.0, 2: 50.0}, [4, 3, 2], 2),
    ],
)
def test_the_best_that_keeps_the_time_is_used(times: dict[int, float], asked: list[int], steps: int) -> None:
    tried: list[int] = []
    lines: list[str] = []
    chosen, found = within(50.0, FITS, chooser(times, tried), lines.append)
    assert (chosen, tried) == (steps, asked)
    assert found.chosen.latency_ms == times[steps]
    assert len(lines) == len(asked) - 1


def test_where_parity_costs_too_much_time_it_says_so() -> None:
    said = r"^no number of evaluations keeps 50 ms: 4 take 60\.0 ms on openvino; 3 take 60"
    with pytest.raises(BackendError, match=said):
        within(50.0, FITS, chooser({4: 60.0, 3: 60.0, 2: 51.0}, []), lambda line: None)
