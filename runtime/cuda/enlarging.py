"""Tensors enlarged before a restore: what `runtime/enlarging.py` does to arrays."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def enlarged(pictures: Tensor, factor: int) -> Tensor:
    """Dense pictures (N, H, W, C), uint8 or float32 in [0, 1], as dense (N, factor H, factor W, C) float32.

    On the current stream. Nothing is clamped.
    """
    with torch.no_grad():
        planes = pictures.permute(0, 3, 1, 2).float()
        planes = planes / 255 if pictures.dtype == torch.uint8 else planes
        large = F.interpolate(planes, scale_factor=factor, mode="bicubic", align_corners=False)
        return large.permute(0, 2, 3, 1).contiguous()
