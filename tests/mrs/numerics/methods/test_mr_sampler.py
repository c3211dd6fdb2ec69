"""MR Sampler's own methods: published loops written out in y = x - mu, and what its third order lacks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mrs.numerics.reference import sample
from mrs.numerics.schedule import CONVENTIONS, Schedule
from mrs.numerics.solver import OUTPUTS, PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from tests.together import together

each_prediction = together("prediction", PREDICTIONS)
each_convention = together("convention", CONVENTIONS)


@together("output", OUTPUTS)
@each_prediction
@together("order", [1, 2, 3])
@each_convention
def test_the_ode_follows_a_network_that_knows_the_truth(
    convention: str, order: int, prediction: str, output: str, mu: Any, z: Any
) -> None:
    """Where x0 and eps never change there is nothing to extrapolate: any number of steps is exact."""
    schedule = Schedule(convention=convention)
    x0 = np.random.default_rng(1).random(mu.shape)
    eps = (schedule.S * z[0] - schedule.alphas[-1] * (x0 - mu)) / schedule.sigmas[-1]
    expected = mu + schedule.alphas[0] * (x0 - mu) + schedule.sigmas[0] * eps

    def network(x: Any, mu: Any, t: float) -> Any:
        a, s, S = float(schedule.alpha(t)), float(schedule.sigma(t)), schedule.S
        return {"noise": eps, "data": x0, "velocity": a * S * eps - s / S * (x0 - mu)}[output]

    for steps in (1, 2, 4, 20):
        table = tableau(schedule, Solver("ode", order, prediction, steps), output)
        result = sample(network, mu, table, init_noise=z[0], clamp=False)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10)


@each_prediction
@together("order", [1, 2, 3])
@together("steps", [1, 2, 3, 10, 20])
@each_convention
def test_the_ode_is_published_dpm_solver_in_y(
    convention: str, steps: int, order: int, prediction: str,
    z: Any, solve: Callable[..., Any], belief: Callable[..., Any],
) -> None:  # fmt: skip
    """DPM-Solver++ and DPM-Solver (arXiv 2211.01095, algorithm 2; multistep of order 1-3 as its code has it).

    In y the process is an ordinary Gaussian diffusion with a and s, so that mu occurs nowhere.
    """
    schedule = Schedule(convention=convention, interpolation="exact")
    solver = Solver("ode", order, prediction, steps, last_step="full")
    times = tableau(schedule, solver).times
    a, s, lam = schedule.alpha(times), schedule.sigma(times), schedule.half_log_snr(times)
    y, known = schedule.S * z[0], []
    for i in range(steps):
        known.insert(0, belief(schedule, prediction, y, times[i]))
        if s[i + 1] == 0:
            y = belief(schedule, "data", y, times[i])
            break
        h = lam[i + 1] - lam[i]
        # D1 and D2 are 0 as long as there are too few predictions.
        D1 = D2 = 0 * y
        if (now := min(order, i + 1)) == 2:
            D1 = (known[0] - known[1]) / ((lam[i] - lam[i - 1]) / h)
        elif now == 3:
            r0, r1 = (lam[i] - lam[i - 1]) / h, (lam[i - 1] - lam[i - 2]) / h
            D1_0, D1_1 = (known[0] - known[1]) / r0, (known[1] - known[2]) / r1
            D2 = (D1_0 - D1_1) / (r0 + r1)
            D1 = D1_0 + r0 * D2
        if prediction == "data":
            phi_1 = math.exp(-h) - 1
            phi_2 = phi_1 / h + 1
            phi_3 = phi_2 / h - 1 / 2
            y = s[i + 1] / s[i] * y - a[i + 1] * (phi_1 * known[0] - phi_2 * D1 + phi_3 * D2)
        else:
            phi_1 = math.exp(h) - 1
            phi_2 = phi_1 / h - 1
            phi_3 = phi_2 / h - 1 / 2
            y = a[i + 1] / a[i] * y - s[i + 1] * (phi_1 * known[0] + phi_2 * D1 + phi_3 * D2)
    np.testing.assert_allclose(solve(schedule, solver), y, rtol=0, atol=1e-10)


@each_prediction
@together("order", [1, 2])
@together("steps", [1, 2, 10, 20])
@each_convention
def test_the_sde_is_its_algorithm(
    convention: str, steps: int, order: int, prediction: str,
    z: Any, solve: Callable[..., Any], belief: Callable[..., Any],
) -> None:  # fmt: skip
    """Algorithms 1 and 2 of arXiv 2502.07856 in y."""
    schedule = Schedule(convention=convention, interpolation="exact")
    solver = Solver("sde", order, prediction, steps, last_step="full")
    times = tableau(schedule, solver).times
    a, s, lam = schedule.alpha(times), schedule.sigma(times), schedule.half_log_snr(times)
    y, before = schedule.S * z[0], None
    for i in range(steps):
        q = belief(schedule, prediction, y, times[i])
        if s[i + 1] == 0:
            y = belief(schedule, "data", y, times[i])
            break
        h = lam[i + 1] - lam[i]
        # In units of h: the slope of q by its last two values.
        slope = 0 * y if before is None or order == 1 else (q - before) * h / (lam[i] - lam[i - 1])
        if prediction == "data":
            part = 1 - math.exp(-2 * h)
            drift = a[i + 1] * (part * q + (1 - part / (2 * h)) * slope)
            y = s[i + 1] / s[i] * math.exp(-h) * y + drift + s[i + 1] * math.sqrt(part) * z[i + 1]
        else:
            grown = math.exp(h) - 1
            drift = -2 * s[i + 1] * (grown * q + (grown / h - 1) * slope)
            y = a[i + 1] / a[i] * y + drift + s[i + 1] * math.sqrt(math.exp(2 * h) - 1) * z[i + 1]
        before = q
    np.testing.assert_allclose(solve(schedule, solver), y, rtol=0, atol=1e-9)


@each_prediction
@each_convention
def test_with_twice_its_second_difference_order_3_is_dpm_solver(convention: str, prediction: str) -> None:
    """D2 = (E0 - E1) / (r + r1) is the divided difference h^2 q''/2, where the expansion needs h^2 q''.

    That is all that `ode` of order 3 lacks against `dpm++`, and the reason that it converges with order 2; with it the
    rows would no longer be what was published (golden case 1 differs by 3 %).
    """
    schedule = Schedule(convention=convention, interpolation="exact")
    for steps, spacing in ((20, "linspace"), (9, "karras-n")):
        published, whole = (
            tableau(schedule, Solver(method, 3, prediction, steps, spacing, last_step="full"))
            for method in ("ode", "dpm++")
        )
        a, s, lam = (function(whole.times) for function in (schedule.alpha, schedule.sigma, schedule.half_log_snr))
        for i in range(2, steps):
            if s[i + 1] == 0:
                assert published.rows[i] == whole.rows[i]
                continue
            h, h1, h2 = lam[i + 1] - lam[i], lam[i] - lam[i - 1], lam[i - 1] - lam[i - 2]
            # The second divided difference of q at the three values of lam, times h^2.
            D2 = h**2 * np.array([1 / (h1 * (h1 + h2)), -1 / (h1 * h2), 1 / (h2 * (h1 + h2))])
            if prediction == "data":
                weight = -a[i + 1] * (((math.exp(-h) - 1) / h + 1) / h - 1 / 2)
            else:
                weight = -s[i + 1] * (((math.exp(h) - 1) / h - 1) / h - 1 / 2)
            twice = np.array(published.rows[i][5:8]) + weight * D2
            assert np.abs(weight * D2).max() > 1e-5
            np.testing.assert_allclose(twice, whole.rows[i][5:8], rtol=0, atol=1e-11)


@together("order", [1, 2, 3])
@each_convention
def test_data_and_noise_prediction_agree_more_with_more_steps(
    convention: str, order: int, solve: Callable[..., Any]
) -> None:
    schedule = Schedule(convention=convention)
    apart = []
    for steps in (10, 25, 50, 100):
        of_data, of_noise = (solve(schedule, Solver("ode", order, prediction, steps)) for prediction in PREDICTIONS)
        apart.append(float(np.abs(of_data - of_noise).max()))
    if order == 1:
        # At order 1 they are one method: q0 = (x - ...) / a and exact linear parts.
        assert max(apart) < 1e-10
    else:
        assert all(more > fewer for more, fewer in itertools.pairwise(apart))
        assert apart[-1] < 1e-3 < 1e-2 < apart[0]
