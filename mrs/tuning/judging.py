"""Pictures whose clean ones are known, with the network that restores them and what judges the result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.table import Table
from mrs.runtime.errors import BackendError
from mrs.tuning.scoring import Metric
from mrs.tuning.trial import Trial

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
# Between the seeds of two noises: batches of a trial count theirs up.
APART = 10_000


@dataclass(frozen=True)
class Judge:
    """What tells how good a solver is.

    Attributes:
        trial: the network and the degraded pictures.
        truth: the clean ones, (N, H, W, C) uint8.
        metric: how near they are.
        seeds: noises that a solver is judged by which draws any.
    """

    trial: Trial
    truth: NDArray[np.uint8]
    metric: Metric
    seeds: int = 1

    @cached_property
    def clean(self) -> F32:
        """As restored states are: (N, C, H, W) float32 in [0, 1]."""
        return np.ascontiguousarray(self.truth.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)

    def scores(self, x: F32) -> F64:
        """Of final states (N, C, H, W), in dB, (N,)."""
        return self.metric(x, self.clean)

    def judged(self, table: Table) -> F64:
        """A table's score on each picture, the mean over noises; -inf where its pictures are not finite."""
        seeds = self.seeds if table.start or table.draws else 1
        try:
            found = [self.scores(self._restored(table, seed)) for seed in range(seeds)]
        except BackendError:
            # A chain says so where its state is not finite.
            return np.full(len(self.truth), -np.inf)
        scores: F64 = np.mean(found, axis=0)
        return scores

    def _restored(self, table: Table, seed: int) -> F32:
        return np.ascontiguousarray(self.trial.run(table, APART * seed).transpose(0, 3, 1, 2))
