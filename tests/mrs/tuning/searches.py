"""Trials of a function instead of a network that keep what they ran, and searches with them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from mrs.kernels.noise import normal
from mrs.kernels.table import Table
from mrs.numerics.reference import Denoiser
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.tuning.search import Tuned, tune
from tests.mrs.tuning.trials import SCHEDULE, Array, FakeTrial, two_values

REFERENCE = Solver("ode", 2, steps=100)
PICTURES = np.random.default_rng(0).integers(60, 196, (2, 4, 4, 3), np.uint8)
FAR_APART = two_values(SCHEDULE, distance=0.15)


class ExactTrial(FakeTrial):
    """One in float64, whose distances can be told to many digits, with the noise that the reference loop draws."""

    def __init__(self, denoiser: Denoiser = FAR_APART) -> None:
        super().__init__(denoiser, pictures=PICTURES)
        self.mu = np.ascontiguousarray(PICTURES.transpose(0, 3, 1, 2)) / 255
        self.z = normal(0, 0, self.mu.shape)


class WholeTrial(ExactTrial):
    """One that, as a plan does, knows its network at whole times only."""

    def run(self, table: Table) -> Array:
        assert all(float(time).is_integer() for time in table.times)
        return super().run(table)

    def predict(self, x: Array, mu: Array, t: float) -> Array:
        assert t.is_integer()
        return super().predict(x, mu, t)


def search(evaluations: int, trial: ExactTrial | None = None, *, fitted: bool = False, **options: Any) -> Tuned:
    found: Tuned = tune(trial or ExactTrial(), SCHEDULE, evaluations, fitted=fitted, **options)
    return found


@cache
def restored(solver: Solver) -> Array:
    return ExactTrial().restored(tableau(SCHEDULE, solver))


def distance(solver: Solver) -> float:
    """PSNR in dB between a solver's pictures and those of 100 published steps."""
    return float(10 * np.log10(1 / np.mean((restored(solver) - restored(REFERENCE)) ** 2)))
