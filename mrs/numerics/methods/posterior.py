"""Posterior sampling: draw from q(x_t | x_u, x0) with x0 as predicted.

Source: IR-SDE's optimal reverse step (arXiv 2301.11699, proposition 3.2) with the variance of its published
`reverse_posterior_step`. `posterior` takes A = a_u / a_t over the whole stride, so that with the true x0 the marginals
are those of the process at any number of steps. A network predicts the mean of all x0 that are possible, and there the
spread between these is missing: of Gaussian pixels the variance at the end is 44 % too small at 10 evaluations, 7 % at
100 (docs/solvers.md). `posterior-published` keeps the coefficients of single steps at any number of evaluations, as
IR-SDE's and MR Sampler's published few-step runs do. At T steps both are the same.
"""

from __future__ import annotations

import math

from mrs.numerics.methods.step import Step, Weights, clean_prediction
from mrs.runtime.errors import InputError


def posterior(step: Step) -> Weights:
    """One posterior step over the whole stride."""
    if step.s_t == 0:
        return clean_prediction(step)
    # 1 - a^2 = (s / S)^2, which keeps its digits where a is near 1.
    left_u, left_t = (step.s_u / step.S) ** 2, (step.s_t / step.S) ** 2
    decay = step.a_u / step.a_t
    # Two forms of 1 - decay^2. The first loses its digits where decay is near 1; and below t = 1, where a and s are
    # interpolated apart from each other, only the second stays below left_u.
    bridge = 1 - decay**2 if decay**2 < 0.5 else (left_u - left_t) / step.a_t**2
    return _bayes(step, decay, step.a_t, bridge, left_u, left_t)


def posterior_published(step: Step) -> Weights:
    """A single posterior step from t to t - 1, wherever the next evaluation is."""
    schedule, t = step.run.schedule, int(step.u)
    if schedule.denoises:
        raise InputError(
            "posterior-published has no single steps of the denoising process: nothing is published",
            hint="use posterior, or euler-ode as published",
        )
    left_u, left_t = (float(schedule.sigmas[k] / schedule.S) ** 2 for k in (t, t - 1))
    if left_t == 0:
        return clean_prediction(step)
    exponent = -float(schedule.theta[t]) * schedule.dt
    return _bayes(step, math.exp(exponent), float(schedule.alphas[t - 1]), -math.expm1(2 * exponent), left_u, left_t)


def _bayes(step: Step, decay: float, a_t: float, bridge: float, left_u: float, left_t: float) -> Weights:
    """Of A = decay, 1 - A^2 = bridge and the two 1 - a^2 = left: weights and noise of the posterior."""
    state = decay * left_t / left_u
    clean = a_t * bridge / left_u
    noise = step.S * math.sqrt(bridge * left_t / left_u)
    if step.data:
        return Weights(state, 1 - state - clean, clean, noise=noise)
    to_clean = clean_prediction(step)
    return Weights(
        state + clean * to_clean.state,
        1 - state - clean + clean * to_clean.mean,
        clean * to_clean.b0,
        noise=noise,
    )
