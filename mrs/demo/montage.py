"""Pictures side by side with labels, and an enlarged detail of each below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GAP = 8
LABEL = 28
ENLARGED = 4


def montage(pictures: Sequence[tuple[str, NDArray[np.uint8]]], corner: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw pictures in a row, each under its label and over a detail of itself.

    Args:
        pictures: labels and (H, W, 3) uint8 of one size.
        corner: (y, x) of the detail's upper left corner. The detail is a quarter as high and as wide as the picture
            and is enlarged four times, so that its pixels can be seen.

    Returns:
        (height, width, 3) uint8.
    """
    rows, columns = pictures[0][1].shape[:2]
    high, wide = rows // ENLARGED, columns // ENLARGED
    y, x = corner
    sheet = Image.new("RGB", (len(pictures) * (columns + GAP) - GAP, LABEL + rows + GAP + high * ENLARGED), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(LABEL * 2 // 3)
    for i, (label, picture) in enumerate(pictures):
        left = i * (columns + GAP)
        draw.text((left + columns // 2, LABEL // 2), label, "black", font, anchor="mm")
        sheet.paste(Image.fromarray(picture), (left, LABEL))
        draw.rectangle((left + x - 1, LABEL + y - 1, left + x + wide, LABEL + y + high), outline="white")
        detail = Image.fromarray(picture[y : y + high, x : x + wide])
        enlarged = detail.resize((wide * ENLARGED, high * ENLARGED), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (left, LABEL + rows + GAP))
    return np.asarray(sheet)
