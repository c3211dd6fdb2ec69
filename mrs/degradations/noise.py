"""Gaussian noise, as of denoising benchmarks and of DA-CLIP's `noisy` task (Algolzw/daclip-uir, `generate_LQ.py`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrs.degradations.severity import between, resolve

# Standard deviation in 255ths, at severity 0 and 1; 0.5 is the 25 of most tables.
SIGMA = (5.0, 45.0)


def noise(picture: NDArray[np.float32], rng: np.random.Generator, severity: float | None = None) -> NDArray[np.float32]:
    """Add independent noise to each value of a picture.

    Args:
        picture: (H, W, 3) float32 in [0, 1].
        rng: source of everything random.
        severity: from 0 (sigma 5 of 255) to 1 (sigma 45); None draws it.

    Returns:
        (H, W, 3) float32: `picture + sigma z`, clipped to [0, 1].

    Raises:
        InputError: where the severity is outside [0, 1].
    """
    sigma = between(*SIGMA, resolve(severity, rng)) / 255
    added = rng.standard_normal(picture.shape, np.float32)
    added *= np.float32(sigma)
    added += picture
    return np.clip(added, 0, 1, out=added)
