"""Exponential Adams methods: the prediction as a polynomial in lam through its newest values, integrated exactly.

Sources: DPM-Solver++ (arXiv 2211.01095, section 4), SA-Solver (arXiv 2309.05019, eq. 5 and 14). For stochasticity tau
the reverse process in y = x - mu over one step is, with k = 1 + tau^2,

    data :  y_t = (s_t/s_u) e^(-tau^2 h) y_u + k a_t int_0^h e^(-k (h - r)) (q - mu) dr + s_t sqrt(1 - e^(-2 tau^2 h)) z
    noise:  y_t = (a_t/a_u) y_u - k s_t int_0^h e^(h - r) q dr + tau s_t sqrt(e^(2h) - 1) z

where r = lam - lam_u. tau = 0 is the probability-flow ODE, tau = 1 the reverse SDE; beyond 1 more noise is drawn and
taken away again. The weights of the predictions are integrals of Lagrange polynomials: moments of the exponential times
the inverse of a Vandermonde matrix.

The second order comes in two variants, which differ by O(h^3) a step. `adams` has the integral of the straight line
through both predictions, which diffusers calls "heun" and MR Sampler publishes. `midpoint` takes the value of that line
in the middle of the step for all of it, q0 + (q0 - q1) h / (2 h_prev): algorithm 2 of DPM-Solver++, and what diffusers
and k-diffusion run unless told otherwise.
"""

from __future__ import annotations

import math

import numpy as np

from mrs.numerics.methods.step import Step, Weights, clean_prediction, weighted


def adams(step: Step, order: int, tau: float = 0.0) -> Weights:
    """One step of the given order and stochasticity; the polynomial has degree order - 1."""
    if step.endless:
        return clean_prediction(step)
    b = history_weights(step, step.history(order), tau)
    return weighted(step, kept_state(step, tau), b, noise_weight(step, tau))


def dpm(step: Step) -> Weights:
    """DPM-Solver++ (multistep), order 1-3. Orders 1 and 2 are `ode`; order 3 has all of h^2 q'' and is of order 3."""
    return adams(step, step.order)


def sa(step: Step) -> Weights:
    """SA-Solver's predictor of order 1-3 at any stochasticity."""
    return adams(step, step.order, step.run.stochasticity)


def midpoint(step: Step, tau: float = 0.0) -> Weights:
    """One step of this stochasticity with the line's value in the middle; the first one with q0 alone."""
    if step.order == 1 or step.endless:
        return adams(step, 1, tau)
    constant = history_weights(step, step.history(1), tau)[0]
    slope = constant * step.h / (2 * step.h_prev)
    return weighted(step, kept_state(step, tau), [constant + slope, -slope], noise_weight(step, tau))


def dpm_midpoint(step: Step) -> Weights:
    """DPM-Solver++(2M)."""
    return midpoint(step)


def sde_midpoint(step: Step) -> Weights:
    """SDE-DPM-Solver++(2M), and SDE-DPM-Solver with a noise prediction."""
    return midpoint(step, 1.0)


def sa_midpoint(step: Step) -> Weights:
    """The same at any stochasticity; k-diffusion's `dpmpp_2m_sde` with eta = tau^2."""
    return midpoint(step, step.run.stochasticity)


def kept_state(step: Step, tau: float = 0.0) -> float:
    """What is left of y_u in y_t."""
    return step.kept * math.exp(-(tau**2) * step.h) if step.data else step.kept


def noise_weight(step: Step, tau: float) -> float:
    """Standard deviation of the noise that a step draws."""
    if step.data:
        return step.s_t * math.sqrt(-math.expm1(-2 * tau**2 * step.h))
    return tau * step.s_t * math.sqrt(math.expm1(2 * step.h))


def history_weights(step: Step, indices: list[int], tau: float = 0.0) -> list[float]:
    """Weights of the predictions made at these indices of the run, which may include the step's own end."""
    lam, h = step.run.lam, step.h
    k = 1 + tau**2
    nodes = np.array([(lam[index] - lam[step.index]) / h for index in indices])
    exponent, scale = (-k * h, k * step.a_t * h) if step.data else (h, -k * step.s_t * h)
    # Moments of theta^n over a unit step: n! phi_(n+1).
    moments = [math.factorial(n) * phi(n + 1, exponent) for n in range(len(indices))]
    solution: list[float] = np.linalg.solve(np.vander(nodes, increasing=True).T, moments).tolist()
    return [scale * weight for weight in solution]


def phi(n: int, z: float) -> float:
    """phi_n(z) = int_0^1 e^((1 - r) z) r^(n-1) / (n-1)! dr for n >= 1, to round-off at any z."""
    if abs(z) < 1:
        # The recurrence below would cancel; 20 terms of the series reach 1 / 20!.
        return math.fsum(z**j / math.factorial(n + j) for j in range(20))
    value = math.expm1(z) / z
    for j in range(1, n):
        value = (value - 1 / math.factorial(j)) / z
    return value
