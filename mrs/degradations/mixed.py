"""One of the ten degradations, drawn anew for each picture: what a network for all of them is trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mrs.degradations.haze import haze
from mrs.degradations.inpainting import inpainting
from mrs.degradations.jpeg import jpeg
from mrs.degradations.low_light import low_light
from mrs.degradations.motion_blur import motion_blur
from mrs.degradations.noise import noise
from mrs.degradations.rain import rain
from mrs.degradations.raindrop import raindrop
from mrs.degradations.shadow import shadow
from mrs.degradations.snow import snow

Degradation = Callable[..., NDArray[np.float32]]

TASKS: dict[str, Degradation] = {
    "motion-blur": motion_blur,
    "haze": haze,
    "jpeg": jpeg,
    "low-light": low_light,
    "noise": noise,
    "raindrop": raindrop,
    "rain": rain,
    "shadow": shadow,
    "snow": snow,
    "inpainting": inpainting,
}
"""The ten tasks of MR Sampler and DA-CLIP, in their order."""

_NAMES = tuple(TASKS)


def pick(rng: np.random.Generator) -> str:
    """One of the ten names, each as likely as any other."""
    return _NAMES[rng.integers(len(_NAMES))]


def mixed(picture: NDArray[np.float32], rng: np.random.Generator, severity: float | None = None) -> NDArray[np.float32]:
    """One of the ten, drawn.

    Args:
        picture: (H, W, 3) float32 in [0, 1].
        rng: source of everything random.
        severity: of what is drawn; None draws it too.

    Returns:
        (H, W, 3) float32 in [0, 1].

    Raises:
        InputError: where the severity is outside [0, 1].
    """
    return TASKS[pick(rng)](picture, rng, severity)
