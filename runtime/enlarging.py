"""Pictures enlarged before a restore, for networks that were trained so: bicubic as torch's `F.interpolate` has it.

The published code of super-resolution enlarges with `F.interpolate(scale_factor=s, mode="bicubic")` before the process
begins: cubic convolution with a = -0.75 (R. Keys, 1981), pixels' centres at halves, edges repeated, nothing clamped.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.update import Pixels

F32 = NDArray[np.float32]
A = -0.75
# Pixels on each side of a picture that its own rim is repeated into: a cubic looks at two on each side.
RIM = 2


def enlarged(pictures: Pixels, factor: int) -> F32:
    """Pictures `factor` times as high and as wide.

    Args:
        pictures: (N, H, W, C) uint8, or float32 in [0, 1].
        factor: at least 1.

    Returns:
        (N, factor H, factor W, C) float32 in picture units; a cubic reaches beyond [0, 1] beside an edge.
    """
    values = pictures.astype(np.float32) / np.float32(255 if pictures.dtype == np.uint8 else 1)
    return _along(_along(values, 2, factor), 1, factor)


def enlarged_levels(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """A picture (H, W) or (H, W, C), enlarged and rounded to 256 levels."""
    levels = np.rint(np.clip(enlarged(picture.reshape(1, *picture.shape[:2], -1), factor), 0, 1) * np.float32(255))
    return levels.astype(np.uint8).reshape(*(factor * side for side in picture.shape[:2]), *picture.shape[2:])


def enlarged_shape(shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """Of pictures (H, W, C) or (N, H, W, C) that are enlarged."""
    *count, height, width, channels = shape
    return (*count, factor * height, factor * width, channels)


def _along(values: F32, axis: int, factor: int) -> F32:
    """Enlarged along one axis: of each pixel as many as the factor says, each with weights of its own."""
    length = values.shape[axis]
    rim = [(RIM, RIM) if each == axis else (0, 0) for each in range(values.ndim)]
    padded = np.moveaxis(np.pad(values, rim, mode="edge"), axis, 0)
    made = np.empty((*values.shape[:axis], factor * length, *values.shape[axis + 1 :]), np.float32)
    target = np.moveaxis(made, axis, 0)
    for phase in range(factor):
        place = (phase + 0.5) / factor - 0.5
        first = math.floor(place) - 1 + RIM
        weights = _weights(place - math.floor(place))
        part = np.float32(weights[0]) * padded[first : first + length]
        for tap in range(1, 4):
            part += np.float32(weights[tap]) * padded[first + tap : first + tap + length]
        target[phase::factor] = part
    return made


def _weights(t: float) -> tuple[float, ...]:
    """Of the two pixels before a place and of the two after it, t behind the second, in [0, 1)."""

    def near(x: float) -> float:
        return ((A + 2) * x - (A + 3)) * x * x + 1

    def far(x: float) -> float:
        return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A

    return far(t + 1), near(t), near(1 - t), far(2 - t)
