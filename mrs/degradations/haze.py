"""Haze by the atmospheric scattering model: `I = J t + A (1 - t)`, `t = exp(-beta d)`.

beta and the airlight A are RESIDE's (arXiv 1712.04143: beta 0.6..1.8, A 0.7..1). RESIDE has measured depths; there are
none here, so that d is a smooth random landscape of mean 0.8, whose hills are in pixels, whatever the size of the
picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrs.degradations.planes import smooth_field
from mrs.degradations.severity import between, resolve

BETA = (0.6, 1.8)
AIRLIGHT = (0.75, 1.0)
# How far the airlight of a channel may be from their mean: haze is a little blue, or brown.
TINT = 0.03
MEAN, RELIEF = 0.8, 0.3
DEPTH = (0.25, 1.4)
WAVELENGTHS = (400.0, 2000.0)


def haze(picture: NDArray[np.float32], rng: np.random.Generator, severity: float | None = None) -> NDArray[np.float32]:
    """Lay haze over a picture.

    Args:
        picture: (H, W, 3) float32 in [0, 1].
        rng: source of everything random: airlight and depth.
        severity: from 0 (beta 0.6) to 1 (beta 1.8); None draws it.

    Returns:
        (H, W, 3) float32 in [0, 1], between the picture and the airlight at every pixel.

    Raises:
        InputError: where the severity is outside [0, 1].
    """
    beta = between(*BETA, resolve(severity, rng))
    airlight = rng.uniform(*AIRLIGHT) + rng.uniform(-TINT, TINT, 3)
    airlight = np.clip(airlight, 0, 1).astype(np.float32)
    height, width = picture.shape[:2]
    depth = np.clip(MEAN + RELIEF * smooth_field(rng, height, width, WAVELENGTHS), *DEPTH)
    clear = np.exp(-np.float32(beta) * depth)[:, :, None]
    return np.clip(airlight + (picture - airlight) * clear, 0, 1).astype(np.float32)
