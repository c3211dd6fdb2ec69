"""Falling snow: flakes of several sizes, near ones larger, fewer and out of focus, each drawn out by its fall.

Small, medium and large flakes laid over the picture with a transparency of their own are Snow100K's (arXiv 1708.04512,
eq. 1: `I = z C + (1 - z) J`). Flakes are in pixels, whatever the size of the picture.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mrs.degradations.planes import soft_edge, spread
from mrs.degradations.severity import between, resolve

# Part of the picture behind each layer's flakes at severity 1, their radius, fall and edge in pixels, their opacity.
LAYERS = (
    (0.05, (0.5, 0.9), (0.5, 3.0), 1.0, (0.6, 1.0)),
    (0.06, (1.0, 2.2), (1.0, 6.0), 1.5, (0.6, 1.0)),
    (0.06, (2.5, 4.5), (2.0, 10.0), 3.0, (0.4, 0.9)),
)
# Part of that at severity 0.
LEAST = 0.15
WHITE = (0.88, 1.0)


def snow(picture: NDArray[np.float32], rng: np.random.Generator, severity: float | None = None) -> NDArray[np.float32]:
    """Let it snow on a picture.

    Args:
        picture: (H, W, 3) float32 in [0, 1].
        rng: source of everything random: flakes, wind, the snow's white.
        severity: from 0 (2 to 3 % of the picture behind flakes) to 1 (17 %); None draws it.

    Returns:
        (H, W, 3) float32 in [0, 1].

    Raises:
        InputError: where the severity is outside [0, 1].
    """
    height, width = picture.shape[:2]
    amount = between(LEAST, 1.0, resolve(severity, rng))
    wind = rng.normal(0.0, math.radians(25.0))
    white = np.float32(rng.uniform(*WHITE))
    seen = np.ones((height, width), np.float32)
    for coverage, radius, fall, edge, opacity in LAYERS:
        kernel = _flake(rng.uniform(*radius), rng.uniform(*fall), edge, wind + rng.normal(0.0, math.radians(8.0)))
        seen *= 1 - _layer(rng, height, width, amount * coverage / float(kernel.sum()), kernel, opacity)
    return np.clip(white + (picture - white) * seen[:, :, None], 0, 1)


def _layer(
    rng: np.random.Generator, height: int, width: int, density: float, kernel: NDArray[np.float32],
    opacity: tuple[float, float],
) -> NDArray[np.float32]:  # fmt: skip
    """Opacity in [0, 1] of flakes of one kind, `density` of them in each pixel, shape (H, W)."""
    margin = len(kernel) // 2
    shape = (height + 2 * margin, width + 2 * margin)
    # Flakes fall over a margin too, so that they enter from outside, and the rim is cut off.
    count = rng.poisson(density * math.prod(shape))
    places = rng.integers(math.prod(shape), size=count)
    flakes = np.bincount(places, rng.uniform(*opacity, count), math.prod(shape)).astype(np.float32).reshape(shape)
    return np.clip(spread(flakes, kernel)[2 * margin :, 2 * margin :], 0, 1).astype(np.float32)


def _flake(radius: float, fall: float, edge: float, angle: float) -> NDArray[np.float32]:
    """One flake of peak 1, drawn out over `fall` pixels at an angle to the vertical, on a square of odd side."""
    reach = math.ceil(radius + edge + fall / 2)
    grid = np.arange(-reach, reach + 1, dtype=np.float32)
    along = grid[:, None] * np.float32(math.cos(angle)) + grid[None, :] * np.float32(math.sin(angle))
    across = grid[None, :] * np.float32(math.cos(angle)) - grid[:, None] * np.float32(math.sin(angle))
    # Distance to the line along which it falls.
    beyond = np.maximum(np.abs(along) - np.float32(fall / 2), 0)
    return soft_edge(np.hypot(beyond, across) - np.float32(radius), edge)
