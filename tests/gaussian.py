"""A problem whose best denoiser, reverse ODE and reverse SDE are known in closed form, to measure solvers against.

Every pixel of y_0 = x0 - mu is normal with one mean and one standard deviation, independent of the others. Then y_t is
normal with mean a_t m and variance v_t = a_t^2 c^2 + s_t^2, the best noise prediction is eps = s_t (y - a_t m) / v_t,
and both reverse processes are linear (Anderson's reversal of a Gaussian process; the family in tau is SA-Solver's,
arXiv 2309.05019, eq. 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.table import Table
from mrs.numerics.reference import sample
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import OUTPUTS
from mrs.runtime.errors import InputError

Array = NDArray[Any]
Value = float | NDArray[Any]


@dataclass(frozen=True)
class GaussianProblem:
    """Pixels of x0 - mu with this mean and standard deviation, under a schedule.

    Args:
        schedule: the process.
        mean: m, in picture units; a number or an array that broadcasts against pictures.
        spread: c > 0, likewise.
    """

    schedule: Schedule
    mean: Value = 0.0
    spread: Value = 0.2

    def __post_init__(self) -> None:
        if not np.all(np.asarray(self.spread) > 0):
            raise InputError(f"spread {self.spread!r} is not positive")

    def variance(self, t: float) -> Array:
        """v_t, of y_t."""
        return (self.schedule.alpha(t) * self.spread) ** 2 + self.schedule.sigma(t) ** 2

    def denoiser(self, output: str = "noise") -> Callable[[Array, Array, float], Array]:
        """The best denoiser, to be called as `denoiser(x, mu, t)`, for a network output of `mrs.tableau`.

        Raises:
            InputError: for an unknown output.
        """
        if output not in OUTPUTS:
            raise InputError(f"network output {output!r} is unknown", hint=f"use one of {', '.join(OUTPUTS)}")

        def best(x: Array, mu: Array, t: float) -> Array:
            a, s, S = float(self.schedule.alpha(t)), float(self.schedule.sigma(t)), self.schedule.S
            rest = (x - mu - a * np.asarray(self.mean)) / self.variance(t)
            if output == "noise":
                return s * rest
            # The mean of x0 given x, which needs no division by a.
            y0 = self.mean + a * np.square(self.spread) * rest
            return mu + y0 if output == "data" else a * S * s * rest - s / S * y0

        return best

    def flow(self, y: Value, u: float, t: float) -> Array:
        """Where the probability-flow ODE takes y = x - mu at time u by time t."""
        a_u, a_t = self.schedule.alpha(u), self.schedule.alpha(t)
        scale = np.sqrt(self.variance(t) / self.variance(u))
        return a_t * np.asarray(self.mean) + scale * (y - a_u * np.asarray(self.mean))

    def moments(self, mean: Value, variance: Value, u: float, t: float, tau: float = 1.0) -> tuple[Array, Array]:
        """Mean and variance at time t of the reverse SDE of this stochasticity, from those of y at time u."""
        a_u, a_t = self.schedule.alpha(u), self.schedule.alpha(t)
        # Correlation of y_u and y_t in the forward process.
        kept = (a_u / a_t * np.sqrt(self.variance(t) / self.variance(u))) ** tau**2
        scale = np.sqrt(self.variance(t) / self.variance(u)) * kept
        at_t = a_t * np.asarray(self.mean) + scale * (mean - a_u * np.asarray(self.mean))
        return at_t, scale**2 * variance + self.variance(t) * (1 - kept**2)


def moments(table: Table, problem: GaussianProblem) -> tuple[float, float]:
    """Exact mean and variance of the final y of one pixel: pixel k carries the part of the k-th noise alone.

    Without chance, because the problem makes every table linear in its noise.
    """
    count = len(table.rows) + 1
    draws = np.concatenate([np.eye(count), np.zeros((count, 1))], axis=1).reshape(count, 1, 1, 1, count + 1)
    parts = sample(problem.denoiser(), np.zeros_like(draws[0]), table, draws[1:], draws[0], clamp=False)
    # The last pixel has no noise: it is the mean, which all others carry too.
    mean = float(parts[..., -1].item())
    return mean, float(np.sum((parts[..., :-1] - mean) ** 2))
