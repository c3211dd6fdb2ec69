"""JPEG as Pillow writes it, 4:2:0; DA-CLIP's `jpeg-compressed` task has quality 10 (arXiv 2310.01018)."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mrs.degradations.severity import between, resolve

# Factor of the standard's quantisation steps in percent, which libjpeg takes to be 5000 / quality below quality 50.
STEPS = (125.0, 875.0)


def quality_of(severity: float) -> int:
    """JPEG's quality: 40 at severity 0, 10 at 0.5, 6 at 1, so that quantisation steps grow evenly."""
    return round(5000 / between(*STEPS, severity))


def jpeg(picture: NDArray[np.float32], rng: np.random.Generator, severity: float | None = None) -> NDArray[np.float32]:
    """Compress a picture and decompress it.

    Args:
        picture: (H, W, 3) float32 in [0, 1]; it is rounded to 8 bits.
        rng: source of the severity where none is given; nothing else is random.
        severity: from 0 (quality 40) to 1 (quality 6); None draws it.

    Returns:
        (H, W, 3) float32 in [0, 1].

    Raises:
        InputError: where the severity is outside [0, 1].
    """
    quality = quality_of(resolve(severity, rng))
    file = io.BytesIO()
    Image.fromarray(np.rint(picture * np.float32(255)).astype(np.uint8)).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image, np.float32) / np.float32(255)
