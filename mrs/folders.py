"""Folders of pictures to learn or to calibrate from, as arrays of bytes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrs.runtime.errors import InputError
from mrs.runtime.pictures.folders import search
from mrs.runtime.pictures.writing import read_picture

log = logging.getLogger("mrs")


def paths_below(folder: Path) -> list[Path]:
    """The picture files below `folder`, without hidden ones, sorted by path. What cannot be read is told to the log.

    Raises:
        InputError: where `folder` cannot be listed.
    """
    try:
        found = search(folder)
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}", hint="check its permissions") from None
    for _, problem in found.unreadable:
        log.warning("%s", problem)
    return [source for source, _ in found.pictures]


def read_bytes(path: Path) -> NDArray[np.uint8]:
    """A picture as (H, W, 3) uint8; 16-bit grey, which is read as floats in [0, 1], is rounded.

    Raises:
        PictureError: where it cannot be read.
    """
    rgb = read_picture(path).rgb
    return (rgb if rgb.dtype == np.uint8 else np.rint(rgb * 255)).astype(np.uint8, copy=False)
