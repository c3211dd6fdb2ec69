"""Linear multistep coefficients are the published ones, and momentum is the published average of predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrs.numerics.methods.linear_multistep import coefficients
from mrs.numerics.schedule import CONVENTIONS, Schedule
from mrs.numerics.solver import PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from tests.together import together

pytestmark = pytest.mark.slow(4)

each_prediction = together("prediction", PREDICTIONS)
each_convention = together("convention", CONVENTIONS)
each_order = pytest.mark.parametrize("order", [1, 2, 3, 4])
MOMENTA = [0.05, 0.2, 0.5, 0.8]


@together(
    "expected",
    [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]],
    ids=lambda expected: f"order {len(expected)}",
)
def test_without_momentum_they_are_adams_and_bashforths(expected: list[float]) -> None:
    np.testing.assert_allclose(coefficients(len(expected)), expected, rtol=0, atol=1e-13)


@together("beta", [0.1, 0.5, 0.8, 1.0])
def test_order_2_with_momentum_is_the_formula_of_its_paper(beta: float) -> None:
    expected = [(2 + beta) / (2 * beta), -(2 - beta) / (2 * beta)]
    np.testing.assert_allclose(coefficients(2, 1 - beta), expected, rtol=1e-13)


@each_order
@given(momentum=st.floats(0, 0.9), parts=st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_averages_of_a_polynomial_give_its_integral(order: int, momentum: float, parts: list[float]) -> None:
    """Predictions that are a polynomial of degree order - 1 in s/a, averaged until the start is forgotten."""
    ages = np.arange(600.0, -1, -1)
    values = sum(part * (ages / 10) ** power * (-1) ** power for power, part in enumerate(parts[:order]))
    average, averages = values[0] + 0 * ages[0], []
    for value in values:
        average = (1 - momentum) * value + momentum * average
        averages.insert(0, average)
    found = np.dot(coefficients(order, momentum), averages[:order])
    exact = sum(part / 10**power / (power + 1) for power, part in enumerate(parts[:order]))
    assert found == pytest.approx(exact, rel=0, abs=1e-8)


@each_order
@each_prediction
@each_convention
@together("momentum", [0.0, *MOMENTA])
def test_rows_are_the_published_loop(
    momentum: float, convention: str, prediction: str, order: int,
    z: Any, solve: Callable[..., Any], belief: Callable[..., Any],
) -> None:  # fmt: skip
    """A running average v, its linear combination in place of the prediction, and DDIM's transfer."""
    schedule = Schedule(convention=convention, interpolation="exact")
    for steps, spacing in ((1, "linspace"), (7, "linspace"), (12, "karras-n")):
        method = "ghvb" if momentum else "ipndm"
        solver = Solver(method, order, prediction, steps, spacing, last_step="full", momentum=momentum)
        times = tableau(schedule, solver).times
        a, s = schedule.alpha(times), schedule.sigma(times)
        y, averages = schedule.S * z[0], []
        for i in range(steps):
            q = belief(schedule, prediction, y, times[i])
            averages.insert(0, (1 - momentum) * q + momentum * averages[0] if averages else q)
            now = min(order, i + 1)
            combined = sum(c * v for c, v in zip(coefficients(now, momentum), averages[:now], strict=True))
            if prediction == "noise":
                y = a[i + 1] * (y / a[i] + (s[i + 1] / a[i + 1] - s[i] / a[i]) * combined)
            else:
                y = s[i + 1] / s[i] * y + (a[i + 1] - s[i + 1] * a[i] / s[i]) * combined
        np.testing.assert_allclose(solve(schedule, solver), y, rtol=0, atol=1e-9)


@each_order
@each_prediction
@each_convention
def test_as_momentum_goes_ghvb_becomes_ipndm(convention: str, prediction: str, order: int) -> None:
    schedule = Schedule(convention=convention)
    nearly, plain = (
        np.array(tableau(schedule, Solver(method, order, prediction, 10, momentum=momentum)).rows)
        for method, momentum in (("ghvb", 1e-9), ("ipndm", 0.0))
    )
    np.testing.assert_allclose(nearly, plain, rtol=0, atol=1e-7)
    # The average itself is drawn from the second prediction on.
    np.testing.assert_array_equal(nearly[:, 10], [0.0, *[1e-9] * 9])
    assert (plain[:, 10] == 0).all()


@each_prediction
@together("order", [1, 2, 3, 4])
def test_steps_that_are_equal_in_the_ratio_integrate_polynomials_in_it(order: int, prediction: str) -> None:
    """On equal steps of s/a, or of a/s for a data prediction, a row is exact for degree order - 1."""
    schedule = Schedule("constant", interpolation="exact")
    g = np.linspace(2.0, 0.5, 7) if prediction == "noise" else np.linspace(0.5, 2.0, 7)
    ratio = g if prediction == "noise" else 1 / g
    # (s/a)^2 = S^2 (e^(2 Theta dt) - 1), and Theta_t = t + 1.
    times = tuple((0.5 * np.log1p((ratio / schedule.S) ** 2) / schedule.dt - 1).tolist())
    solver = Solver("ipndm", order, prediction, 6, "custom", times=times, last_step="full")
    row = tableau(schedule, solver).rows[-1]
    a_t, s_t = float(schedule.alpha(times[-1])), float(schedule.sigma(times[-1]))
    for degree in range(order):
        summed = sum(weight * g[5 - j] ** degree for j, weight in enumerate(row[5:9]))
        exact = (g[6] ** (degree + 1) - g[5] ** (degree + 1)) / (degree + 1)
        assert summed == pytest.approx(exact * (a_t if prediction == "noise" else s_t), rel=1e-9)
    # And no further.
    summed = sum(weight * g[5 - j] ** order for j, weight in enumerate(row[5:9]))
    exact = (g[6] ** (order + 1) - g[5] ** (order + 1)) / (order + 1) * (a_t if prediction == "noise" else s_t)
    assert abs(summed / exact - 1) > 1e-4
