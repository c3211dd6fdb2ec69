"""The choice of a solver, as one frozen record. See `tableau` and `methods` for what it means."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

from mrs.kernels.table import CLAMPS
from mrs.numerics.methods import METHODS, Method
from mrs.numerics.methods.heun import heun_intervals
from mrs.runtime.errors import InputError

PREDICTIONS = ("data", "noise")
OUTPUTS = ("noise", "data", "velocity")
SPACINGS = ("linspace", "leading", "trailing", "karras-n", "karras-t", "linear-lambda", "custom")
LAST_STEPS = ("published", "lower-order", "full")
# Twenty times what any published sampler takes. A row and the network's vectors for its time are held for each.
MOST_STEPS = 2000
# The kernels' rows hold as many.
MOST_PREDICTIONS = 4
# Far beyond any use; its square is an exponent.
MOST_STOCHASTICITY = 1000.0
# Of the noise as derived. Published samplers that add noise add less than a hundredth.
MOST_NOISE = 2.0


@dataclass(frozen=True)
class Solver:
    """How to get from x_T to the restored picture. The defaults are MR Sampler's as published.

    Args:
        method: a name of `mrs.numerics.methods.METHODS`; docs/solvers.md has each one's formula, source and use.
        order: of the method: how many predictions a step uses. `docs/solvers.md` has the measured orders.
        prediction: what is extrapolated between steps: `data` (x0) or `noise` (eps).
        steps: network evaluations, 1 to 2000.
        spacing: time grid, see `mrs.numerics.grids`; `custom` visits `times`.
        lambda_min: start times whose half log-SNR is below this are dropped; a custom grid keeps them.
        denoise_last: replace the last step by the data prediction itself.
        last_step: order of the steps once there is history. `published` dips below 10 steps and ends with a step of
            full order; `lower-order` lets the order fall to 1 at the end, which is better by decibels below about 15
            steps; `full` never falls.
        clamp: what is done to each data prediction before it is used: `none`; `unit` clamps it to [0, 1];
            `threshold` is the published dynamic threshold: clamped to +-b and divided by b, where b is the 0.995
            quantile of its absolute values in each picture, kept within [1, 1.5]. Needs `prediction="data"`.
        stochasticity: tau >= 0 of methods `sa` and `sa-2m`: 0 is the ODE, 1 the reverse SDE.
        momentum: of method `ghvb`, between 0 and 1, both excluded: 1 - beta of its paper.
        start_time: start there instead of at T, at mu + s_t z: the marginal of the process around the degraded
            picture (come-closer-diffuse-faster, arXiv 2112.05146).
        times: of `custom` spacing: steps + 1 falling times between T and 0; from below T they start at mu + s_t z too.
        weights: of each step, in place of the method's own: the factor of x - mu, then the weights of q0, q1, ... (one
            to four, never more than were made). Found by `mrs-trt tune` for these times; needs a custom grid.
        noise_scale: factor of the noise that steps draw, 0 (none) over 1 (as derived) to 2, for methods that draw any.
            Nothing else of a step changes: the mean of a linear problem stays, the variance falls with its square.
        start_noise: factor of x_T's noise, 0 to 2. The denoising process adds none, so there it changes nothing.

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
    stochasticity: float = 0.0
    momentum: float = 0.0
    start_time: float | None = None
    times: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    noise_scale: float = 1.0
    start_noise: float = 1.0

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
        facts = METHODS[self.method]
        if not _is(self.order, Integral) or self.order not in facts.orders:
            why = f": {facts.missing}" if facts.missing else ""
            raise InputError(
                f"method {self.method!r} has no order {self.order}{why}",
                hint=f"use order {' or '.join(map(str, facts.orders))}",
            )
        if not _is(self.steps, Integral) or self.steps < 1:
            raise InputError(f"steps {self.steps!r} is not a whole number of at least 1")
        if self.steps > MOST_STEPS:
            raise InputError(f"steps {self.steps} are more than {MOST_STEPS}", hint="published samplers take 100")
        if not _is(self.lambda_min, Real) or not _fits(self.lambda_min) or math.isnan(self.lambda_min):
            raise InputError(f"lambda_min {self.lambda_min!r} is not a number", hint="-inf keeps all start times")
        if not isinstance(self.denoise_last, bool):
            raise InputError(f"denoise_last {self.denoise_last!r} is neither true nor false")
        if self.clamp != "none" and self.prediction != "data":
            raise InputError("a noise prediction cannot be clamped to a picture's range", hint="use prediction='data'")
        self._check_options(facts)
        self._check_noise(facts)
        self._check_times(facts)
        self._check_weights()
        # NumPy's numbers are welcome, but JSON knows only Python's.
        for name in ("order", "steps"):
            object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("lambda_min", "stochasticity", "momentum", "noise_scale", "start_noise"):
            object.__setattr__(self, name, float(getattr(self, name)))
        # Nor does JSON know infinity.
        limit = max(-sys.float_info.max, min(self.lambda_min, sys.float_info.max))
        object.__setattr__(self, "lambda_min", limit)
        object.__setattr__(self, "times", tuple(float(time) for time in self.times))
        if self.start_time is not None:
            object.__setattr__(self, "start_time", float(self.start_time))

    def _check_options(self, facts: Method) -> None:
        for name, below, rule in (
            ("stochasticity", MOST_STOCHASTICITY, "a number from 0 (the ODE) over 1 (the SDE) to below 1000"),
            ("momentum", 1.0, "a number from 0 and below 1"),
        ):
            value = getattr(self, name)
            if not _is(value, Real) or not 0 <= value < below:
                raise InputError(f"{name} {value!r} is not {rule}")
            if value and facts.option != name:
                takers = [key for key, other in METHODS.items() if other.option == name]
                why = {
                    "stochasticity": "has a fixed amount of noise",
                    "momentum": "draws noise, which an average of predictions would not match"
                    if facts.stochastic
                    else "has coefficients that hold for plain predictions",
                }[name]
                raise InputError(
                    f"method {self.method!r} takes no {name}: it {why}",
                    hint=f"{' and '.join(takers)} take{'s' * (len(takers) == 1)} it",
                )
        if facts.option == "momentum" and not self.momentum:
            raise InputError("ghvb without momentum is ipndm", hint="give a momentum such as 0.2, or use ipndm")

    def _check_noise(self, facts: Method) -> None:
        for name in ("noise_scale", "start_noise"):
            value = getattr(self, name)
            if not _is(value, Real) or not 0 <= value <= MOST_NOISE:
                raise InputError(
                    f"{name} {value!r} is not a number from 0 to {MOST_NOISE:g}",
                    hint="0 is no noise, 1 the noise as derived",
                )
        if self.noise_scale == 1 or facts.stochastic or self.stochasticity:
            return
        if facts.option == "stochasticity":
            raise InputError(
                f"method {self.method!r} without stochasticity draws no noise that noise_scale could change",
                hint="give a stochasticity such as 0.5",
            )
        noisy = ", ".join(key for key, other in METHODS.items() if other.stochastic or other.option == "stochasticity")
        raise InputError(
            f"method {self.method!r} takes no noise_scale: its steps draw no noise",
            hint=f"{noisy} draw noise; start_noise is for every method",
        )

    def _check_times(self, facts: Method) -> None:
        start = self.start_time
        if start is not None and (not _is(start, Real) or not 0 < start < math.inf):
            raise InputError(f"start_time {start!r} is not a time above 0")
        if facts.times == "single" and self.spacing != "linspace":
            raise InputError(
                f"method {self.method!r} is a published baseline with times of its own",
                hint="leave spacing as it is, or use another method",
            )
        if not _is(self.times, (tuple, list)) or not all(_is(time, Real) for time in self.times):
            raise InputError(f"times {self.times!r} are not a list of numbers")
        if (self.spacing == "custom") != bool(self.times):
            raise InputError("custom spacing and times go together", hint="give both or none")
        if self.times:
            if start is not None:
                raise InputError("a custom grid starts where its times start", hint="leave start_time out")
            falling = all(u > t for u, t in pairwise(self.times)) and self.times[-1] >= 0
            if not falling or self.times[0] == math.inf:
                raise InputError(f"times {list(self.times)} do not fall to 0 or above")
            needed = grid_intervals(self.method, self.steps)
            if len(self.times) != needed + 1:
                raise InputError(
                    f"{len(self.times)} times are not {needed + 1}, what {self.steps} evaluations of "
                    f"{self.method} visit"
                )

    def _check_weights(self) -> None:
        if not _is(self.weights, (tuple, list)) or not all(_is(row, (tuple, list)) for row in self.weights):
            raise InputError(f"weights {self.weights!r} are not a list of lists")
        object.__setattr__(self, "weights", tuple(tuple(row) for row in self.weights))
        if not self.weights:
            return
        if not self.takes_weights:
            raise InputError(
                "weights replace those of a solver without noise or momentum that visits given times",
                hint="leave weights out",
            )
        if len(self.weights) != self.steps:
            raise InputError(f"{len(self.weights)} rows of weights are not one for each of {self.steps} steps")
        for index, row in enumerate(self.weights):
            if not 2 <= len(row) <= min(index + 1, MOST_PREDICTIONS) + 1:
                raise InputError(
                    f"step {index} has {len(row)} weights",
                    hint=f"give that of x - mu and those of up to {min(index + 1, MOST_PREDICTIONS)} predictions",
                )
            if not all(_is(weight, Real) and math.isfinite(weight) for weight in row):
                raise InputError(f"weights {list(row)} of step {index} are not finite numbers")
        object.__setattr__(self, "weights", tuple(tuple(float(weight) for weight in row) for row in self.weights))

    @property
    def name(self) -> str:
        """Short name, such as `ode-2`: method and order, or the method alone where it has only one order."""
        return f"{self.method}-{self.order}" if len(METHODS[self.method].orders) > 1 else self.method

    @property
    def stochastic(self) -> bool:
        """Whether steps draw noise (x_T always does)."""
        return (METHODS[self.method].stochastic or self.stochasticity > 0) and self.noise_scale > 0

    @property
    def takes_weights(self) -> bool:
        """Whether `weights` can stand in place of the method's own."""
        facts = METHODS[self.method]
        plain = not self.stochastic and facts.option != "momentum" and facts.times == "grid"
        return plain and self.spacing == "custom"

    def to_dict(self) -> dict[str, object]:
        """The constructor's arguments, as JSON values."""
        return {
            **asdict(self),
            "times": list(self.times),
            "weights": [list(row) for row in self.weights],
        }


