"""What several degradations are made of: convolutions, soft edges, and a smooth random field."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def convolved(picture: Array, kernel: Array) -> Array:
    """A picture (H, W, C) under a square kernel of odd side, mirrored at its rim, of the same shape."""
    height, width = picture.shape[:2]
    side = len(kernel)
    rim = side // 2
    planes = np.pad(picture.transpose(2, 0, 1), ((0, 0), (rim, rim), (rim, rim)), mode="symmetric")
    result = spread(planes, kernel)[:, side - 1 : side - 1 + height, side - 1 : side - 1 + width]
    return np.ascontiguousarray(result.transpose(1, 2, 0), np.float32)


def spread(planes: Array, kernel: Array) -> NDArray[np.float64]:
    """Planes (..., H, W) with a kernel hung by its first corner at each value, which is right where a whole kernel fits
    before: from row and column `side - 1` on.
    """
    height, width = planes.shape[-2:]
    # In float64, in which NumPy's transforms take half the time, and of lengths that take least.
    shape = (_even_length(height), _even_length(width))
    spectrum = np.fft.rfft2(planes.astype(np.float64), shape) * np.fft.rfft2(kernel.astype(np.float64), shape)
    return np.fft.irfft2(spectrum, shape)[..., :height, :width]


def _even_length(least: int) -> int:
    """The first length from `least` on that is a product of twos, threes and fives."""
    length = least
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def gaussian(sigma: float) -> Array:
    """A kernel of sum 1 for `convolved`, cut off at three standard deviations."""
    reach = math.ceil(3 * sigma)
    profile = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
    kernel = np.outer(profile, profile)
    return (kernel / kernel.sum()).astype(np.float32)


def soft_edge(distance: Array, width: float) -> Array:
    """1 where the distance to an outline is negative, 0 where it is positive, smooth over `width` pixels between."""
    ramp = np.clip(0.5 - distance / np.float32(max(width, 1.0)), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def smooth_field(rng: np.random.Generator, height: int, width: int, wavelengths: tuple[float, float]) -> Array:
    """A window (H, W) of an endless random landscape of mean 0 and variance 1: six waves, mostly along the height.

    Args:
        rng: source of everything random.
        height, width: of the window.
        wavelengths: the shortest and the longest, in pixels.
    """
    waves = 6
    shortest, longest = np.log(wavelengths)
    length = np.exp(rng.uniform(shortest, longest, waves))
    angle = rng.normal(0.0, math.radians(40.0), waves)
    phase = rng.uniform(0, 2 * math.pi, waves)
    # cos(y + x) as products of one row and one column each, so that no cosine is taken for every pixel.
    y = np.outer(2 * math.pi * np.cos(angle) / length, np.arange(height)) + phase[:, None]
    x = np.outer(2 * math.pi * np.sin(angle) / length, np.arange(width))
    field = np.cos(y).T @ np.cos(x) - np.sin(y).T @ np.sin(x)
    return (math.sqrt(2 / waves) * field).astype(np.float32)
