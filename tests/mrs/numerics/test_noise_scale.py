"""Less noise than derived: of the steps (`noise_scale`) and of the start (`start_noise`).

Only weights of noise change. On the Gaussian problem that leaves the mean as it is, and the variance is the sum of two
parts, each times the square of its factor; docs/solvers.md has the recursions that are held here.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrs.numerics.methods import METHODS
from mrs.numerics.reference import sample
from mrs.numerics.schedule import CONVENTIONS, Schedule
from mrs.numerics.solver import PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from tests.gaussian import GaussianProblem, moments
from tests.together import together

SCALES = (0.0, 0.3, 1.0, 1.5)
NOISY = [
    (method, order)
    for method, facts in METHODS.items()
    for order in facts.orders
    if facts.stochastic or facts.option == "stochasticity"
]
each_convention = together("convention", CONVENTIONS)
each_prediction = together("prediction", PREDICTIONS)
each_scale = together("scale", SCALES)
each_noisy_method = together(("method", "order"), NOISY)
EXACT = Schedule(interpolation="exact")


def of(method: str, order: int, **more: Any) -> Solver:
    """The solver, with what its method cannot do without."""
    option = {"stochasticity": {"stochasticity": 0.7}, "momentum": {"momentum": 0.3}}.get(METHODS[method].option, {})
    return Solver(method, order, **option, **more)


# What changes in a table


@each_convention
@each_prediction
@each_scale
@each_noisy_method
def test_a_noise_scale_changes_the_weights_of_noise_alone(
    method: str, order: int, scale: float, prediction: str, convention: str
) -> None:
    schedule = Schedule(convention=convention)
    plain = tableau(schedule, of(method, order, prediction=prediction, steps=6))
    scaled = tableau(schedule, of(method, order, prediction=prediction, steps=6, noise_scale=scale))
    assert (scaled.times, scaled.start, scaled.clamp) == (plain.times, plain.start, plain.clamp)
    for row, derived in zip(scaled.rows, plain.rows, strict=True):
        assert row == derived._replace(n=scale * derived.n)
        assert scale or math.copysign(1.0, row.n) == 1
    assert scaled.draws == (plain.draws if scale else 0)


@each_scale
@together("start", [None, 60.0])
@together("method", METHODS)
def test_a_start_noise_changes_the_start_alone(method: str, start: float | None, scale: float) -> None:
    if start and METHODS[method].times == "single":
        start = None
    order = METHODS[method].orders[0]
    plain = tableau(EXACT, of(method, order, steps=5, start_time=start))
    scaled = tableau(EXACT, of(method, order, steps=5, start_time=start, start_noise=scale))
    assert scaled.start == scale * plain.start
    assert (scaled.times, scaled.rows, scaled.clamp) == (plain.times, plain.rows, plain.clamp)


def test_pictures_without_noise_do_not_depend_on_the_seed() -> None:
    problem, mu = GaussianProblem(EXACT, 0.1, 0.2), np.full((1, 3, 4, 5), 0.4)
    quiet = tableau(EXACT, of("posterior", 1, steps=5, noise_scale=0, start_noise=0))
    one, other = (sample(problem.denoiser(), mu, quiet, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(one, other)
    loud = tableau(EXACT, of("posterior", 1, steps=5, noise_scale=0, start_noise=0.5))
    one, other = (sample(problem.denoiser(), mu, loud, seed=seed) for seed in (1, 2))
    assert np.abs(one - other).max() > 1e-4


def test_a_start_noise_changes_nothing_of_the_denoising_process() -> None:
    process = Schedule(max_sigma=75, eps=0.04, convention="ir-sde", process="denoising")
    solver = Solver("posterior", 1, start_time=30)
    assert tableau(process, replace(solver, start_noise=0.5)) == tableau(process, solver)
    # The noise of its steps can be scaled like that of any other.
    rows = [tableau(process, Solver("posterior", 1, start_time=30, noise_scale=scale)).rows for scale in (1, 0.5)]
    assert [row.n for row in rows[1]] == [0.5 * row.n for row in rows[0]]


# The Gaussian problem


@each_scale
@together("start_noise", [0.0, 0.8, 1.0])
@together("spread", [0.05, 0.3])
@together("tau", [None, 0.5, 1.0], ids=["posterior", "tau 0.5", "tau 1"])
@together("steps", [3, 10])
def test_mean_and_variance_follow_the_recursion(
    steps: int, tau: float | None, spread: float, start_noise: float, scale: float
) -> None:
    """docs/solvers.md: y' = p y + r (q0 - mu) + C n z, with q0 as the best network says it."""
    mean_of_clean = 0.3
    solver = (
        Solver("posterior", 1, steps=steps, noise_scale=scale, start_noise=start_noise)
        if tau is None
        else Solver("sa", 1, steps=steps, stochasticity=tau, noise_scale=scale, start_noise=start_noise)
    )
    table = tableau(EXACT, solver)
    a, s, S = EXACT.alpha(table.times), EXACT.sigma(table.times), EXACT.S
    mean, variance = 0.0, (start_noise * S) ** 2
    for i in range(steps):
        if tau is None:
            decay = a[i] / a[i + 1]
            p = decay * (1 - a[i + 1] ** 2) / (1 - a[i] ** 2)
            r = a[i + 1] * (1 - decay**2) / (1 - a[i] ** 2)
            n = S * math.sqrt((1 - decay**2) * (1 - a[i + 1] ** 2) / (1 - a[i] ** 2))
        else:
            h = math.log(a[i + 1] / s[i + 1]) - math.log(a[i] / s[i])
            p = s[i + 1] / s[i] * math.exp(-(tau**2) * h)
            r = a[i + 1] * (1 - math.exp(-(1 + tau**2) * h))
            n = s[i + 1] * math.sqrt(1 - math.exp(-2 * tau**2 * h))
        v = (a[i] * spread) ** 2 + s[i] ** 2
        k = p + r * a[i] * spread**2 / v
        mean, variance = k * mean + r * mean_of_clean * s[i] ** 2 / v, k**2 * variance + (scale * n) ** 2
    found = moments(table, GaussianProblem(EXACT, mean_of_clean, spread))
    np.testing.assert_allclose(found, (mean, variance), rtol=1e-9, atol=1e-15)


