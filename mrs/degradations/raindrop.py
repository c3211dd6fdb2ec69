"""Drops on the lens: `I = (1 - M) B + M R` (arXiv 1711.10098, eq. 1), R the scene as a drop shows it: upside down,
smaller, and out of focus. Drops are in pixels, whatever the size of the picture.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mrs.degradations.planes import convolved, gaussian, soft_edge
from mrs.degradations.severity import between, resolve

# Part of the picture behind drops, at severity 0 and 1.
COVERAGE = (0.06, 0.35)
# The larger half axis of a drop, and the width of its edge, which the lens does not focus on.
RADIUS = (4.0, 18.0)
EDGE = (1.5, 4.0)
# How many times its own size of the scene a drop shows, and how blurred.
SCENE = (2.0, 5.0)
BLUR = (1.5, 3.0)
# How much darker a drop is than what it shows.
SHADE = (0.8, 1.0)


def raindrop(
    picture: NDArray[np.float32], rng: np.random.Generator, severity: float | None = None
) -> NDArray[np.float32]:
    """Lay drops over a picture.

    Args:
        picture: (H, W, 3) float32 in [0, 1].
        rng: source of everything random: places, sizes and looks of the drops.
        severity: from 0 (6 % of the picture behind drops) to 1 (35 %); None draws it.

    Returns:
        (H, W, 3) float32 in [0, 1], with at least one drop.

    Raises:
        InputError: where the severity is outside [0, 1].
    """
    height, width = picture.shape[:2]
    coverage = between(*COVERAGE, resolve(severity, rng))
    unfocused = convolved(picture, gaussian(rng.uniform(*BLUR)))
    edge = rng.uniform(*EDGE)
    margin = RADIUS[0]
    area = (height + 2 * margin) * (width + 2 * margin)
    result = np.array(picture, np.float32)
    for _ in range(1 + rng.poisson(-math.log1p(-coverage) * area / _mean_area())):
        _lay(result, unfocused, rng, margin, edge)
    return np.clip(result, 0, 1, out=result)


def _mean_area() -> float:
    """Of drops whose radius is even in its logarithm, with the mean aspect."""
    least, most = RADIUS
    return 0.85 * math.pi * (most**2 - least**2) / (2 * math.log(most / least))


def _lay(
    result: NDArray[np.float32], unfocused: NDArray[np.float32], rng: np.random.Generator, margin: float, edge: float
) -> None:
    """Lay one drop over `result`, where it meets the picture."""
    height, width = result.shape[:2]
    radius = math.exp(rng.uniform(*np.log(RADIUS)))
    aspect, shade, scene = rng.uniform(0.7, 1.0), rng.uniform(*SHADE), rng.uniform(*SCENE)
    y, x = rng.uniform(-margin, height + margin), rng.uniform(-margin, width + margin)
    reach = math.ceil(radius + edge)
    top, left = max(0, math.floor(y) - reach), max(0, math.floor(x) - reach)
    bottom, right = min(height, math.ceil(y) + reach + 1), min(width, math.ceil(x) + reach + 1)
    if top >= bottom or left >= right:
        return
    down = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
    across = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)
    # Drops hang: wider below the middle than above.
    breadth = np.float32(aspect) * (1 + np.float32(0.25 / radius) * down.clip(-radius, radius))
    far = np.sqrt(np.square(down) + np.square(across / breadth)) - np.float32(radius)
    mask = soft_edge(far, edge)[:, :, None]
    rows = _mirrored(np.rint(y - scene * down[:, 0]).astype(np.int64), height)
    columns = _mirrored(np.rint(x - scene * across[0]).astype(np.int64), width)
    shown = unfocused[rows[:, None], columns[None, :]] * np.float32(shade)
    part = result[top:bottom, left:right]
    part += mask * (shown - part)


def _mirrored(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Indices outside of 0..length - 1 go back where they came from, as often as needed."""
    index = index % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)
