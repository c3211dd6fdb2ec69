"""Solvers that run away are found from their rows alone, and named; all others are not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mrs.numerics.growth import LIMIT, SPREAD, growth, runs_away
from mrs.numerics.methods import METHODS
from mrs.numerics.schedule import CONVENTIONS, Schedule
from mrs.numerics.solver import PREDICTIONS, RECOMMENDED, Solver
from mrs.numerics.tableau import tableau
from tests.gaussian import GaussianProblem, moments

pytestmark = pytest.mark.slow(5)

SCHEDULES = [
    pytest.param(Schedule(max_sigma=sigma, convention=convention), id=f"{convention} {sigma}")
    for sigma in (10, 50)
    for convention in CONVENTIONS
]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES)
ON_GRIDS = [(method, order) for method, facts in METHODS.items() if facts.times != "single" for order in facts.orders]


def of(method: str, order: int, prediction: str, steps: int, **more: Any) -> Solver:
    option = {"stochasticity": {"stochasticity": 0.7}, "momentum": {"momentum": 0.3}}.get(METHODS[method].option, {})
    return Solver(method, order, prediction, steps, last_step="lower-order", **option, **more)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("method", "order"), ON_GRIDS)
def test_growth_is_what_the_gaussian_problem_says(method: str, order: int, prediction: str) -> None:
    """Its states by the reference loop, a step at a time."""
    schedule = Schedule()
    problem = GaussianProblem(schedule, 0.3, SPREAD)
    solver = of(method, order, prediction, 5)
    table = tableau(schedule, solver)
    expected = max(
        math.sqrt(moments(table.first(count), problem)[1] / float(problem.variance(table.times[count])))
        for count in range(1, 6)
    )
    assert growth(schedule, solver) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("method", ["posterior", "sde", "dpm++", "sa"])
def test_the_denoising_process_starts_from_its_own_spread(method: str, prediction: str) -> None:
    process = Schedule(max_sigma=75, eps=0.04, convention="ir-sde", interpolation="exact", process="denoising")
    order = METHODS[method].orders[0]
    assert growth(process, of(method, order, prediction, 20, start_time=30)) == pytest.approx(1, abs=0.05)


@each_schedule
@pytest.mark.parametrize(
    ("solver", "named"),
    [
        (of("sde", 1, "noise", 5), "sde-1 with a noise prediction runs away at 5 evaluations"),
        (of("sde", 2, "noise", 10), "sde-2 with a noise prediction runs away at 10 evaluations"),
        (of("sde-2m", 2, "noise", 5), "sde-2m with a noise prediction runs away at 5 evaluations"),
        (of("sa", 2, "noise", 3), "sa-2 with a noise prediction runs away at 3 evaluations"),
        (of("sa-2m", 2, "noise", 5), "sa-2m with a noise prediction runs away at 5 evaluations"),
        (of("sde", 1, "noise", 5, noise_scale=0), "sde-1 with a noise prediction runs away at 5 evaluations"),
        (of("heun", 2, "data", 3), "heun with a data prediction runs away at 3 evaluations"),
        (of("heun", 2, "noise", 3), "heun with a noise prediction runs away at 3 evaluations"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_runs_away_is_named_with_what_to_do(schedule: Schedule, solver: Solver, named: str) -> None:
    line = runs_away(schedule, solver)
    assert line is not None
    assert line.startswith(f"{named}: a state has ")
    better = "another solver" if solver.method == "heun" else "a data prediction"
    assert line.endswith(f" times the spread of the process; use {better}, or more evaluations")
    # Each of the two helps.
    if solver.method != "heun":
        assert runs_away(schedule, Solver(**{**solver.to_dict(), "prediction": "data"})) is None
    assert runs_away(schedule, Solver(**{**solver.to_dict(), "steps": 51})) is None


@each_schedule
@pytest.mark.parametrize(("method", "order"), [each for each in ON_GRIDS if each[0] != "heun"])
def test_no_data_prediction_runs_away(method: str, order: int, schedule: Schedule) -> None:
    for steps in (1, 2, 3, 4, 5, 10):
        assert runs_away(schedule, of(method, order, "data", steps)) is None
    assert runs_away(schedule, RECOMMENDED) is None


@each_schedule
@pytest.mark.parametrize("method", ["ode", "dpm++", "dpm++-2m", "deis", "ipndm", "ghvb", "posterior"])
def test_no_noise_prediction_of_these_does(method: str, schedule: Schedule) -> None:
    for order in METHODS[method].orders:
        for steps in (2, 3, 5, 10):
            assert runs_away(schedule, of(method, order, "noise", steps)) is None


def test_what_cannot_be_judged_by_its_spread_is_not() -> None:
    schedule = Schedule()
    assert runs_away(schedule, of("heun", 2, "data", 3)) is not None
    assert runs_away(schedule, of("heun", 2, "data", 3, clamp="unit")) is None
    single, loud = of("euler-sde", 1, "data", 3), Schedule(max_sigma=255)
    assert growth(loud, single) > LIMIT
    assert runs_away(loud, single) is None
    times = {"spacing": "custom", "times": (100.0, 50.0, 0.0)}
    wild = of("dpm++", 1, "data", 2, weights=((5.0, 0.5), (5.0, 0.5)), **times)
    assert growth(schedule, wild) > LIMIT
    assert runs_away(schedule, wild) is None
