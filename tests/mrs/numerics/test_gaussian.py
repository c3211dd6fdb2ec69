"""The closed forms of the Gaussian problem: against Bayes' rule by quadrature and the processes by small steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrs.numerics.schedule import CONVENTIONS, Schedule
from mrs.numerics.solver import OUTPUTS
from mrs.runtime.errors import InputError
from tests.gaussian import GaussianProblem
from tests.together import together

pytestmark = pytest.mark.slow(4)

each_convention = together("convention", CONVENTIONS)
MEANS, SPREADS = np.array([0.3, -0.2, 0.1, 0.0]), np.array([0.05, 0.1, 0.3, 0.5])


def problem(convention: str = "mr-sampler") -> GaussianProblem:
    return GaussianProblem(Schedule("constant", convention=convention, interpolation="exact"), MEANS, SPREADS)


# The denoiser


@together("t", [100.0, 60.0, 12.5, 1.0])
@each_convention
def test_the_denoiser_is_the_mean_of_x0_given_x(convention: str, t: float) -> None:
    """Bayes' rule by plain sums over a fine grid of x0 - mu."""
    given = problem(convention)
    a, s = float(given.schedule.alpha(t)), float(given.schedule.sigma(t))
    mu, x = np.full(4, 0.5), np.array([0.3, 0.55, 0.9, 0.62])
    y0 = np.linspace(-14, 14, 100_001)[:, None] * SPREADS + MEANS
    log = -(((y0 - MEANS) / SPREADS) ** 2) / 2 - ((x - mu - a * y0) / s) ** 2 / 2
    weight = np.exp(log - log.max(axis=0))
    expected = mu + (weight * y0).sum(axis=0) / weight.sum(axis=0)
    np.testing.assert_allclose(given.denoiser("data")(x, mu, t), expected, rtol=0, atol=1e-9)