@each_convention
@each_prediction
@each_noisy_method
def test_the_mean_stays_and_the_parts_of_the_variance_add(
    method: str, order: int, prediction: str, convention: str
) -> None:
    """Of every method and any order: variance = start_noise^2 (part of x_T) + noise_scale^2 (part of the steps)."""
    schedule = Schedule(convention=convention)
    problem = GaussianProblem(schedule, 0.2, 0.15)

    def of_noise(noise_scale: float, start_noise: float) -> tuple[float, float]:
        more = {"prediction": prediction, "steps": 8, "noise_scale": noise_scale, "start_noise": start_noise}
        return moments(tableau(schedule, of(method, order, **more)), problem)

    mean, from_start = of_noise(0, 1)
    assert of_noise(0, 0) == (pytest.approx(mean, rel=1e-9), 0)
    also, from_steps = of_noise(1, 0)
    assert also == pytest.approx(mean, rel=1e-9)
    assert from_steps > 0
    expected = (pytest.approx(mean, rel=1e-9), pytest.approx(0.25 * from_steps + 0.64 * from_start, rel=1e-9))
    assert of_noise(0.5, 0.8) == expected


@each_scale
@together("steps", [2, 7, 30])
@together("tau", [None, 0.5, 1.5], ids=["posterior", "tau 0.5", "tau 1.5"])
def test_around_a_known_picture_the_noise_is_as_much_less(tau: float | None, steps: int, scale: float) -> None:
    """V_t / s_t^2 = C^2 + (V_T / s_T^2 - C^2) e^(-2 tau^2 (lam_t - lam_T)), whatever the steps are."""
    chosen = {"method": "posterior", "order": 1} if tau is None else {"method": "sa", "order": 1, "stochasticity": tau}
    table = tableau(EXACT, Solver(**chosen, steps=steps, noise_scale=scale, start_noise=0.5), "data")
    lam, s = EXACT.half_log_snr(table.times), EXACT.sigma(table.times)
    variance = table.start**2
    first = variance / s[0] ** 2
    for row, lam_t, s_t in zip(table.rows, lam[1:], s[1:], strict=True):
        variance = row.ax**2 * variance + row.n**2
        forgotten = math.exp(-2 * (tau or 1.0) ** 2 * (lam_t - lam[0]))
        assert variance / s_t**2 == pytest.approx(scale**2 + (first - scale**2) * forgotten, rel=1e-9)


@together("tau", [0.3, 1.0])
def test_what_others_call_eta_is_stochasticity_not_the_noise_scale(tau: float) -> None:
    """DDIM's step (arXiv 2010.02502, eq. 12 and 16) with noise of eta keeps s_t^2 around a known picture."""
    table = tableau(EXACT, Solver("sa", 1, steps=6, stochasticity=tau), "data")
    a, s, lam = EXACT.alpha(table.times), EXACT.sigma(table.times), EXACT.half_log_snr(table.times)
    for i, row in enumerate(table.rows):
        h = lam[i + 1] - lam[i]
        eta = math.sqrt(-math.expm1(-2 * tau**2 * h) / -math.expm1(-2 * h))
        noise = eta * s[i + 1] / s[i] * math.sqrt(s[i] ** 2 - (a[i] / a[i + 1] * s[i + 1]) ** 2)
        kept = math.sqrt(s[i + 1] ** 2 - noise**2) / s[i]
        assert row.n == pytest.approx(noise, rel=1e-9)
        assert row.ax == pytest.approx(kept, rel=1e-9)
        assert row.b0 == pytest.approx(a[i + 1] - kept * a[i], rel=1e-9)
        assert row.ax**2 * s[i] ** 2 + row.n**2 == pytest.approx(s[i + 1] ** 2, rel=1e-9)


@together("method", ["posterior", "sa"])
def test_pictures_from_a_seed_have_the_moments_of_the_recursion(method: str) -> None:
    """24,576 pixels, five standard errors of mean and of variance; the seed is fixed."""
    problem = GaussianProblem(EXACT, 0.1, 0.2)
    table = tableau(EXACT, of(method, 1, steps=8, noise_scale=0.5, start_noise=0.7))
    mu = np.full((2, 3, 64, 64), 0.4)
    y = sample(problem.denoiser(), mu, table, seed=3, clamp=False) - mu
    mean, variance = moments(table, problem)
    assert abs(y.mean() - mean) < 5 * math.sqrt(variance / y.size)
    assert abs(y.var() / variance - 1) < 5 * math.sqrt(2 / y.size)
