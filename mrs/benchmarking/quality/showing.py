"""Pictures for a report: small files of what was degraded, restored and clean, and of a solver's states."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mrs.benchmarking.results import Picture

U8 = NDArray[np.uint8]

# A report holds them all; it must open on a phone.
MOST_BYTES = 1_000_000
MOST_SIDE, STATE_SIDE = 512, 256
QUALITIES = (90, 80, 65, 50, 35, 20)


@dataclass(frozen=True)
class Shown:
    """A picture before it is a file.

    Attributes:
        name, role, step: as in `Picture`.
        levels: (H, W, 3) uint8.
    """

    name: str
    role: str
    levels: U8
    step: int | None = None


def middle(picture: U8, side: int) -> U8:
    """What of a picture is shown: its middle, pixel by pixel, for made smaller it would hide what a restore does."""
    height, width = picture.shape[:2]
    y, x = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return picture[y : y + side, x : x + side]


def files(pictures: Sequence[Shown], most_bytes: int = MOST_BYTES) -> tuple[Picture, ...]:
    """WebP files of at most so many bytes together, at one quality, the best that fits; the last are left out where
    none does."""
    for quality in QUALITIES:
        made = [_webp(each.levels, quality) for each in pictures]
        if sum(map(len, made)) <= most_bytes:
            break
    found, total = [], 0
    for each, data in zip(pictures, made, strict=True):
        total += len(data)
        if total > most_bytes:
            break
        height, width = each.levels.shape[:2]
        found.append(Picture(
            name=each.name, role=each.role, step=each.step, media_type="image/webp", height=height, width=width,
            data=data,
        ))  # fmt: skip
    return tuple(found)


def _webp(levels: U8, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels)).save(stream, "WEBP", quality=quality, method=4)
    return stream.getvalue()
