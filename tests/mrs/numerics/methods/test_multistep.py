"""Exponential Adams methods: integrals against exact numbers and quadrature, and the methods that they contain."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mrs.kernels.table import Table
from mrs.numerics.methods.multistep import phi
from mrs.numerics.schedule import CONVENTIONS, Schedule
from mrs.numerics.solver import PREDICTIONS, Solver
from mrs.numerics.tableau import tableau

pytestmark = pytest.mark.slow(8)

each_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)
each_convention = pytest.mark.parametrize("convention", CONVENTIONS)
# Where a, s and lam belong together: at whole times always, at all times with exact interpolation.
TOGETHER = [
    pytest.param("published", "linspace", id="whole times"),
    pytest.param("exact", "karras-n", id="times between"),
    pytest.param("exact", "linear-lambda", id="equal steps of lam"),
]
together = pytest.mark.parametrize(("interpolation", "spacing"), TOGETHER)


def rows(schedule: Schedule, method: str, order: int, prediction: str, steps: int = 10, **more: Any) -> Any:
    """The rows of a table as an array."""
    return np.array(tableau(schedule, Solver(method, order, prediction, steps, **more)).rows)


# phi


def exact_phi(n: int, z: float) -> float:
    """Its power series in fractions: no rounding but the last, and a rest below 50^170 / 170! = 10^-18."""
    total, term = Fraction(0), Fraction(1, math.factorial(n))
    for j in range(170):
        total += term
        term = term * Fraction(z) / (n + j + 1)
    return float(total)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@example(z=0.0)
@example(z=1.0)
@example(z=-1.0)
@example(z=math.nextafter(1.0, 0.0))
@example(z=math.nextafter(-1.0, 0.0))
@example(z=2.0**-40)
@example(z=50.0)
@example(z=-50.0)
# Multiples of 2^-20: with all the digits of a float, fractions become slow.
@given(
    z=st.integers(-50 << 20, 50 << 20).map(lambda k: k / 2**20)
    | st.integers(-2 << 20, 2 << 20).map(lambda k: k / 2**20)
)
def test_phi_is_right_to_round_off_everywhere(n: int, z: float) -> None:
    assert phi(n, z) == pytest.approx(exact_phi(n, z), rel=5e-14, abs=0)


# One step


def quadrature(order: int, h: float, ages: list[float], exponent: float) -> list[float]:
    """int_0^h e^(exponent (h - r)) L_j(r) dr by 40 Gauss points, L_j the Lagrange polynomial of node -ages[j]."""
    points, weights = np.polynomial.legendre.leggauss(40)
    r = h * (points + 1) / 2
    nodes = [-age for age in ages[:order]]
    found = []
    for j, node in enumerate(nodes):
        lagrange = np.prod([(r - other) / (node - other) for k, other in enumerate(nodes) if k != j], axis=0)
        found.append(float(np.sum(weights * h / 2 * np.exp(exponent * (h - r)) * lagrange)))
    return found


@pytest.mark.parametrize("order", [1, 2, 3])
@each_prediction
@given(
    # Four times far enough from each other that the integrals do not lose their digits.
    times=st.lists(st.integers(1, 100), min_size=4, max_size=4, unique=True),
    tau=st.sampled_from([0.0, 0.5, 1.0, 1.5]),
)
def test_a_step_is_its_integral(order: int, prediction: str, times: list[int], tau: float) -> None:
    """Weights and noise of the last of three steps, from the formulas of the module with plain quadrature."""
    schedule = Schedule()
    times = sorted(map(float, times), reverse=True)
    solver = Solver(
        "sa", order, prediction, 3, "custom", times=tuple(times), last_step="full", stochasticity=tau,
    )  # fmt: skip
    row = tableau(schedule, solver).rows[-1]
    a_u, a_t = schedule.alpha(times[2:])
    s_u, s_t = schedule.sigma(times[2:])
    lam = schedule.half_log_snr(times)
    h, ages, k = lam[3] - lam[2], [lam[2] - lam[2 - j] for j in range(3)], 1 + tau**2
    if prediction == "data":
        state, noise = s_t / s_u * math.exp(-(tau**2) * h), s_t * math.sqrt(1 - math.exp(-2 * tau**2 * h))
        b = [k * a_t * part for part in quadrature(order, h, ages, -k)]
        mean = 1 - state - sum(b)
    else:
        state, noise = a_t / a_u, tau * s_t * math.sqrt(math.exp(2 * h) - 1)
        b = [-k * s_t * part for part in quadrature(order, h, ages, 1)]
        mean = 1 - state
    expected = [state, mean, *b, *[0.0] * (4 - order)]
    scale = max(map(abs, expected))
    np.testing.assert_allclose(row[3:9], expected, rtol=0, atol=1e-9 * scale)
    assert row.n == pytest.approx(noise, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
@each_convention
def test_noise_and_kept_state_add_up_to_the_marginal(convention: str, tau: float) -> None:
    """With a data prediction that is right, y_t has variance s_t^2 where y_u has s_u^2, whatever the stochasticity."""
    schedule = Schedule(convention=convention)
    table = tableau(schedule, Solver("sa", 1, "data", 10, stochasticity=tau))
    for row, u, t in zip(table.rows[:-1], table.times, table.times[1:], strict=False):
        s_u, s_t = float(schedule.sigma(u)), float(schedule.sigma(t))
        assert row.ax**2 * s_u**2 + row.n**2 == pytest.approx(s_t**2, rel=1e-12)


# Which methods are one


@together
@each_prediction
@each_convention
@pytest.mark.parametrize("order", [1, 2])
def test_dpm_solver_of_order_1_and_2_is_the_ode_solver_of_mr_sampler(
    order: int, convention: str, prediction: str, interpolation: str, spacing: str
) -> None:
    schedule = Schedule(convention=convention, interpolation=interpolation)
    for steps in (1, 2, 5, 10, 20):
        mine, published = (
            rows(schedule, method, order, prediction, steps, spacing=spacing) for method in ("dpm++", "ode")
        )
        np.testing.assert_allclose(mine, published, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
@each_prediction
@each_convention
def test_without_stochasticity_sa_is_dpm_solver(convention: str, prediction: str, order: int) -> None:
    schedule = Schedule(convention=convention)
    for spacing in ("linspace", "karras-n"):
        tables = [
            tableau(schedule, Solver(method, order, prediction, 10, spacing, stochasticity=0.0))
            for method in ("sa", "dpm++")
        ]
        assert tables[0] == tables[1]


@together
@each_prediction
@each_convention
@pytest.mark.parametrize("order", [1, 2])
def test_with_stochasticity_1_sa_is_the_sde_solver_of_mr_sampler(
    order: int, convention: str, prediction: str, interpolation: str, spacing: str
) -> None:
    schedule = Schedule(convention=convention, interpolation=interpolation)
    for steps in (1, 2, 5, 10, 20):
        mine = rows(schedule, "sa", order, prediction, steps, spacing=spacing, stochasticity=1.0)
        published = rows(schedule, "sde", order, prediction, steps, spacing=spacing)
        np.testing.assert_allclose(mine, published, rtol=1e-11, atol=1e-12)


@together
@each_prediction
@each_convention
@pytest.mark.parametrize("method", ["ode", "dpm++", "deis", "ipndm"])
def test_at_order_1_all_are_ddim(
    method: str, convention: str, prediction: str, interpolation: str, spacing: str,
    mu: Any, z: Any, solve: Callable[..., Any], belief: Callable[..., Any],
) -> None:  # fmt: skip
    """DDIM (arXiv 2010.02502, eq. 12): the prediction of x0 at the next time, with the predicted noise at its size."""
    schedule = Schedule(convention=convention, interpolation=interpolation)
    solver = Solver(method, 1, prediction, 10, spacing)
    y = schedule.S * z[0]
    times = tableau(schedule, solver).times
    for u, t in itertools.pairwise(times):
        y = schedule.alpha(t) * belief(schedule, "data", y, u) + schedule.sigma(t) * belief(schedule, "noise", y, u)
    np.testing.assert_allclose(solve(schedule, solver), y, rtol=0, atol=1e-12)
    # The whole table of one is that of the others.
    np.testing.assert_allclose(
        rows(schedule, method, 1, prediction, 10, spacing=spacing),
        rows(schedule, "dpm++", 1, prediction, 10, spacing=spacing),
        rtol=0, atol=1e-12,
    )  # fmt: skip


@pytest.mark.parametrize("order", [1, 2, 3])
@each_prediction
def test_more_stochasticity_is_more_noise(prediction: str, order: int) -> None:
    schedule = Schedule()

    def table(tau: float) -> Table:
        return tableau(schedule, Solver("sa", order, prediction, 10, stochasticity=tau))

    drawn = np.array([[row.n for row in table(tau).rows] for tau in (0.0, 0.1, 0.5, 1.0, 1.5, 3.0)])
    assert (drawn[0] == 0).all()
    assert (np.diff(drawn, axis=0) > 0).all()
    assert [table(tau).draws for tau in (0.0, 0.1)] == [0, 10]
