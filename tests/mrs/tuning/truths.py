"""Judges of a network that removes too little, which weights and times can make good."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrs.kernels.table import Table
from mrs.numerics.reference import Denoiser
from mrs.numerics.schedule import Schedule
from mrs.tuning.judging import Judge
from mrs.tuning.scoring import metric
from tests.mrs.tuning.trials import SCHEDULE, Array, FakeTrial

SHAPE = (4, 8, 8, 3)
# Of the damage, what the network sees.
SEEN = 0.6
# Of the noise, what it takes for a part of the picture.
MISTAKEN = 0.3


def timid(schedule: Schedule = SCHEDULE) -> Denoiser:
    """Sees a part of the damage, the less the earlier it is, and takes some of the noise for it."""

    def predict(x: Array, mu: Array, t: float) -> Array:
        a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
        # Damage is what lies above one half.
        y0 = -SEEN * (1 - 0.2 * t / schedule.T) * np.maximum(mu - 0.5, 0) + MISTAKEN * (x - mu)
        return (x - mu - a * y0) / s

    return predict


class SeededTrial(FakeTrial):
    """One whose noise may be of other seeds, which it counts."""

    def __init__(self, denoiser: Denoiser, seed: int, pictures: Array) -> None:
        super().__init__(denoiser, seed, pictures)
        self.seeds: list[int] = []

    def run(self, table: Table, seed: int = 0) -> Array:
        self.seeds.append(seed)
        return super().run(table)


def judge(seed: int = 0, denoiser: Denoiser | None = None, **options: Any) -> Judge:
    """Of pictures that are grey below one half, with damage above it."""
    random = np.random.default_rng(seed)
    clean = random.integers(40, 110, SHAPE, np.uint8)
    damage = np.where(random.random(SHAPE) < 0.4, random.integers(60, 120, SHAPE), 0)
    degraded = np.where(damage > 0, np.clip(128 + damage, 0, 250), clean).astype(np.uint8)
    truth = np.where(damage > 0, 128, clean).astype(np.uint8)
    return Judge(SeededTrial(denoiser or timid(), seed, degraded), truth, metric("psnr"), **options)
