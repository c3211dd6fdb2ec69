"""Restored pictures against clean ones: several metrics for each picture, means over seeds, intervals over pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mrs import degradations
from mrs.benchmarking.quality.intervals import interval
from mrs.benchmarking.quality.perceptual import functions, tensor
from mrs.runtime.psnr import psnr

U8 = NDArray[np.uint8]
# Between two seeds: more than there are pictures, each of which draws from a seed of its own, counted up.
APART = 1000
# Of each picture, by metric.
Each = dict[str, list[float]]
DIGITS = 5


class Judge:
    """What `judge` says of a picture; piq's modules are loaded once.

    FSIM would be ten times as dear as the others together, and says the same.

    Raises:
        SystemExit: where they do not load, for a table with holes is none.
    """

    def __init__(self) -> None:
        found = functions()
        if isinstance(found, str):
            raise SystemExit(f"error: {found}")
        self._perceptual = {name: found[name] for name in ("haarpsi", "gmsd")}

    def judge(self, picture: U8, clean: U8) -> dict[str, float]:
        """psnr, haarpsi, gmsd, and sharpness, of pictures (H, W, 3)."""
        sharpness = gradient_energy(picture) / gradient_energy(clean)
        pair = tensor(picture), tensor(clean)
        perceived = {name: float(function(*pair, data_range=1.0)) for name, function in self._perceptual.items()}
        return {"psnr": psnr(picture, clean), **perceived, "sharpness": sharpness}


def gradient_energy(picture: U8) -> float:
    """Mean square of the differences between neighbours, across and down, of levels in 0 to 255."""
    levels = picture.astype(np.float64)
    return float(sum(np.mean(np.diff(levels, axis=axis) ** 2) for axis in (0, 1)))


def degraded(clean: U8, degradation: str, index: int) -> U8:
    """A picture of a collection, damaged with the seed of its place there."""
    damaged = degradations.get(degradation)(clean.astype(np.float32) / 255, np.random.default_rng([0, index]))
    return np.rint(damaged * 255).astype(np.uint8)


def over_seeds(runs: Sequence[Sequence[dict[str, float]]]) -> Each:
    """Each picture's mean over its runs: of runs, each a list of what was said of the pictures in turn."""
    names = runs[0][0]
    return {
        name: [round(float(np.mean([run[index][name] for run in runs])), DIGITS) for index in range(len(runs[0]))]
        for name in names
    }


def summary(each: Each) -> dict[str, float]:
    """Mean over the pictures, and its interval as _low and _high where there are enough for one."""
    found = {}
    for name, values in each.items():
        found[name] = float(np.mean(values))
        ends = interval(values)
        if ends is not None:
            found[f"{name}_low"], found[f"{name}_high"] = ends
    return found
