"""Heun's method in the noise-to-signal ratio: two evaluations per step.

Source: Karras et al. (arXiv 2206.00364, algorithm 1 without churn). In y / a and g = s / a the probability-flow ODE is
d(y/a) = eps dg; an Euler step in it is `ode` of order 1. Heun then evaluates at the end of the step and takes the mean
of both slopes: x' = x_e + (a_t / 2)(g_t - g_u)(eps_t - eps_u), where x_e is what Euler gave. As a row that is x_e plus
a multiple of q0 - q1. MR Sampler's published code has a Heun sampler of its own, which divides the noise by the
diffusion coefficient instead of s and counts a step's length in evaluations; it is not offered.
"""

from __future__ import annotations

from mrs.numerics.methods.multistep import adams
from mrs.numerics.methods.step import Step, Weights, weighted


def heun(step: Step) -> Weights:
    """An Euler step, or, where a time is visited the second time, its correction."""
    if step.t < step.u:
        return adams(step, 1)
    euler = step.previous
    half = step.a_t * (step.s_t / step.a_t - euler.s_u / euler.a_u) / 2
    if step.data:
        # With eps = (y - a (x0 - mu)) / s at both ends, the state falls out of the difference.
        half *= -step.a_t / step.s_t
    return weighted(step, 1.0, [half, -half])


def heun_times(times: list[float], steps: int) -> list[float]:
    """Times of `steps` evaluations over a grid of `heun_intervals(steps)` steps.

    The last step is an Euler step, so that the end is never evaluated; where the number of evaluations is even the
    first one is too.
    """
    first = 1 if steps % 2 else 2
    return [*times[:first], *(time for time in times[first:-1] for _ in range(2)), times[-1]]


def heun_intervals(steps: int) -> int:
    """How many steps that number of evaluations makes."""
    return (steps + 1) // 2 if steps % 2 else steps // 2 + 1
