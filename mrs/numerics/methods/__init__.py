"""Sampling methods: each turns one step of a run into weights on x, mu, predictions and noise.

A method is a function and the facts that it declares about itself, which tests measure. Add one by writing its file and
naming it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mrs.numerics.methods.deis import deis
from mrs.numerics.methods.euler import euler_ode, euler_sde
from mrs.numerics.methods.heun import heun
from mrs.numerics.methods.linear_multistep import linear_multistep
from mrs.numerics.methods.mr_sampler import ode, sde
from mrs.numerics.methods.multistep import dpm, dpm_midpoint, sa, sa_midpoint, sde_midpoint
from mrs.numerics.methods.posterior import posterior, posterior_published
from mrs.numerics.methods.step import Run, Step, Weights
from mrs.numerics.methods.unipc import unipc_b1, unipc_b2


@dataclass(frozen=True)
class Method:
    """A method and its declared facts.

    Attributes:
        weights: the function.
        orders: the orders it has.
        converges: the order with which its error falls on smoothly changing steps from T, one for each of `orders`;
            empty for methods that draw noise, and for single steps, which do not converge at few evaluations. From a
            later start, where predictions change at once, the first steps of lower order limit it to 2, UniPC's to 3.
        stochastic: whether its steps draw noise.
        option: the one setting besides order and prediction that it takes, if any.
        times: how evaluations lie on the time grid: one each, two per step, or single steps of its own.
        missing: why it has no higher order, where a user may expect one.
    """

    weights: Callable[[Step], Weights]
    orders: tuple[int, ...]
    converges: tuple[int, ...] = ()
    stochastic: bool = False
    option: Literal["", "momentum", "stochasticity"] = ""
    times: Literal["grid", "pairs", "single"] = "grid"
    missing: str = ""


METHODS: dict[str, Method] = {
    "ode": Method(ode, (1, 2, 3), (1, 2, 2)),
    "sde": Method(
        sde, (1, 2), stochastic=True,
        missing="MR Sampler's reverse SDE has no third order, for its noise limits the error; sa takes 3 predictions",
    ),
    "posterior": Method(posterior, (1,), stochastic=True, missing="a posterior step knows one prediction"),
    "posterior-published": Method(posterior_published, (1,), stochastic=True, times="single"),
    "euler-sde": Method(euler_sde, (1,), stochastic=True, times="single"),
    "euler-ode": Method(euler_ode, (1,), times="single"),
    "heun": Method(heun, (2,), (2,), times="pairs"),
    "dpm++": Method(dpm, (1, 2, 3), (1, 2, 3)),
    "dpm++-2m": Method(dpm_midpoint, (2,), (2,), missing="a midpoint is of two predictions; dpm++ takes 3"),
    "deis": Method(deis, (1, 2, 3), (1, 2, 3)),
    "unipc-b1": Method(unipc_b1, (2, 3), (3, 4)),
    "unipc-b2": Method(unipc_b2, (2, 3), (3, 4)),
    "ipndm": Method(linear_multistep, (1, 2, 3, 4), (1, 2, 2, 2)),
    "ghvb": Method(linear_multistep, (1, 2, 3, 4), (1, 2, 2, 2), option="momentum"),
    "sa": Method(sa, (1, 2, 3), option="stochasticity"),
    "sde-2m": Method(sde_midpoint, (2,), stochastic=True, missing="a midpoint is of two predictions; sa takes 3"),
    "sa-2m": Method(
        sa_midpoint, (2,), option="stochasticity", missing="a midpoint is of two predictions; sa takes 3"
    ),
}  # fmt: skip

__all__ = ["METHODS", "Method", "Run", "Step", "Weights"]
