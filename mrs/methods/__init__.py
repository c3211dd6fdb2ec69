"""Sampling methods: each turns one step, described by `Step`, into weights on x, mu, predictions and noise.

A method is a function and the facts that it declares about itself. Add one by writing its file and naming it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mrs.methods.multistep import ode, sde
from mrs.methods.posterior import posterior
from mrs.methods.step import Step, Weights


@dataclass(frozen=True)
class Method:
    """A method and its declared facts: the orders it has, and whether its steps draw noise."""

    weights: Callable[[Step, str, int], Weights]
    orders: tuple[int, ...]
    stochastic: bool


METHODS: dict[str, Method] = {
    "ode": Method(ode, orders=(1, 2, 3), stochastic=False),
    "sde": Method(sde, orders=(1, 2), stochastic=True),
    "posterior": Method(posterior, orders=(1,), stochastic=True),
}

__all__ = ["METHODS", "Method", "Step", "Weights"]
