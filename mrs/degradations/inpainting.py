"""Missing strokes: free-form thin masks, filled with white as DA-CLIP's `uncompleted` task is (Algolzw/daclip-uir,
`deg_util.py`: `mask I + 1 - mask`). Strokes are bent lines as of arXiv 1806.03589 (algorithm 1), about as wide and as
long as LaMa's thin masks (up to 10 wide, 40 between bends), in pixels, whatever the size of the picture.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mrs.degradations.severity import between, resolve

# Part of the picture that is missing, and the widest stroke, at severity 0 and 1.
COVERAGE = (0.03, 0.25)
WIDEST = (3.0, 9.0)
THINNEST = 2.0
# Length of a stroke between two bends, and how many such parts it has at most.
LENGTH = (8.0, 40.0)
PARTS = 4


def inpainting(
    picture: NDArray[np.float32], rng: np.random.Generator, severity: float | None = None
) -> NDArray[np.float32]:
    """Take strokes out of a picture.

    Args:
        picture: (H, W, 3) float32 in [0, 1].
        rng: source of everything random: the strokes.
        severity: from 0 (3 % missing, strokes 2 to 3 pixels wide) to 1 (25 %, 2 to 9 pixels); None draws it.

    Returns:
        (H, W, 3) float32 in [0, 1]: 1 where the picture is missing, at one place at least, and unchanged elsewhere.

    Raises:
        InputError: where the severity is outside [0, 1].
    """
    severity = resolve(severity, rng)
    height, width = picture.shape[:2]
    missing = mask(rng, height, width, between(*COVERAGE, severity), between(*WIDEST, severity))
    return np.where(missing[:, :, None], np.float32(1), picture).astype(np.float32)


def mask(rng: np.random.Generator, height: int, width: int, coverage: float, widest: float) -> NDArray[np.bool_]:
    """Where a picture is missing, (H, W)."""
    image = Image.new("1", (width, height))
    draw = ImageDraw.Draw(image)
    margin = LENGTH[0]
    stroke = (1 + PARTS) / 2 * sum(LENGTH) / 2 * (THINNEST + widest) / 2
    count = -math.log1p(-coverage) * (height + 2 * margin) * (width + 2 * margin) / stroke
    for index in range(1 + rng.poisson(count)):
        # The first starts in the picture, the others around it too.
        around = 0 if index == 0 else margin
        x, y = rng.uniform(-around, width + around), rng.uniform(-around, height + around)
        breadth = max(1, round(rng.uniform(THINNEST, widest)))
        angle = rng.uniform(0, 2 * math.pi)
        points = [(x, y)]
        for _ in range(rng.integers(1, PARTS + 1)):
            length = rng.uniform(*LENGTH)
            x, y = x + length * math.cos(angle), y + length * math.sin(angle)
            points.append((x, y))
            angle += rng.normal(0, 0.8)
        draw.line(points, fill=1, width=breadth, joint="curve")
    missing = np.array(image)
    if not missing.any():
        missing[rng.integers(height), rng.integers(width)] = True
    return missing
