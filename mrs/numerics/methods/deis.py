"""DEIS: the prediction as a polynomial in t, integrated over the schedule as it is.

Source: arXiv 2204.13902, eq. 14-15 (t-AB-DEIS), which extrapolates the noise: d(y/a) = eps d(s/a). For a data
prediction the same is done with d(y/s) = (x0 - mu) d(a/s). The weight of each prediction is the integral of its
Lagrange polynomial in t against d(s/a), taken cell by cell between whole t with Gauss-Legendre points after integration
by parts, which leaves s/a itself: its derivative has no bound at t = 0. Below t = 1, where s may rise like sqrt(t) and
a/s fall like 1/t, cells halve towards 0.
"""

from __future__ import annotations

import numpy as np

from mrs.numerics.methods.step import Step, Weights, weighted

POINTS, GAUSS = np.polynomial.legendre.leggauss(6)
HALVES = 0.5 ** np.arange(40.0, 0.0, -1.0)


def deis(step: Step) -> Weights:
    """One step of order 1-3. A step to the noise-free end has a limit of its own: the polynomial's value there."""
    times = np.array(step.run.times)
    u, t = step.u, step.t
    # theta runs from 0 at u to 1 at t.
    nodes = (times[step.history(step.order)] - u) / (t - u)
    # Column j: coefficients of the polynomial that is 1 at node j and 0 at the others.
    lagrange = np.linalg.inv(np.vander(nodes, increasing=True))
    degrees = np.arange(len(nodes))
    slopes = degrees[1:, None] * lagrange[1:]
    at_end = lagrange.sum(axis=0)
    if step.data and step.s_t == 0:
        return weighted(step, 0.0, at_end.tolist())
    a_and_s = [(step.a_u, step.s_u), (step.a_t, step.s_t)]
    at_u, at_t = (a / s if step.data else s / a for a, s in a_and_s)
    ends = at_t * at_end - at_u * lagrange[0]
    moments = _moments(step, len(nodes) - 1)
    b = (ends - moments @ slopes) * (step.s_t if step.data else step.a_t)
    return weighted(step, step.kept, b.tolist())


def _moments(step: Step, count: int) -> np.ndarray:
    """int_0^1 f theta^n dtheta for n < count, where f is s/a, or a/s for a data prediction."""
    u, t, schedule = step.u, step.t, step.run.schedule
    whole = np.arange(np.ceil(t), np.floor(u) + 1)
    halves = HALVES[(t < HALVES) & (u > HALVES)]
    edges = np.unique(np.concatenate([[t], halves, whole, [u]]))
    half = np.diff(edges)[:, None] / 2
    times = (edges[:-1, None] + half + half * POINTS).ravel()
    a, s = schedule.alpha(times), schedule.sigma(times)
    f = (a / s if step.data else s / a) * (half * GAUSS).ravel() / (u - t)
    theta = (times - u) / (t - u)
    return np.array([np.sum(f * theta**n) for n in range(count)])
