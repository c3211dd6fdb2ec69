"""Posterior sampling: draw from q(x_t | x_u, x0) with x0 as predicted.

Source: IR-SDE's optimal reverse step (arXiv 2301.11699, proposition 3.2) with the variance of its published
`reverse_posterior_step`. The published few-step variant keeps the coefficients of single steps; here
A = a_u / a_t is that of the whole stride, so that the marginals stay exact at any number of steps. At T steps both
are the same.
"""

from __future__ import annotations

import math

from mrs.methods.step import Step, Weights, clean_prediction


def posterior(step: Step, prediction: str, order: int) -> Weights:
    """One posterior step; `order` is 1."""
    if step.s_t == 0:
        return clean_prediction(step, prediction)
    decay = step.a_u / step.a_t
    # 1 - a^2 = (s / S)^2, which keeps its digits where a is near 1.
    left_u, left_t = (step.s_u / step.S) ** 2, (step.s_t / step.S) ** 2
    # Two forms of 1 - decay^2. The first loses its digits where decay is near 1; and below t = 1, where a and s are
    # interpolated apart from each other, only the second stays below left_u.
    bridge = 1 - decay**2 if decay**2 < 0.5 else (left_u - left_t) / step.a_t**2
    state = decay * left_t / left_u
    clean = step.a_t * bridge / left_u
    noise = step.S * math.sqrt(bridge * left_t / left_u)
    if prediction == "data":
        return Weights(state, 1 - state - clean, clean, noise=noise)
    to_clean = clean_prediction(step, prediction)
    return Weights(
        state + clean * to_clean.state,
        1 - state - clean + clean * to_clean.mean,
        clean * to_clean.b0,
        noise=noise,
    )
