"""The choice of a solver, as one frozen record. What it means is in `mrs.table` and `mrs.methods`."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

from mrs.methods import METHODS
from mrs.runtime.errors import InputError

PREDICTIONS = ("data", "noise")
OUTPUTS = ("noise", "data", "velocity")
SPACINGS = ("linspace", "leading", "trailing", "karras-n", "karras-t", "linear-lambda")
LAST_STEPS = ("published", "lower-order")
CLAMPS = ("none", "unit")


@dataclass(frozen=True)
class Solver:
    """How to get from x_T to the restored picture. The defaults are MR Sampler's as published.

    Args:
        method: `ode` (probability-flow ODE), `sde` (reverse SDE), both of MR Sampler (arXiv 2502.07856, algorithms
            1-4), or `posterior` (IR-SDE's posterior sampling, arXiv 2404.00500 section 3, re-strided to few steps).
        order: of the multistep method: 1-3 for `ode`, 1-2 for `sde`, 1 for `posterior`. Order 3 is as published: it
            uses two older predictions, and its error falls with the square of the step like that of order 2.
        prediction: what is extrapolated between steps: `data` (x0) or `noise` (eps).
        steps: network evaluations, at least 1.
        spacing: time grid, see `mrs.grids`.
        lambda_min: start times whose half log-SNR is below this are dropped.
        denoise_last: replace the last step by the data prediction itself.
        last_step: `published` ends with a step of full order; `lower-order` lets the order fall to 1 at the end, which
            is better by decibels below about 15 steps.
        clamp: `unit` clamps each data prediction to [0, 1] before it is used; needs `prediction="data"`.

    Raises:
        InputError: for a name or number that is unknown, or a pair that is not possible.
    """

    method: str = "ode"
    order: int = 2
    prediction: str = "data"
    steps: int = 10
    spacing: str = "linspace"
    lambda_min: float = -5.0
    denoise_last: bool = False
    last_step: str = "published"
    clamp: str = "none"

    def __post_init__(self) -> None:
        for name, known in (
            ("method", tuple(METHODS)),
            ("prediction", PREDICTIONS),
            ("spacing", SPACINGS),
            ("last_step", LAST_STEPS),
            ("clamp", CLAMPS),
        ):
            if getattr(self, name) not in known:
                raise InputError(
                    f"solver {name} {getattr(self, name)!r} is unknown", hint=f"use one of {', '.join(known)}"
                )
        orders = METHODS[self.method].orders
        if not _is(self.order, Integral) or self.order not in orders:
            raise InputError(
                f"method {self.method!r} has no order {self.order}", hint=f"use order {' or '.join(map(str, orders))}"
            )
        if not _is(self.steps, Integral) or self.steps < 1:
            raise InputError(f"steps {self.steps!r} is not a whole number of at least 1")
        if not _is(self.lambda_min, Real) or math.isnan(self.lambda_min):
            raise InputError(f"lambda_min {self.lambda_min!r} is not a number", hint="-inf keeps all start times")
        if self.clamp != "none" and self.prediction != "data":
            raise InputError("a noise prediction cannot be clamped to a picture's range", hint="use prediction='data'")
        # NumPy's numbers are welcome, but JSON knows only Python's.
        for name, kind in (("order", int), ("steps", int), ("lambda_min", float)):
            object.__setattr__(self, name, kind(getattr(self, name)))

    @property
    def name(self) -> str:
        """Short name, such as `ode-2`: method and order, or the method alone where it has only one order."""
        return f"{self.method}-{self.order}" if len(METHODS[self.method].orders) > 1 else self.method

    @property
    def stochastic(self) -> bool:
        """Whether steps draw noise (x_T always does)."""
        return METHODS[self.method].stochastic

    def to_dict(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON values."""
        return asdict(self)


def _is(value: Any, kind: type) -> bool:
    # Without this detour the type checker believes the annotations, which JSON and callers need not.
    return isinstance(value, kind)


def parse_name(name: str) -> tuple[str, int]:
    """Method and order of a short name: `ode-2` is ("ode", 2), `ode` has the highest order up to 2.

    Raises:
        InputError: for a method that does not exist.
    """
    match = re.fullmatch(r"(.+?)(?:-(\d))?", name)
    method = match[1] if match else ""
    if match is None or method not in METHODS:
        known = [f"{key}-{order}" for key, entry in METHODS.items() for order in entry.orders if len(entry.orders) > 1]
        known += [key for key, entry in METHODS.items() if len(entry.orders) == 1]
        raise InputError(f"solver {name!r} is unknown", hint=f"use one of {', '.join(known)}")
    return method, int(match[2]) if match[2] else min(2, max(METHODS[method].orders))


# What `mrs-trt build` uses where no solver is named: chosen by measurement on the shipped weights (docs/solvers.md).
# `last_step` changes nothing for posterior sampling; it counts where another method is named.
RECOMMENDED = Solver(method="posterior", order=1, steps=5, last_step="lower-order")