def grid_intervals(method: str, steps: int) -> int:
    """How many intervals of the time grid that number of evaluations makes."""
    return heun_intervals(steps) if METHODS[method].times == "pairs" else steps


def _fits(value: float) -> bool:
    """Whether a number is within float's range; Python's whole numbers need not be."""
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _is(value: object, kind: type | tuple[type, ...]) -> bool:
    # Without this detour the type checker believes the annotations, which JSON and callers need not. True is no number.
    return isinstance(value, kind) and not isinstance(value, bool)


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


def renamed(name: str) -> dict[str, Any]:
    """What changes in a solver where a method is named by its short name: it is then the method as derived.

    Stochasticity, momentum and scales of noise were chosen for one method: whoever names one begins without.

    Raises:
        InputError: for a method that does not exist.
    """
    method, order = parse_name(name)
    plain = {"stochasticity": 0.0, "momentum": 0.0, "noise_scale": 1.0, "start_noise": 1.0}
    return {"method": method, "order": order, **plain}


# What `mrs-trt build` uses where no solver is named: chosen by measurement on the shipped weights (docs/solvers.md).
# `last_step` changes nothing for posterior sampling; it counts where another method is named.
RECOMMENDED = Solver(method="posterior", order=1, steps=5, last_step="lower-order", noise_scale=0.0, start_noise=0.5)
