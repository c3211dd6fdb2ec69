"""Posterior sampling is Bayes' rule over any stride, and the published one over single steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mrs.kernels.table import Row
from mrs.numerics.schedule import CONVENTIONS, KINDS, Schedule
from mrs.numerics.solver import PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from tests.gaussian import GaussianProblem, moments
from tests.together import together

each_prediction = together("prediction", PREDICTIONS)
each_convention = together("convention", CONVENTIONS)


@each_convention
@together("steps", [1, 2, 5, 10, 50, 100])
def test_posterior_is_bayes(convention: str, steps: int) -> None:
    """Of x_t given x_u and x0, with both pieces of evidence written out as normal distributions."""
    schedule = Schedule(convention=convention)
    table = tableau(schedule, Solver("posterior", 1, steps=steps), "data")
    for row, u, t in zip(table.rows, table.times, table.times[1:], strict=False):
        (a_u, s_u), (a_t, s_t) = ((schedule.alphas[int(time)], schedule.sigmas[int(time)]) for time in (u, t))
        if s_t == 0:
            assert row == Row(0, 0, 1, 0, 0, 1)
            continue
        # y = x - mu: from x0, y_t = a_t y_0 + s_t e; and y_u = A y_t + sqrt(v) e'.
        A = a_u / a_t
        v = s_u**2 - A**2 * s_t**2
        precision = 1 / s_t**2 + A**2 / v
        of_x, of_x0 = A / v / precision, a_t / s_t**2 / precision
        expected = (of_x, 1 - of_x - of_x0, of_x0, 0, 0, 0, math.sqrt(1 / precision), 0)
        np.testing.assert_allclose(row[3:], expected, rtol=1e-7, atol=1e-9)


@each_prediction
@each_convention
@together("steps", [1, 2, 5, 10, 33, 100])
def test_the_published_posterior_is_its_loop(
    steps: int, convention: str, prediction: str, mu: Any, z: Any,
    predict: Callable[..., Any], solve: Callable[..., Any],
) -> None:  # fmt: skip
    """IR-SDE's optimal reverse step with the coefficients of t to t - 1, at the published times."""
    schedule = Schedule(convention=convention)
    theta, dt, network = schedule.theta, schedule.dt, predict(schedule)
    total = np.cumsum(theta) - (theta[0] if convention == "ir-sde" else 0)
    x = mu + schedule.max_sigma / 255 * z[0]
    for i, t in enumerate([int(time) for time in np.linspace(1, 100, steps)][::-1]):
        A, B, C = math.exp(-theta[t] * dt), math.exp(-total[t] * dt), math.exp(-total[t - 1] * dt)
        eps = network(x, mu, float(t))
        x0 = mu + (x - mu - schedule.max_sigma / 255 * math.sqrt(1 - B**2) * eps) / B
        mean = A * (1 - C**2) / (1 - B**2) * (x - mu) + C * (1 - A**2) / (1 - B**2) * (x0 - mu) + mu
        variance = (1 - A**2) * (1 - C**2) / (1 - B**2)
        x = mean + schedule.max_sigma / 255 * math.sqrt(variance) * z[i + 1]
    result = mu + solve(schedule, Solver("posterior-published", 1, prediction, steps))
    np.testing.assert_allclose(result, x, rtol=0, atol=1e-10)


@together("kind", KINDS)
@each_prediction
@each_convention
def test_at_all_steps_the_published_posterior_is_the_re_strided_one(
    convention: str, prediction: str, kind: str
) -> None:
    schedule = Schedule(kind, convention=convention)
    published, mine = (
        tableau(schedule, Solver(method, 1, prediction, 100)) for method in ("posterior-published", "posterior")
    )
    assert published.times == mine.times
    np.testing.assert_allclose(published.rows, mine.rows, rtol=1e-8, atol=1e-12)


def test_with_fewer_steps_the_published_posterior_is_another() -> None:
    """Its rows are those of the same times in the run of all steps, so that most of the way is never gone."""
    schedule = Schedule()
    every = tableau(schedule, Solver("posterior-published", 1, steps=100))
    of_time = dict(zip(every.times, every.rows, strict=False))
    few = tableau(schedule, Solver("posterior-published", 1, steps=5))
    assert few.times == (100, 75, 50, 25, 1, 0)
    assert few.rows == tuple(of_time[time] for time in few.times[:-1])


@each_convention
def test_posterior_is_the_first_order_sde(convention: str) -> None:
    """Re-strided as here, posterior sampling and SDE-1 in data prediction are one method at whole times."""
    schedule = Schedule(convention=convention)
    for steps in (1, 4, 10, 100):
        tables = [tableau(schedule, Solver(method, 1, "data", steps)) for method in ("posterior", "sde")]
        np.testing.assert_allclose(tables[0].rows, tables[1].rows, rtol=0, atol=1e-10)


@each_prediction
@together("spacing", ["karras-n", "linear-lambda", "linspace"])
def test_posterior_stays_an_average_close_to_time_0(spacing: str, prediction: str) -> None:
    """Below t = 1 the tables' a and s do not satisfy s^2 = S^2 (1 - a^2): weights made of both once reached 10^9."""
    for kind, max_sigma in itertools.product(KINDS, (10, 255)):
        schedule = Schedule(kind, max_sigma, convention="ir-sde")
        rows = tableau(schedule, Solver("posterior", 1, prediction, 150, spacing, -math.inf), "noise").rows
        assert np.isfinite(rows).all()
        if prediction == "data":
            assert all(row.ax >= 0 and row.b0 >= 0 and row.ax + row.b0 < 1.05 for row in rows)
        assert all(0 < row.n <= schedule.S for row in rows[:-1])
        assert rows[-1].n == 0


@each_convention
@pytest.mark.parametrize("max_sigma", [10, 50])
def test_marginals_are_those_of_the_process_with_the_true_picture_alone(max_sigma: int, convention: str) -> None:
    """With the best prediction of Gaussian pixels too little variance is left, the less the longer the steps are."""
    schedule = Schedule(max_sigma=max_sigma, convention=convention)
    problem = GaussianProblem(schedule, 0.0, 0.2)
    missing = []
    for steps in (3, 5, 10, 20, 50, 100):
        table = tableau(schedule, Solver("posterior", 1, steps=steps), "data")
        variance = schedule.S**2
        for row, t in zip(table.rows, table.times[1:], strict=True):
            variance = row.ax**2 * variance + row.n**2
            # The start has S instead of s_T.
            assert variance == pytest.approx(float(schedule.sigma(t)) ** 2, rel=1e-3, abs=1e-15)
        noise_table = tableau(schedule, Solver("posterior", 1, steps=steps))
        missing.append(1 - moments(noise_table, problem)[1] / float(problem.variance(0)))
    # The figures of docs/solvers.md.
    assert missing == pytest.approx([0.75, 0.65, 0.45, 0.275, 0.125, 0.065], abs=0.02)
