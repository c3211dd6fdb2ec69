"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PictureArray = NDArray[np.uint8 | np.float32 | np.float64]


def psnr(picture: PictureArray, reference: PictureArray) -> float:
    """PSNR in dB between two pictures of one shape, both uint8 or both float in [0, 1]; inf where they are equal."""
    if picture.shape != reference.shape or (picture.dtype == np.uint8) != (reference.dtype == np.uint8):
        raise ValueError(f"{picture.dtype}{picture.shape} and {reference.dtype}{reference.shape} cannot be compared")
    peak = 255.0 if picture.dtype == np.uint8 else 1.0
    error = np.mean(np.square(picture.astype(np.float64) - reference.astype(np.float64)))
    return math.inf if error == 0 else 10 * math.log10(peak * peak / error)


def mean_psnr(pictures: Sequence[PictureArray], references: Sequence[PictureArray]) -> float | None:
    """PSNR of the mean squared error over all pictures; None where they are equal."""
    errors = [10 ** (-psnr(one, other) / 10) for one, other in zip(pictures, references, strict=True)]
    mean = sum(errors) / len(errors)
    return None if mean == 0 else -10 * math.log10(mean)
