"""Synthetic degradations: clean picture in, degraded picture out.

A degradation is a function `(picture, rng) -> picture` on float32 HWC arrays in [0, 1], of the same shape, that draws
everything random from `rng`. Add one by writing its file and naming it in `DEGRADATIONS`; `mrs-trt train` and `tune`, a
build's calibration and the demonstration take it from there by name.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mrs.degradations.rain import rain
from mrs.runtime.errors import InputError

Picture = NDArray[np.float32]
Degradation = Callable[[Picture, np.random.Generator], Picture]

DEGRADATIONS: dict[str, Degradation] = {
    "rain": rain,
}


def get(name: str) -> Degradation:
    """The degradation called `name`.

    Raises:
        InputError: where there is none of that name.
    """
    if name not in DEGRADATIONS:
        raise InputError(f"degradation {name!r} is unknown", hint=f"use one of {', '.join(sorted(DEGRADATIONS))}")
    return DEGRADATIONS[name]
