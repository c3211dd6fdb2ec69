"""MR Sampler as published: multistep exponential integrators of the reverse SDE and its probability-flow ODE.

Source: arXiv 2502.07856, propositions 1-4 and algorithms 1-4. In y = x - mu they are DPM-Solver++ and SDE-DPM-Solver++
(arXiv 2211.01095, section 4). The integral over one step is exact in the linear part; the prediction q is expanded at
its newest value with differences D1, D2 of older values, on steps h (now), h_prev and h_prev2 in lam.
"""

from __future__ import annotations

import math

from mrs.numerics.methods.step import Step, Weights, clean_prediction


def ode(step: Step) -> Weights:
    """One step of the probability-flow ODE, order 1-3 (algorithms 3 and 4 of the paper).

    Order 3 is as published, and converges with order 2: its D2 is half of h^2 q''. `dpm++` has the whole of it.
    """
    if step.endless:
        return clean_prediction(step)
    h = step.h
    if step.data:
        keep = step.s_t / step.s_u
        p1 = math.expm1(-h)
        p2 = p1 / h + 1
        p3 = p2 / h - 0.5
        mean = 1 - keep + keep * step.a_u - step.a_t
        return Weights(keep, mean, *_on_history(step, -step.a_t * p1, step.a_t * p2, -step.a_t * p3))
    keep = step.a_t / step.a_u
    p1 = math.expm1(h)
    p2 = p1 / h - 1
    p3 = p2 / h - 0.5
    return Weights(keep, 1 - keep, *_on_history(step, -step.s_t * p1, -step.s_t * p2, -step.s_t * p3))


def sde(step: Step) -> Weights:
    """One step of the reverse SDE, order 1-2 (algorithms 1 and 2 of the paper)."""
    if step.endless:
        return clean_prediction(step)
    h = step.h
    ratio = step.a_t / step.a_u
    if step.data:
        p1 = -math.expm1(-2 * h)
        p2 = 1 - p1 / (2 * h)
        keep = step.s_t / step.s_u * math.exp(-h)
        mean = 1 - ratio * math.exp(-2 * h) - step.a_t * p1
        b = _on_history(step, step.a_t * p1, step.a_t * p2, 0.0)
        return Weights(keep, mean, *b, noise=step.s_t * math.sqrt(p1))
    p1 = math.expm1(h)
    p2 = p1 / h - 1
    b = _on_history(step, -2 * step.s_t * p1, -2 * step.s_t * p2, 0.0)
    return Weights(ratio, 1 - ratio, *b, noise=step.s_t * math.sqrt(math.expm1(2 * h)))


def _on_history(step: Step, w0: float, w1: float, w2: float) -> tuple[float, float, float]:
    """Weights on q0, q1, q2 of w0 q0 + w1 D1 + w2 D2, where D1 and D2 are the differences of the step's order."""
    if step.order == 1:
        return w0, 0.0, 0.0
    r = step.h_prev / step.h
    if step.order == 2:
        return w0 + w1 / r, -w1 / r, 0.0
    r1 = step.h_prev2 / step.h
    # With E0 = (q0 - q1) / r and E1 = (q1 - q2) / r1: D1 = E0 + (E0 - E1) r / (r + r1), D2 = (E0 - E1) / (r + r1).
    e0 = w1 * (1 + r / (r + r1)) + w2 / (r + r1)
    e1 = -w1 * r / (r + r1) - w2 / (r + r1)
    return w0 + e0 / r, -e0 / r + e1 / r1, -e1 / r1
