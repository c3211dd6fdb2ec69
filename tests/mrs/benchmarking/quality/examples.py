"""Two pictures whose metrics other libraries have measured, and what to measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mrs.benchmarking.quality.wanted import Wanted

U8 = NDArray[np.uint8]


def pair() -> tuple[U8, U8]:
    """A smooth picture, (64, 80, 3), with noise and without."""
    y, x = np.mgrid[:64, :80].astype(np.float64)
    clean = np.stack([127 + 90 * np.sin(x / 9) * np.cos(y / 7), 3 * x, 255 - 2.5 * y], -1)
    levels = np.rint(np.clip(clean, 0, 255)).astype(np.uint8)
    noise = np.random.default_rng(0).integers(-20, 21, clean.shape)
    return np.clip(levels + noise, 0, 255).astype(np.uint8), levels


def save(path: Path, levels: U8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path)
    return path


def random(height: int = 40, width: int = 36, seed: int = 0) -> U8:
    """Blocks of four pixels, so that something of it is left when it is made smaller."""
    blocks = np.random.default_rng(seed).integers(0, 256, (-(-height // 4), -(-width // 4), 3), np.uint8)
    return blocks.repeat(4, 0).repeat(4, 1)[:height, :width]


def wanted(data: Path, **more: Any) -> Wanted:
    return Wanted(data=data, **more)
