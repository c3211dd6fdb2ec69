"""Trials of a function instead of a network that keep what they ran, and searches with them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.noise import normal
from mrs.kernels.table import Table
from mrs.numerics.reference import Denoiser, sample
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.tuning.search import Tuned, tune

Array = NDArray[Any]
SCHEDULE = Schedule()
REFERENCE = Solver("ode", 2, steps=100)
PICTURES = np.random.default_rng(0).integers(60, 196, (2, 4, 4, 3), np.uint8)


def two_values(schedule: Schedule, distance: float = 0.15) -> Denoiser:
    """The best denoiser where each value of x0 - mu is one of two, and no straight line as a function of x."""

    def best(x: Array, mu: Array, t: float) -> Array:
        a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
        y0 = distance * np.tanh(a * distance * (x - mu) / s**2)
        return (x - mu - a * y0) / s

    return best


class FakeTrial:
    """A `Trial` that runs a function instead of a network, and keeps the tables that it ran."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.pictures = PICTURES
        self.ran: list[Table] = []

    def run(self, table: Table) -> Array:
        self.ran.append(table)
        return self.restored(self.ran[-1])

    def restored(self, table: Table) -> Array:
        return sample(self.denoiser, self.mu, table).transpose(0, 2, 3, 1)

    @property
    def mu(self) -> Array:
        return np.ascontiguousarray(self.pictures.transpose(0, 3, 1, 2)) / 255

    def start(self, sigma: float) -> tuple[Array, Array]:
        return self.mu, self.mu + sigma * normal(0, 0, self.mu.shape)

    def predict(self, x: Array, mu: Array, t: float) -> Array:
        return self.denoiser(x, mu, t)


class WholeTrial(FakeTrial):
    """One that, as a plan does, knows its network at whole times only."""

    def run(self, table: Table) -> Array:
        assert all(float(time).is_integer() for time in table.times)
        return super().run(table)

    def predict(self, x: Array, mu: Array, t: float) -> Array:
        assert t.is_integer()
        return super().predict(x, mu, t)


def search(evaluations: int, trial: FakeTrial | None = None, *, fitted: bool = False, **options: Any) -> Tuned:
    found: Tuned = tune(trial or FakeTrial(two_values(SCHEDULE)), SCHEDULE, evaluations, fitted=fitted, **options)
    return found


@cache
def restored(solver: Solver) -> Array:
    return FakeTrial(two_values(SCHEDULE)).restored(tableau(SCHEDULE, solver))


def distance(solver: Solver) -> float:
    """PSNR in dB between a solver's pictures and those of 100 published steps."""
    return float(10 * np.log10(1 / np.mean((restored(solver) - restored(REFERENCE)) ** 2)))
