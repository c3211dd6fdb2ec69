"""Trials of a function instead of a network, and solvers to try."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.table import Table
from mrs.numerics.reference import Denoiser, sample
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau

Array = NDArray[Any]
SCHEDULE = Schedule()
# Bright and dark ends are far enough for all final states to stay between 0 and 1, or nearly all.
SHAPE, LOW, HIGH = (2, 4, 5, 3), 70, 186
TIMES = {2: (100, 40, 0), 3: (100, 60, 25, 0), 5: (100, 80, 55, 30, 10, 0)}
PICTURE = np.full(SHAPE, 0.5, np.float32)


class FakeTrial:
    """A `Trial` of a function instead of a network, that counts how often it is evaluated for a fit.

    Attributes:
        ran: the tables of all runs.
    """

    def __init__(self, denoiser: Denoiser, seed: int = 0, pictures: Array | None = None) -> None:
        random = np.random.default_rng(seed)
        self.denoiser = denoiser
        self.pictures = random.integers(LOW, HIGH, SHAPE, np.uint8) if pictures is None else pictures
        self.mu = np.ascontiguousarray(self.pictures.transpose(0, 3, 1, 2)) / np.float32(255)
        self.z = random.standard_normal(self.mu.shape, np.float32)
        self.evaluations = 0
        self.ran: list[Table] = []

    def start(self, sigma: float) -> tuple[Array, Array]:
        return self.mu.copy(), self.mu + self.mu.dtype.type(sigma) * self.z

    def predict(self, x: Array, mu: Array, t: float) -> Array:
        self.evaluations += 1
        return self.denoiser(x, mu, t).astype(self.mu.dtype)

    def run(self, table: Table) -> Array:
        self.ran.append(table)
        return self.restored(table)

    def restored(self, table: Table) -> Array:
        return sample(self.denoiser, self.mu, table, init_noise=self.z).transpose(0, 2, 3, 1)

    def distance(self, solver: Solver, reference: Array, schedule: Schedule = SCHEDULE, output: str = "noise") -> float:
        """PSNR in dB between a solver's pictures, by the reference loop, and others."""
        error = np.mean(np.square(self.restored(tableau(schedule, solver, output)).astype(np.float64) - reference))
        return float(-10 * np.log10(error + 1e-30))


def two_values(schedule: Schedule = SCHEDULE, output: str = "noise", distance: float = 0.1) -> Denoiser:
    """The best denoiser where each value of x0 - mu is one of two: far from linear in x."""

    def best(x: Array, mu: Array, t: float) -> Array:
        a, s, S = float(schedule.alpha(t)), float(schedule.sigma(t)), schedule.S
        y0 = distance * np.tanh(a * distance * (x - mu) / s**2)
        eps = (x - mu - a * y0) / s
        return {"noise": eps, "data": mu + y0, "velocity": a * S * eps - s / S * y0}[output]

    return best


def solver_at(times: Sequence[float], method: str = "dpm++", order: int = 2, **more: Any) -> Solver:
    return Solver(method, order, steps=len(times) - 1, spacing="custom", times=tuple(times), **more)
