"""Euler-Maruyama and Euler steps of the reverse SDE and ODE in t, as IR-SDE publishes them.

Source: IR-SDE (arXiv 2301.11699, eq. 4-6) and its published `reverse_sde` and `reverse_ode`: single steps of length dt
from t to t - 1 with the score -eps / s_t, and noise with a minus sign. Few evaluations are MR Sampler's published
baseline: they subsample t and keep the single steps, so that most of the way is never gone; that is its handicap.

Of the denoising process (`DenoisingSDE` of the same code) mu is x0 and theta (mu - x) dt unknown; with the score it is
-A theta S^2 eps / s dt for the ODE, A = exp(-2 Theta dt) = 1 - (s / S)^2, and (1 + A) instead of A for the SDE.
"""

from __future__ import annotations

import math

import numpy as np

from mrs.numerics.methods.step import Step, Weights, from_noise
from mrs.numerics.schedule import Schedule
from mrs.runtime.errors import InputError


def euler_sde(step: Step) -> Weights:
    """x' = x - [theta (mu - x) + 2 theta S^2 eps / s] dt - S sqrt(2 theta dt) z."""
    drift = _drift(step)
    noise = -step.S * math.sqrt(2 * drift)
    if step.run.schedule.denoises:
        return from_noise(step, 1.0, -drift * (1 + _left(step)) * step.S**2 / step.s_u, noise=noise)
    return from_noise(step, 1 + drift, -2 * drift * step.S**2 / step.s_u, noise=noise)


def euler_ode(step: Step) -> Weights:
    """x' = x - [theta (mu - x) + theta S^2 eps / s] dt."""
    drift = _drift(step)
    if step.run.schedule.denoises:
        return from_noise(step, 1.0, -drift * _left(step) * step.S**2 / step.s_u)
    return from_noise(step, 1 + drift, -drift * step.S**2 / step.s_u)


def single_steps(schedule: Schedule, steps: int, start: float | None = None) -> list[float]:
    """The times at which the published few-step runs evaluate: `steps` whole times from T to 1, and the end 0.

    One evaluation is the one at t = 1, as published. The denoising process begins at the whole time nearest to
    `start`, where that is given.

    Raises:
        InputError: for more steps than there are times.
    """
    first = schedule.T if start is None else max(1, round(start))
    if steps > first:
        raise InputError(f"there are no {steps} single steps in {first}", hint="use fewer steps")
    return [*np.linspace(1, first, steps).astype(int).astype(float).tolist()[::-1], 0.0]


def _left(step: Step) -> float:
    """A = exp(-2 Theta_u dt)."""
    return 1 - (step.s_u / step.S) ** 2


def _drift(step: Step) -> float:
    schedule = step.run.schedule
    return float(schedule.theta[int(step.u)]) * schedule.dt
