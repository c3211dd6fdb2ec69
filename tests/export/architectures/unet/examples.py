"""What published networks were given: tests/golden/README.md."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.golden.networks import golden

CONDITIONED = [
    "irsde_unet_d2", "irsde_unet_d4", "daclip_unet_full", "daclip_unet_degra", "daclip_unet_none", "daclip_unet_wild",
]  # fmt: skip
NAMES = [*CONDITIONED, "unet_denoising"]


def tensor(name: str, key: str) -> Tensor:
    return torch.tensor(golden(name)[key])


def pictures(name: str, which: str) -> list[Tensor]:
    """The state, and the degraded picture where there is one."""
    return [tensor(name, f"{key}_{which}") for key in ("xt", "cond") if f"{key}_{which}" in golden(name)]


def contexts(name: str, which: str, without: str = "") -> dict[str, Tensor]:
    """The features that the published code was given; a network that has no use for them leaves them alone."""
    kinds = [kind for kind in ("text", "image") if without not in (f"_{kind}_none", "_both_none")]
    found = golden(name).keys() & {f"{kind}_context_{which}" for kind in kinds}
    return {key.removesuffix(f"_{which}"): tensor(name, key) for key in sorted(found)}
