"""Motion blur of a shaken camera: the mean along a smooth, slightly bent path, as of random trajectories in
DeblurGAN (arXiv 1711.07064, section 4), with a little noise, so that the blur cannot simply be divided out.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mrs.degradations.planes import convolved
from mrs.degradations.severity import between, resolve

# Length of the path in pixels, at severity 0 and 1.
LENGTH = (4.0, 24.0)
# How far the direction turns along the path, a standard deviation in radians.
BEND = 0.6
NOISE = 1 / 255


def motion_blur(
    picture: NDArray[np.float32], rng: np.random.Generator, severity: float | None = None
) -> NDArray[np.float32]:
    """Blur a picture along one path.

    Args:
        picture: (H, W, 3) float32 in [0, 1].
        rng: source of everything random: the path and the noise.
        severity: from 0 (a path of 4 pixels) to 1 (of 24 pixels); None draws it.

    Returns:
        (H, W, 3) float32 in [0, 1].

    Raises:
        InputError: where the severity is outside [0, 1].
    """
    length = between(*LENGTH, resolve(severity, rng))
    kernel = path(length, angle=rng.uniform(0, 2 * math.pi), bend=rng.normal(0, BEND), twist=rng.normal(0, BEND))
    blurred = convolved(picture, kernel)
    blurred += np.float32(NOISE) * rng.standard_normal(picture.shape, np.float32)
    return np.clip(blurred, 0, 1, out=blurred)


def path(length: float, angle: float, bend: float, twist: float) -> NDArray[np.float32]:
    """The kernel of a path: square, of odd side and sum 1, its middle the path's mean.

    Args:
        length: in pixels.
        angle: direction half way, in radians.
        bend: how much the direction turns from the start to the end.
        twist: how much more it turns at both ends than half way, the one way and the other.
    """
    points = math.ceil(8 * length)
    along = (np.arange(points) + 0.5) / points - 0.5
    direction = angle + bend * along + twist * (4 * along**2 - 1 / 3)
    y, x = (np.cumsum(part) * length / points for part in (np.sin(direction), np.cos(direction)))
    y, x = y - y.mean(), x - x.mean()
    reach = math.ceil(max(np.abs(y).max(), np.abs(x).max())) + 1
    side = 2 * reach + 1
    kernel = np.zeros(side * side)
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    # Each point is shared by the four pixels around it.
    for below in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - below - (y - top)) * np.abs(1 - right - (x - left))
            place = (top + below + reach) * side + left + right + reach
            kernel += np.bincount(place, share, side * side)
    return (kernel / kernel.sum()).reshape(side, side).astype(np.float32)
