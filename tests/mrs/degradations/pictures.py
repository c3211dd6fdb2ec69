"""Photographs to degrade, and how far two pictures are apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage import data

Picture = NDArray[np.float32]

CROP = (slice(40, 168), slice(100, 260))


def natural(name: str) -> Picture:
    """The middle of a photograph of scikit-image, in [0, 1]."""
    return getattr(data, name)()[CROP].astype(np.float32) / np.float32(255)


def psnr(a: Picture, b: Picture) -> float:
    """In dB."""
    return float(-10 * np.log10(np.mean(np.square(a.astype(np.float64) - b))))
