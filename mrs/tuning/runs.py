"""A solver without noise in its steps, run from any step on with any weights: what fits of weights are made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.table import Row
from mrs.kernels.update import silent
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import MOST_PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from mrs.tuning.trial import Trial

F32 = NDArray[np.float32]
Weights = tuple[tuple[float, ...], ...]
# A state and the newest predictions, newest first.
State = tuple[F32, list[F32]]


class Runs:
    """A solver's run over the pictures of a trial.

    Args:
        trial: the network and the pictures.
        schedule: the process.
        solver: whose steps draw no noise, one evaluation per time; its own weights are not used.
        output: what the network predicts.

    Attributes:
        mu: the degraded pictures, (N, C, H, W) float32.
    """

    def __init__(self, trial: Trial, schedule: Schedule, solver: Solver, output: str) -> None:
        self.trial = trial
        self.data = solver.prediction == "data"
        table = tableau(schedule, solver, output)
        self.times = table.times
        self.rows = [Row._make(map(np.float32, row)) for row in table.rows]
        self.mu, self.first = trial.start(table.start)

    @silent
    def states(self, weights: Weights, index: int = 0, state: State | None = None) -> list[State]:
        """The states before each step from `index` on, and the last one."""
        x, predictions = state or (self.first, [])
        states = [(x, predictions)]
        for row, own, t in zip(self.rows[index:], weights[index:], self.times[index:], strict=False):
            q0 = row.cx * x + row.cm * self.mu + row.cf * self.trial.predict(x, self.mu, t)
            predictions = [q0, *predictions[: MOST_PREDICTIONS - 1]]
            x = self.combined(own, x, predictions)
            states.append((x, predictions))
        return states

    def combined(self, own: tuple[float, ...], x: F32, predictions: list[F32]) -> F32:
        """The state after a step with these weights; that of mu follows from them."""
        mean = 1 - own[0] - (sum(own[1:]) if self.data else 0.0)
        combined = np.float32(own[0]) * x + np.float32(mean) * self.mu
        for weight, q in zip(own[1:], predictions, strict=False):
            combined += np.float32(weight) * q
        return combined
