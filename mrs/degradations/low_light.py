"""Low light: a darker exposure with a sensor's noise, in the 8 bits of a camera's file.

The curve is the one of arXiv 1908.00682 (eq. 1): `beta (alpha I)^gamma` with alpha in 0.9..1, beta in 0.5..1 and gamma
in 1.5..5. Its brightest and darkest ends are left out: the first is hardly dark, of the other 8 bits keep nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrs.degradations.severity import between, resolve

ALPHA = (0.9, 1.0)
# At severity 0 and 1; each picture's own differ by up to these parts of them.
BETA, BETA_SPREAD = (0.8, 0.4), 0.15
GAMMA, GAMMA_SPREAD = (1.5, 3.0), 0.1
# Variance at black, and what it grows by up to white, at severity 0 and 1.
READ = (0.5 / 255, 2.0 / 255)
SHOT = (0.0001, 0.0008)


def low_light(
    picture: NDArray[np.float32], rng: np.random.Generator, severity: float | None = None
) -> NDArray[np.float32]:
    """Darken a picture.

    Args:
        picture: (H, W, 3) float32 in [0, 1].
        rng: source of everything random: exposure, curve, noise.
        severity: from 0 (dusk) to 1 (night); None draws it.

    Returns:
        (H, W, 3) float32 in [0, 1], of multiples of 1/255: what is lost in 8 bits is part of the damage.

    Raises:
        InputError: where the severity is outside [0, 1].
    """
    severity = resolve(severity, rng)
    alpha = rng.uniform(*ALPHA)
    beta = between(*BETA, severity) * rng.uniform(1 - BETA_SPREAD, 1 + BETA_SPREAD)
    gamma = between(*GAMMA, severity) * rng.uniform(1 - GAMMA_SPREAD, 1 + GAMMA_SPREAD)
    read, shot = between(*READ, severity), between(*SHOT, severity)
    dark = np.float32(beta) * (np.float32(alpha) * picture) ** np.float32(gamma)
    dark += np.sqrt(np.float32(read**2) + np.float32(shot) * dark) * rng.standard_normal(dark.shape, np.float32)
    return np.clip(np.rint(dark * np.float32(255)), 0, 255) / np.float32(255)
