"""Light to moderate rain: two layers of motion-blurred streaks, laid over the picture like thin white glass.

The streak model (random drops, one direction of motion, screen blending) is the usual one of synthetic deraining sets
(Rain100L/H, arXiv 1609.07769, section 3). Streak sizes are in pixels, whatever the size of the picture.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mrs.degradations.severity import between, checked

# Range of the degraded picture's PSNR to the clean one, in dB: 26 is a drizzle, 18 a shower.
PSNR_RANGE = (18.0, 26.0)
# A streak never hides more than this part of what is behind it.
MAX_OPACITY = 0.95


def rain(picture: NDArray[np.float32], rng: np.random.Generator, severity: float | None = None) -> NDArray[np.float32]:
    """Lay rain over a picture.

    Args:
        picture: (H, W, 3) float32 in [0, 1].
        rng: source of everything random: the streaks and their strength.
        severity: from 0 (26 dB) to 1 (18 dB); None draws it.

    Returns:
        (H, W, 3) float32 in [0, 1]: `picture + opacity (1 - picture)`, with the opacity scaled so that the PSNR to
        the clean picture is that of the severity (a little higher where streaks reach `MAX_OPACITY`).

    Raises:
        InputError: where the severity is outside [0, 1].
    """
    if severity is not None:
        severity = checked(severity)
    height, width = picture.shape[:2]
    angle = rng.normal(0.0, math.radians(14.0))
    near = _streaks(rng, height, width, angle, length=rng.uniform(16, 34), breadth=rng.uniform(0.8, 1.5))
    far = _streaks(rng, height, width, angle, length=rng.uniform(7, 15), breadth=rng.uniform(0.5, 0.8))
    opacity = np.maximum(near, rng.uniform(0.3, 0.8) * far)[:, :, None]
    missing = 1.0 - picture
    # The severity is drawn last: shipped weights, and figures of theirs, hold to these very streaks.
    low, high = PSNR_RANGE
    target = 10.0 ** (-(rng.uniform(low, high) if severity is None else between(high, low, severity)) / 10.0)
    # The error is opacity * missing, so its mean square is exact for a given scale; black frames out the division.
    mean_square = float(np.mean(np.square(opacity * missing), dtype=np.float64))
    scale = math.sqrt(target / max(mean_square, 1e-6))
    return (picture + np.minimum(scale * opacity, MAX_OPACITY) * missing).astype(np.float32)


def _streaks(
    rng: np.random.Generator, height: int, width: int, angle: float, length: float, breadth: float
) -> NDArray[np.float32]:
    """Opacity in [0, 1] of one layer of equal streaks, shape (H, W)."""
    coverage = rng.uniform(0.05, 0.18)
    density = coverage / (length * 2.0 * breadth)
    margin = math.ceil(length)
    shape = (height + 2 * margin, width + 2 * margin)
    drops = (rng.random(shape) < density) * rng.uniform(0.4, 1.0, shape)
    # Drops are thrown over a margin too, so that streaks enter from outside and the wrapped rim is cut off.
    kernel = _streak(angle, length, breadth, shape)
    layer = np.fft.irfft2(np.fft.rfft2(drops) * np.fft.rfft2(kernel), s=shape)
    inside = layer[margin : margin + height, margin : margin + width]
    return np.clip(inside, 0.0, 1.0).astype(np.float32)


def _streak(angle: float, length: float, breadth: float, shape: tuple[int, int]) -> NDArray[np.float64]:
    """One soft streak of peak 1 around the origin, wrapped as an FFT wants it; `breadth` is a standard deviation."""
    y = np.fft.fftfreq(shape[0], 1.0 / shape[0])[:, None]
    x = np.fft.fftfreq(shape[1], 1.0 / shape[1])[None, :]
    along = y * math.cos(angle) + x * math.sin(angle)
    across = x * math.cos(angle) - y * math.sin(angle)
    # Both ends fade out over a quarter of the length, as a moving drop's do.
    body = np.clip((0.5 * length - np.abs(along)) / (0.25 * length), 0.0, 1.0)
    return body * np.exp(-0.5 * np.square(across / breadth))
