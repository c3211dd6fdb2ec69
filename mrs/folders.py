"""Folders of pictures to learn or to calibrate from, as arrays of bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrs.runtime.pictures import SUFFIXES, read_picture


def paths_below(folder: Path) -> list[Path]:
    """The picture files below `folder`, sorted by path."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def read_bytes(path: Path) -> NDArray[np.uint8]:
    """A picture as (H, W, 3) uint8; 16-bit grey, which is read as floats in [0, 1], is rounded.

    Raises:
        PictureError: where it cannot be read.
    """
    rgb = read_picture(path).rgb
    return rgb if rgb.dtype == np.uint8 else np.rint(rgb * 255).astype(np.uint8)
