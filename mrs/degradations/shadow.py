"""Cast shadows: soft outlines within which less light arrives, of red least, for the sky is what is left.

Attenuation by channel behind a mask is the usual model of synthetic shadows (arXiv 2101.01713). Sizes are in pixels,
whatever the size of the picture; the outline of at least one shadow crosses it, so that there is something to see it
by.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mrs.degradations.planes import soft_edge
from mrs.degradations.severity import between, resolve

# Part of the light that is left, at severity 0 and 1, and how far channels differ from their mean.
LEFT = (0.7, 0.25)
TINT = 0.15
RADIUS = (30.0, 150.0)
EDGE = (1.0, 12.0)
# Shadows for so many pixels, besides the first.
SPACING = 200.0


def shadow(
    picture: NDArray[np.float32], rng: np.random.Generator, severity: float | None = None
) -> NDArray[np.float32]:
    """Lay shadows over a picture.

    Args:
        picture: (H, W, 3) float32 in [0, 1].
        rng: source of everything random: outlines, softness, tint.
        severity: from 0 (70 % of the light is left) to 1 (25 %); None draws it.

    Returns:
        (H, W, 3) float32 in [0, 1], nowhere lighter than the picture.

    Raises:
        InputError: where the severity is outside [0, 1].
    """
    height, width = picture.shape[:2]
    left = between(*LEFT, resolve(severity, rng))
    tint = rng.uniform(0, TINT)
    edge = rng.uniform(*EDGE)
    mask = np.zeros((height, width), np.float32)
    for _ in range(1 + rng.poisson(height * width / SPACING**2)):
        np.maximum(mask, soft_edge(_outline(rng, height, width), edge), out=mask)
    taken = 1 - left * np.array([1 - tint, 1, 1 + tint], np.float32)
    return picture * (1 - mask[:, :, None] * taken)


def _outline(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Distance to the outline of one shadow, about in pixels and negative within, which crosses the picture."""
    radius = math.exp(rng.uniform(*np.log(RADIUS)))
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    towards = rng.uniform(0, 2 * math.pi)
    down = np.arange(height, dtype=np.float32)[:, None] - np.float32(y + radius * math.sin(towards))
    across = np.arange(width, dtype=np.float32)[None, :] - np.float32(x + radius * math.cos(towards))
    if rng.random() < 0.5:
        # A wall or a roof: the inside of a few lines.
        angles = towards + math.pi + np.cumsum(np.append(0.0, rng.uniform(0.9, 1.7, 4)))
        far = [down * np.float32(math.sin(angle)) + across * np.float32(math.cos(angle)) for angle in angles]
        return np.maximum.reduce(far) - np.float32(radius)
    # A tree or a person: a round outline with bays.
    angle = np.arctan2(down, across)
    bays = np.zeros_like(angle)
    for count in (2, 3, 5):
        # No bay at the point that the outline must cross.
        bays += np.float32(rng.uniform(-0.5, 0.5) / count) * np.sin(np.float32(count) * (angle - np.float32(towards)))
    return np.sqrt(np.square(down) + np.square(across)) - np.float32(radius) * (1 + bays)
