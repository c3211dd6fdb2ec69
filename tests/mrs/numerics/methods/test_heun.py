"""Heun's rows are Karras' algorithm in y/a and s/a, with two evaluations per step where the end allows it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mrs.numerics.methods.heun import heun_intervals, heun_times
from mrs.numerics.schedule import CONVENTIONS, Schedule
from mrs.numerics.solver import PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError
from tests.together import together

each_prediction = together("prediction", PREDICTIONS)
each_convention = together("convention", CONVENTIONS)


def karras(
    schedule: Schedule, grid: list[float], one_slope: set[int], y: Any, data: Callable[[Any, float], Any]
) -> Any:
    """Algorithm 1 of arXiv 2206.00364 without churn: state y/a, noise level s/a, `data` the denoiser D.

    `one_slope` are the steps that stay Euler's: always the last, whose end is not evaluated.
    """
    a, s = schedule.alpha(grid), schedule.sigma(grid)
    sigma, x = s / a, y / a[0]
    for i in range(len(grid) - 1):
        d = (x - data(a[i] * x, grid[i])) / sigma[i]
        euler = x + (sigma[i + 1] - sigma[i]) * d
        if i in one_slope:
            x = euler
            continue
        d_next = (euler - data(a[i + 1] * euler, grid[i + 1])) / sigma[i + 1]
        x = x + (sigma[i + 1] - sigma[i]) * (d + d_next) / 2
    return a[-1] * x


@each_prediction
@each_convention
@together("spacing", ["linspace", "karras-n"])
@together("steps", [1, 2, 3, 4, 5, 8, 15, 20])
def test_rows_are_the_published_loop(
    steps: int, spacing: str, convention: str, prediction: str,
    z: Any, solve: Callable[..., Any], belief: Callable[..., Any],
) -> None:  # fmt: skip
    schedule = Schedule(convention=convention, interpolation="exact")
    solver = Solver("heun", 2, prediction, steps, spacing)
    grid = list(dict.fromkeys(tableau(schedule, solver).times))
    assert len(grid) == heun_intervals(steps) + 1
    one_slope = {len(grid) - 2, *([] if steps % 2 else [0])}
    expected = karras(schedule, grid, one_slope, schedule.S * z[0], lambda y, t: belief(schedule, "data", y, t))
    np.testing.assert_allclose(solve(schedule, solver), expected, rtol=0, atol=1e-10)


@together(
    ("steps", "expected"),
    [
        (1, [30, 0]),
        (2, [30, 20, 0]),
        (3, [30, 20, 20, 0]),
        (4, [30, 20, 10, 10, 0]),
        (5, [30, 20, 20, 10, 10, 0]),
        (6, [40, 30, 20, 20, 10, 10, 0]),
        (7, [40, 30, 30, 20, 20, 10, 10, 0]),
    ],
)
def test_what_a_number_of_evaluations_visits(steps: int, expected: list[float]) -> None:
    grid = sorted({float(time) for time in expected}, reverse=True)
    assert heun_times(grid, steps) == expected
    assert heun_intervals(steps) == len(grid) - 1


@each_prediction
@each_convention
def test_steps_are_evaluations(convention: str, prediction: str) -> None:
    schedule = Schedule(convention=convention)
    for steps in range(1, 13):
        table = tableau(schedule, Solver("heun", 2, prediction, steps))
        assert (len(table.rows), len(table.times)) == (steps, steps + 1)
        # No time is evaluated more than twice, the last not at all.
        assert all(table.times.count(time) <= 2 for time in table.times)
        assert table.times.count(table.times[-1]) == 1
        # A row that corrects reads one older prediction; an Euler step reads none.
        twice = [u == t for u, t in itertools.pairwise(table.times)]
        assert [row.history for row in table.rows] == list(map(int, twice))
        assert all(row.ax == 1 and row.am == pytest.approx(-row.b0 - row.b1) for row in table.rows if row.history)


def test_a_custom_grid_has_one_interval_less_than_evaluations_would_have() -> None:
    """Five evaluations are three steps: twice two, and the last one."""
    solver = Solver("heun", 2, steps=5, spacing="custom", times=(100.0, 50.0, 20.0, 0.0))
    assert tableau(Schedule(), solver).times == (100, 50, 50, 20, 20, 0)
    with pytest.raises(InputError, match="6 times are not 4, what 5 evaluations of heun visit"):
        Solver("heun", 2, steps=5, spacing="custom", times=(100.0, 80.0, 60.0, 40.0, 20.0, 0.0))
