"""What a method gets (`Step`, one step of a `Run`) and what it gives (`Weights`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from mrs.numerics.schedule import Schedule


@dataclass(frozen=True)
class Run:
    """The times that a solver visits, the process at these times, and the solver's settings.

    Attributes:
        schedule: the process.
        times: N + 1 times, descending; a time may stand twice where a method evaluates the network twice in a step.
        orders: order of each of the N steps.
        prediction: `data` or `noise`, what is extrapolated.
        stochasticity: tau of the methods that take it; 0 is the ODE, 1 the reverse SDE.
        momentum: weight of the last mean prediction in the next one, for the methods that take it.
    """

    schedule: Schedule
    times: tuple[float, ...]
    orders: tuple[int, ...]
    prediction: str
    stochasticity: float = 0.0
    momentum: float = 0.0

    @cached_property
    def a(self) -> tuple[float, ...]:
        """a at each time."""
        return tuple(self.schedule.alpha(self.times).tolist())

    @cached_property
    def s(self) -> tuple[float, ...]:
        """s at each time."""
        return tuple(self.schedule.sigma(self.times).tolist())

    @cached_property
    def lam(self) -> tuple[float, ...]:
        """lam at each time; the last may be infinite."""
        return tuple(self.schedule.half_log_snr(self.times).tolist())


@dataclass(frozen=True)
class Step:
    """One step of a run, from time u down to time t; s_t = 0 only at the very end of the process."""

    run: Run
    index: int

    @property
    def order(self) -> int:
        """Order of this step."""
        return self.run.orders[self.index]

    @property
    def data(self) -> bool:
        """Whether q is a data prediction; else it is a noise prediction."""
        return self.run.prediction == "data"

    @property
    def previous(self) -> Step:
        """The step before; index must not be 0."""
        return Step(self.run, self.index - 1)

    @property
    def u(self) -> float:
        """Time from which the step goes, where q0 was predicted."""
        return self.run.times[self.index]

    @property
    def t(self) -> float:
        """Time to which it goes."""
        return self.run.times[self.index + 1]

    @property
    def a_u(self) -> float:
        """The factor a at u."""
        return self.run.a[self.index]

    @property
    def s_u(self) -> float:
        """The standard deviation s at u."""
        return self.run.s[self.index]

    @property
    def a_t(self) -> float:
        """The factor a at t."""
        return self.run.a[self.index + 1]

    @property
    def s_t(self) -> float:
        """The standard deviation s at t."""
        return self.run.s[self.index + 1]

    @property
    def S(self) -> float:
        """Standard deviation of the stationary noise."""
        return self.run.schedule.S

    @property
    def kept(self) -> float:
        """What the probability-flow ODE's linear part leaves of y_u in y_t."""
        return self.s_t / self.s_u if self.data else self.a_t / self.a_u

    @property
    def h(self) -> float:
        """lam_t - lam_u > 0, infinite where s_t = 0."""
        return self._lam_step(0)

    @property
    def h_prev(self) -> float:
        """h of the step before."""
        return self._lam_step(1)

    @property
    def h_prev2(self) -> float:
        """h of the step before that."""
        return self._lam_step(2)

    @property
    def endless(self) -> bool:
        """Whether the step reaches the noise-free end, where h is infinite."""
        return math.isinf(self.h)

    def history(self, count: int) -> list[int]:
        """Indices of the times at which q0, q1, ... were predicted, newest first."""
        return list(range(self.index, self.index - count, -1))

    def _lam_step(self, back: int) -> float:
        lam = self.run.lam
        return lam[self.index + 1 - back] - lam[self.index - back]


class Weights(NamedTuple):
    """x' = x state + mu mean + q0 b0 + q1 b1 + q2 b2 + q3 b3 + z noise.

    Where momentum is not 0, q0 is first drawn towards q1: q0 + momentum (q1 - q0), and kept so.
    """

    state: float
    mean: float
    b0: float
    b1: float = 0.0
    b2: float = 0.0
    b3: float = 0.0
    noise: float = 0.0
    momentum: float = 0.0


def weighted(step: Step, state: float, b: list[float], noise: float = 0.0, momentum: float = 0.0) -> Weights:
    """Weights on x and predictions, with the weight on mu that follows from y = x - mu.

    In y no term has mu; a data prediction counts as q - mu, a noise prediction as itself. So the weights on pictures
    sum to 1, to the last digit.
    """
    mean = 1 - state - (math.fsum(b) if step.data else 0.0)
    b0, b1, b2, b3 = b + [0.0] * (4 - len(b))
    return Weights(state, mean, b0, b1, b2, b3, noise, momentum)


def clean_prediction(step: Step) -> Weights:
    """x' = x0 as predicted at u: the limit of most methods where s_t = 0, and what `denoise_last` asks for."""
    if step.data:
        return Weights(0.0, 0.0, 1.0)
    return Weights(1 / step.a_u, -(1 - step.a_u) / step.a_u, -step.s_u / step.a_u)


def from_noise(step: Step, state: float, w0: float, noise: float = 0.0) -> Weights:
    """y' = state y + w0 eps + noise z for the prediction at hand: x0 gives eps = (y - a (x0 - mu)) / s."""
    if not step.data:
        return weighted(step, state, [w0], noise)
    return weighted(step, state + w0 / step.s_u, [-w0 * step.a_u / step.s_u], noise)
