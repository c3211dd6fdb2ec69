"""PSNR and SSIM as papers on restoration define them, on RGB and on luma.

The conventions are those of BasicSR (github.com/XPixelGroup/BasicSR, `basicsr/metrics/psnr_ssim.py`), which the tables
of IR-SDE, Refusion and most others follow, and which come from the Matlab code of the SSIM's authors: 8-bit levels with
255 as the peak; a border that does not count; Y of BT.601 in 16 to 235, not rounded; SSIM (Wang et al., 2004,
doi 10.1109/TIP.2003.819861) with a Gaussian window of 11 pixels and sigma 1.5, only where the window lies wholly in the
picture, K1 0.01, K2 0.03, and variances that divide by the weights' sum, averaged over the channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrs.runtime.psnr import psnr

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
# R, G and B of 0 to 255 to Y of 16 to 235.
LUMA = np.array([65.481, 128.553, 24.966]) / 255
# In place of infinity for equal pictures, which no mean and no JSON could hold.
MOST_DB = 100.0


@dataclass(frozen=True)
class Metric:
    """How a metric is read.

    Attributes:
        label: its name, with the unit.
        higher_is_better: whether it is.
        digits: behind the point, where it is printed.
    """

    label: str
    higher_is_better: bool
    digits: int


METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR dB", True, 2),
    "ssim": Metric("SSIM", True, 4),
    "psnr_y": Metric("PSNR-Y dB", True, 2),
    "ssim_y": Metric("SSIM-Y", True, 4),
    "haarpsi": Metric("HaarPSI", True, 4),
    "fsim": Metric("FSIMc", True, 4),
    "gmsd": Metric("GMSD", False, 4),
    "lpips": Metric("LPIPS", False, 4),
}
"""By the names under which results hold them."""


def fidelity(picture: U8, clean: U8) -> dict[str, float]:
    """psnr and psnr_y in dB, at most `MOST_DB`, and ssim and ssim_y.

    Args:
        picture, clean: (H, W, 3) uint8, at least 11 pixels high and wide, without the border that does not count.
    """
    lumas = luma(picture), luma(clean)
    return {
        "psnr": min(psnr(picture, clean), MOST_DB),
        "ssim": ssim(picture, clean),
        "psnr_y": min(psnr(lumas[0] / 255, lumas[1] / 255), MOST_DB),
        "ssim_y": ssim(*lumas),
    }


def luma(picture: U8) -> F64:
    """Y of BT.601, (H, W) in 16 to 235, of RGB (H, W, 3) uint8."""
    return picture @ LUMA + 16


def ssim(picture: U8 | F64, clean: U8 | F64) -> float:
    """SSIM of (H, W, C) or (H, W) in 0 to 255: the mean over channels and places."""
    x, y = picture.astype(np.float64), clean.astype(np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    square_x, square_y, product = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
    variance_x, variance_y = _blurred(x * x) - square_x, _blurred(y * y) - square_y
    covariance = _blurred(x * y) - product
    numerator = (2 * product + C1) * (2 * covariance + C2)
    denominator = (square_x + square_y + C1) * (variance_x + variance_y + C2)
    return float(np.mean(numerator / denominator))


def _blurred(values: F64) -> F64:
    """Means under the window, along both sides, where it lies inside."""
    places = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(places**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    for axis in (0, 1):
        length = values.shape[axis] - WINDOW + 1
        moved = np.moveaxis(values, axis, 0)
        blurred = weights[0] * moved[:length]
        for place in range(1, WINDOW):
            blurred += weights[place] * moved[place : place + length]
        values = np.moveaxis(blurred, 0, axis)
    return values
