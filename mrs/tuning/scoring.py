"""How near restored pictures are to clean ones, as one number in decibels for each picture.

Every metric is told as -10 log10 of what is missing to perfection: the mean squared error (which is PSNR), 1 - HaarPSI,
1 - FSIMc, GMSD. So a mix is the mean of numbers of one kind: half of what is missing is 3 dB in each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrs.runtime.errors import InputError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

PERCEPTUAL = ("haarpsi", "fsim", "gmsd")
METRICS = ("psnr", *PERCEPTUAL)
# Where 1 is perfect; GMSD is 0 there.
SIMILARITIES = ("haarpsi", "fsim")
# Below it nothing is missing: 100 dB.
LEAST = 1e-10
# What the perceptual ones need: FSIM's filters and HaarPSI's scales.
LEAST_SIDE = 32


@dataclass(frozen=True)
class Metric:
    """What pictures are judged by.

    Attributes:
        name: of metrics, joined by +.
        functions: those of piq that are in it, by name.
    """

    name: str
    functions: dict[str, Callable[..., object]]

    def __call__(self, pictures: F32, clean: F32) -> F64:
        """In dB, higher is nearer, (N,), of pictures (N, C, H, W), here clipped to [0, 1], and clean ones."""
        pictures = np.clip(pictures, 0, 1)
        found = []
        for name in self.name.split("+"):
            if name == "psnr":
                missing = np.mean(np.square(pictures.astype(np.float64) - clean), axis=(1, 2, 3))
            else:
                missing = self._missing(name, pictures, clean)
            found.append(-10 * np.log10(np.maximum(missing, LEAST)))
        scores: F64 = np.mean(found, axis=0)
        return scores

    def _missing(self, name: str, pictures: F32, clean: F32) -> F64:
        import torch

        values = self.functions[name](
            torch.from_numpy(pictures), torch.from_numpy(clean), data_range=1.0, reduction="none"
        )
        array = np.asarray(values, np.float64).reshape(len(pictures))
        return 1 - array if name in SIMILARITIES else array


def metric(name: str) -> Metric:
    """A metric or a mix of several, such as `psnr+haarpsi`.

    Raises:
        InputError: for a name that is unknown or said twice, or where piq is needed and missing.
    """
    check_metric(name)
    parts = [part for part in name.split("+") if part in PERCEPTUAL]
    if not parts:
        return Metric(name, {})
    from mrs.benchmarking.quality.perceptual import HINT, functions

    known = functions()
    if isinstance(known, str):
        raise InputError(known, hint=HINT)
    return Metric(name, {part: known[part] for part in parts})


def check_metric(name: str) -> None:
    """Refuse a name of a metric before anything is loaded for it.

    Raises:
        InputError: for one that is unknown or said twice.
    """
    parts = name.split("+")
    wrong = next((part for part in parts if part not in METRICS), None)
    if wrong is not None:
        raise InputError(f"metric {wrong!r} is unknown", hint=f"use some of {', '.join(METRICS)}, joined by +")
    if len(set(parts)) < len(parts):
        raise InputError(f"metric {name} says one twice", hint="name each once: all count the same")
