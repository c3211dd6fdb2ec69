"""What a method gets (`Step`) and what it gives (`Weights`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Step:
    """One step from time u down to time t.

    Attributes:
        a_u, s_u, a_t, s_t: a and s at both ends; s_t = 0 only at the very end of the process.
        h: lam_t - lam_u > 0, infinite where s_t = 0.
        h_prev, h_prev2: h of the last step and of the one before; 0 where there was none.
        S: standard deviation of the stationary noise.
    """

    a_u: float
    s_u: float
    a_t: float
    s_t: float
    h: float
    h_prev: float
    h_prev2: float
    S: float


class Weights(NamedTuple):
    """x' = x * state + mu * mean + q0 * b0 + q1 * b1 + q2 * b2 + z * noise."""

    state: float
    mean: float
    b0: float
    b1: float = 0.0
    b2: float = 0.0
    noise: float = 0.0


def clean_prediction(step: Step, prediction: str) -> Weights:
    """x' = x0 as predicted at u: the limit of every method where s_t = 0, and what `denoise_last` asks for."""
    if prediction == "data":
        return Weights(0.0, 0.0, 1.0)
    return Weights(1 / step.a_u, -(1 - step.a_u) / step.a_u, -step.s_u / step.a_u)