@given(t=st.floats(0.01, 100), x=st.floats(-1, 2), convention=st.sampled_from(CONVENTIONS))
def test_outputs_say_the_same(t: float, x: float, convention: str) -> None:
    """x is made of the x0 and eps that are believed in, and velocity is a S eps - (s / S)(x0 - mu)."""
    given = problem(convention)
    a, s, S = float(given.schedule.alpha(t)), float(given.schedule.sigma(t)), given.schedule.S
    mu = np.full(4, 0.25)
    eps, x0, velocity = (given.denoiser(output)(np.full(4, x), mu, t) for output in OUTPUTS)
    np.testing.assert_allclose(mu + a * (x0 - mu) + s * eps, x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(velocity, a * S * eps - s / S * (x0 - mu), rtol=0, atol=1e-10)


def test_without_noise_at_time_0_the_picture_is_known() -> None:
    """s_0 = 0: x is x0, and nothing is divided by it."""
    given = problem("ir-sde")
    mu, x = np.full(4, 0.25), np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(given.denoiser("data")(x, mu, 0.0), x, rtol=1e-15)
    np.testing.assert_array_equal(given.denoiser("noise")(x, mu, 0.0), 0)
    np.testing.assert_array_equal(given.denoiser("velocity")(x, mu, 0.0), 0)


def test_shapes_and_numbers() -> None:
    """One number for all pixels, or one per pixel."""
    x, mu = np.full((2, 3, 4, 5), 0.7), np.full((2, 3, 4, 5), 0.5)
    for mean, spread in ((0.1, 0.2), (np.full((1, 3, 1, 1), 0.1), np.full((4, 5), 0.2))):
        given = GaussianProblem(Schedule(), mean, spread)
        for output in OUTPUTS:
            result = given.denoiser(output)(x, mu, 50.0)
            assert result.shape == x.shape
            np.testing.assert_allclose(result, GaussianProblem(Schedule(), 0.1, 0.2).denoiser(output)(x, mu, 50.0))


# Both reverse processes: their equations in t, integrated with Runge and Kutta's method in small steps.


def integrated(slope: Callable[[float, Any], Any], start: Any, u: float, t: float, steps: int = 1000) -> Any:
    h, y = (t - u) / steps, np.array(start, dtype=np.float64)
    for i in range(steps):
        now = u + i * h
        k1 = slope(now, y)
        k2 = slope(now + h / 2, y + h / 2 * k1)
        k3 = slope(now + h / 2, y + h / 2 * k2)
        k4 = slope(now + h, y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y


def process(convention: str) -> tuple[float, Callable[[float], tuple[Any, Any]], float]:
    """theta per unit of t, the forward mean and variance by their own equations' solution, and S^2."""
    T, eps, S = 100, 0.005, 50 / 255
    first = 1 if convention == "mr-sampler" else 0
    rate = -math.log(eps) / (T + first)

    def marginal(t: float) -> tuple[Any, Any]:
        a = math.exp(-rate * (t + first))
        return a * MEANS, a**2 * SPREADS**2 + S**2 * (1 - a**2)

    return rate, marginal, S**2


@together(("u", "t"), [(100.0, 1.0), (30.0, 2.0), (60.0, 59.0)])
@each_convention
def test_the_flow_solves_the_probability_flow_ode(convention: str, u: float, t: float) -> None:
    """dy/dt = -theta y - theta S^2 d log p / dy."""
    rate, marginal, S2 = process(convention)

    def slope(now: float, y: Any) -> Any:
        mean, variance = marginal(now)
        return -rate * y + rate * S2 * (y - mean) / variance

    start = np.array([0.1, -0.3, 0.2, 0.4])
    np.testing.assert_allclose(problem(convention).flow(start, u, t), integrated(slope, start, u, t), atol=1e-8)


@together("tau", [0.0, 0.5, 1.0, 1.5])
@together(("u", "t"), [(100.0, 1.0), (30.0, 2.0)])
@each_convention
def test_the_moments_solve_the_reverse_sde(convention: str, u: float, t: float, tau: float) -> None:
    """dy = [-theta y - (1 + tau^2) theta S^2 d log p / dy] dt + tau sqrt(2 theta) S dw, run backwards."""
    rate, marginal, S2 = process(convention)
    k = 1 + tau**2

    def slope(now: float, both: Any) -> Any:
        mean, variance = marginal(now)
        pull = k * rate * S2 / variance
        return np.stack(
            [-rate * both[0] + pull * (both[0] - mean), 2 * (pull - rate) * both[1] - 2 * tau**2 * rate * S2]
        )

    start = np.array([[0.1, -0.3, 0.0, 0.4], [0.02, 0.03, 0.0, 0.5]])
    found = problem(convention).moments(start[0], start[1], u, t, tau)
    np.testing.assert_allclose(found, integrated(slope, start, u, t), rtol=1e-6, atol=1e-8)


@together("tau", [0.0, 0.5, 1.0, 2.0])
@each_convention
def test_true_marginals_stay_true(convention: str, tau: float) -> None:
    """Who starts with the moments of y_u has those of y_t, with any stochasticity, down to t = 0 and s_0 = 0."""
    given = problem(convention)
    for u, t in ((100.0, 0.0), (70.0, 20.0), (20.0, 0.0)):
        at_u, at_t = (float(given.schedule.alpha(time)) * MEANS for time in (u, t))
        mean, variance = given.moments(at_u, given.variance(u), u, t, tau)
        np.testing.assert_allclose(mean, at_t, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(variance, given.variance(t), rtol=1e-12)


@each_convention
def test_without_stochasticity_the_moments_are_the_flow(convention: str) -> None:
    given = problem(convention)
    start = np.array([0.1, -0.3, 0.2, 0.4])
    mean, variance = given.moments(start, 0.0, 90.0, 5.0, 0.0)
    np.testing.assert_allclose(mean, given.flow(start, 90.0, 5.0), rtol=1e-12)
    np.testing.assert_array_equal(variance, 0)


@together("spread", [0.0, -0.1, math.nan, np.array([0.1, 0.0])], ids=str)
def test_spreads_that_are_not_positive_are_refused(spread: Any) -> None:
    with pytest.raises(InputError) as caught:
        GaussianProblem(Schedule(), 0.0, spread)
    assert caught.value.message == f"spread {spread!r} is not positive"


def test_unknown_outputs_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        problem().denoiser("x0")
    assert caught.value.message == "network output 'x0' is unknown"
    assert caught.value.hint == "use one of noise, data, velocity"
