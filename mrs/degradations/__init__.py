"""Synthetic degradations: clean picture in, degraded picture out.

A degradation is a function `(picture, rng, severity=None) -> picture` on float32 HWC arrays in [0, 1], of the same
shape, that draws everything random from `rng`. Severity goes from 0, the lightest that a network is trained on, to 1,
the heaviest; None draws it, for training evenly. Add one by writing its file and naming it in `TASKS` (`mixed.py`);
`mrs-trt degrade`, `train` and `tune`, a build's calibration and the demonstration take it from there by name.

All sizes (streaks, drops, flakes, strokes, blurs, shadows, hills of the depth behind haze) are in pixels, and what is
drawn is a window of an endless plane: a patch of 96 pixels, on which networks are trained, sees what a part of 96
pixels of a whole picture sees.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from mrs.degradations.mixed import TASKS, Degradation, mixed, pick
from mrs.runtime.errors import InputError

__all__ = ["DEGRADATIONS", "TASKS", "Degradation", "Picture", "draw", "generator", "get"]

Picture = NDArray[np.float32]

DEGRADATIONS: dict[str, Degradation] = {**TASKS, "mixed": mixed}


def get(name: str) -> Degradation:
    """The degradation called `name`.

    Raises:
        InputError: where there is none of that name.
    """
    if name not in DEGRADATIONS:
        raise InputError(f"degradation {name!r} is unknown", hint=f"use one of {', '.join(sorted(DEGRADATIONS))}")
    return DEGRADATIONS[name]


def draw(name: str, rng: np.random.Generator) -> str:
    """What `name` does to the next picture: one of the ten for `mixed`, else itself. `get` of it, called with the same
    generator, then gives what `get(name)` would have given.
    """
    return pick(rng) if name == "mixed" else name


def generator(seed: int, task: str, name: str) -> np.random.Generator:
    """A picture's own random numbers, whatever else is degraded beside it.

    Args:
        seed: of the run.
        task: what is done to it.
        name: of the picture in its folder, with slashes.
    """
    # A digest, because Python's own hashes of texts differ from run to run.
    digest = hashlib.sha256(f"{task}\0{name}".encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, "<u4").tolist()])
