"""LPIPS (Zhang et al., 2018, arXiv 1801.03924): distance of two pictures' features in AlexNet, as eyes weigh them.

Version 0.1 with linear heads, the one that papers on restoration give. Its weights cannot be shipped: they are
torchvision's AlexNet trained on ImageNet (Krizhevsky 2014, arXiv 1404.5997), and heads that the package `lpips` brings.
One file holds both:

    python -c "import lpips, torch; torch.save(lpips.LPIPS(net='alex').state_dict(), 'lpips.pth')"
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrs.benchmarking.quality.perceptual import tensor
from mrs.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

U8 = NDArray[np.uint8]

# Of the five convolutions: key, stride, padding, and whether a maximum over 3x3, stride 2, comes before it.
LAYERS = (
    ("net.slice1.0", 4, 2, False),
    ("net.slice2.3", 1, 2, True),
    ("net.slice3.6", 1, 1, True),
    ("net.slice4.8", 1, 1, False),
    ("net.slice5.10", 1, 1, False),
)
SHAPES = {
    "net.slice1.0": (64, 3, 11, 11),
    "net.slice2.3": (192, 64, 5, 5),
    "net.slice3.6": (384, 192, 3, 3),
    "net.slice4.8": (256, 384, 3, 3),
    "net.slice5.10": (256, 256, 3, 3),
}
# Of ImageNet, for pictures in [-1, 1], as the published code has them.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPSILON = 1e-10
HINT = "make the file with: python -c \"import lpips, torch; torch.save(lpips.LPIPS(net='alex').state_dict(), 'FILE')\""


def read(path: Path) -> Callable[[U8, U8], dict[str, float]]:
    """What measures two pictures (H, W, 3) uint8 of at least 32 pixels a side, as `lpips`.

    Args:
        path: the state dict of `lpips.LPIPS(net="alex")`, a `.pth` or `.safetensors` file. Nothing in it is run.

    Raises:
        CheckpointError: for a file that cannot be read, or holds other weights.
    """
    import torch

    from mrs.export.checkpoint import read_checkpoint

    expected: dict[str, tuple[int, ...]] = {f"{key}.weight": shape for key, shape in SHAPES.items()}
    expected |= {f"{key}.bias": shape[:1] for key, shape in SHAPES.items()}
    expected |= {f"lin{i}.model.1.weight": (1, shape[0], 1, 1) for i, shape in enumerate(SHAPES.values())}
    # The package's own file has its heads under two names.
    state = read_checkpoint(path, lambda keys: keys & expected.keys()).state
    for key, shape in expected.items():
        found = tuple(state[key].shape) if key in state else None
        if found != shape:
            said = "lacks it" if found is None else f"has {found}"
            raise CheckpointError(f"{path} holds no weights of LPIPS: {key} is {shape}, the file {said}", hint=HINT)

    def measured(picture: U8, clean: U8) -> dict[str, float]:
        with torch.inference_mode():
            return {"lpips": _distance(state, tensor(picture), tensor(clean))}

    return measured


def _distance(state: dict[str, Tensor], picture: Tensor, clean: Tensor) -> float:
    total = 0.0
    for i, (one, other) in enumerate(zip(_features(state, picture), _features(state, clean), strict=True)):
        square = (one - other).square()
        total += float((square * state[f"lin{i}.model.1.weight"]).sum(dim=1).mean())
    return total


def _features(state: dict[str, Tensor], picture: Tensor) -> list[Tensor]:
    """After each convolution, of length 1 at each place."""
    import torch
    import torch.nn.functional as F

    shift, scale = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (SHIFT, SCALE))
    x, found = (2 * picture - 1 - shift) / scale, []
    for key, stride, padding, pooled in LAYERS:
        if pooled:
            x = F.max_pool2d(x, 3, 2)
        x = F.relu(F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], stride, padding))
        found.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + EPSILON))
    return found
