"""The loops of a build: a reference for every grid, and as many evaluations as fit into a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import mrs
from mrs.building import loops
from mrs.building.build import build
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import BackendError, InputError
from mrs.runtime.plan import read_plan
from tests.mrs.building.builds import SOLVER, quickly

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow(6)]


@pytest.mark.parametrize("spacing", ["leading", "trailing", "karras-n", "karras-t", "linear-lambda"])
def test_every_time_grid_has_a_reference(monkeypatch: pytest.MonkeyPatch, spacing: str) -> None:
    solver = replace(SOLVER, spacing=spacing)
    monkeypatch.setattr(loops, "REFERENCE_STEPS", 100)
    table = loops.reference_table(Schedule(), solver, "noise")
    assert len(table.rows) == 100


def test_the_reference_of_times_of_its_own_is_the_same_method_in_equal_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "REFERENCE_STEPS", 30)
    solver = Solver("deis", 3, steps=2, spacing="custom", times=(90.0, 33.0, 0.0), last_step="full")
    table = loops.reference_table(Schedule(), solver, "noise")
    assert table == tableau(Schedule(), Solver("deis", 3, steps=30, last_step="full"))


def test_the_reference_of_a_later_start_starts_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "REFERENCE_STEPS", 100)
    table = loops.reference_table(Schedule(), replace(SOLVER, start_time=40.0), "noise")
    assert (table.times[0], len(table.rows)) == (40.0, 100)
    assert table.start == float(Schedule().sigma(40))


def test_a_grid_without_that_many_times_is_built(weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "REFERENCE_STEPS", 60)
    assert quickly(weights, path, solver=replace(SOLVER, spacing="leading")).manifest["solver"]["spacing"] == "leading"


# As many evaluations as fit


def test_a_time_chooses_the_evaluations(weights: Path, path: Path) -> None:
    made = build(weights, path, size=(8, 8), solver=SOLVER, backend="onnxruntime", max_latency=1e4, threads=1)
    latency = read_plan(path).manifest["latency"]
    assert latency["max_ms"] == 1e4
    fits = latency["evaluations"]
    assert {fit["steps"] for fit in fits} == set(loops.LADDER)
    best = max(fits, key=lambda fit: (fit["quality_db"], -fit["steps"]))
    assert made.manifest["solver"]["steps"] == len(made.table.rows) == best["steps"]
    assert made.modulation.shape[0] == best["steps"]
    # All else is as it was asked for.
    assert made.manifest["solver"] == replace(SOLVER, steps=best["steps"]).to_dict()
    assert restored_in_steps(path) == best["steps"]


def restored_in_steps(path: Path) -> int:
    with mrs.load(path, threads=1) as restorer, restorer.chain((1, 8, 8)) as chain:
        return len(chain.table.rows)


def test_without_a_time_there_is_nothing_about_it(weights: Path, path: Path) -> None:
    assert "latency" not in build(weights, path, size=(8, 8), solver=SOLVER, backend="onnxruntime").manifest


@pytest.mark.parametrize("milliseconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none(weights: Path, path: Path, milliseconds: float) -> None:
    with pytest.raises(InputError, match="is not a positive number of milliseconds"):
        build(weights, path, max_latency=milliseconds)
    assert not path.exists()


def test_a_time_that_is_too_short(weights: Path, path: Path) -> None:
    with pytest.raises(BackendError, match=r"in 1 evaluation takes .* ms here, more than 0\.0001 ms"):
        build(weights, path, size=(8, 8), backend="onnxruntime", solver=SOLVER, max_latency=1e-4, threads=1)
    assert not path.exists()


def test_a_solver_whose_evaluations_are_settled(weights: Path, path: Path) -> None:
    settled = Solver("dpm++", 2, steps=2, spacing="custom", times=(50.0, 20.0, 0.0))
    with pytest.raises(InputError, match="fixed number of evaluations"):
        build(weights, path, size=(8, 8), backend="onnxruntime", solver=settled, max_latency=100.0, threads=1)
