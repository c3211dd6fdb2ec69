"""Hyper-parameters of the latent pair's UNet, read from its weights, and the names and shapes of these."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from torch import Tensor

from mrs.export.architectures.unet.config import HEAD, HEADS
from mrs.runtime.errors import CheckpointError, InputError

LEVEL = re.compile(r"(encoder|decoder)\.(\d)\.")
# As of a level's number: a checkpoint may claim any sizes.
MOST_LEVELS, MOST_CHANNELS = 9, 1 << 16
# Activations alive at once, in channels of float32 per channel of a level and of the next one, besides the hidden
# states, which are all kept. Measured on the published pairs: docs/plan.md.
LIVE = 9
# Convolutions that tell the hyper-parameters, and no other network has.
OURS = ("init_conv.weight", "latent_conv.weight", "post_latent_conv.weight")


@dataclass(frozen=True)
class Autoencoder:
    """Hyper-parameters of a UNet that makes latents of pictures and pictures of latents.

    Args:
        widths: channels of each level, full resolution first, and of what latents are made of: all levels but the last
            halve.
        latent: channels of a latent.
        channels: of a picture.

    Raises:
        InputError: for sizes that no network can have.
    """

    widths: tuple[int, ...]
    latent: int
    channels: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= MOST_LEVELS:
            raise InputError(f"{self.levels} levels are not of 1 to {MOST_LEVELS}")
        sizes = (*self.widths, self.latent, self.channels)
        if not 1 <= min(sizes) <= max(sizes) <= MOST_CHANNELS:
            raise InputError(f"channels of {', '.join(map(str, sizes))} are not of 1 to {MOST_CHANNELS}")

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.widths) - 1

    @property
    def multiple(self) -> int:
        """Height and width are mirrored up to a multiple of this: twice the least that would do, as published."""
        return 2**self.levels

    @property
    def scale(self) -> int:
        """By which a latent's sides are smaller than those of the mirrored picture."""
        return 2 ** (self.levels - 1)

    @property
    def hidden(self) -> tuple[tuple[int, int], ...]:
        """Of each hidden state its channels, and by which its sides are smaller than those of the mirrored picture."""
        levels = [(self.widths[level], 2**level) for level in range(self.levels)]
        return (levels[0], *(each for each in levels for _ in range(2)))

    @property
    def bytes_per_pixel(self) -> int:
        """Memory for one pixel of a picture: of the hidden states, and of the level that needs most."""
        inside = max(sum(pair) / 4**level for level, pair in enumerate(pairwise(self.widths)))
        return 4 * ceil(LIVE * inside + sum(channels / by**2 for channels, by in self.hidden))

    @property
    def summary(self) -> str:
        """The hyper-parameters in a few words."""
        return f"widths {', '.join(map(str, self.widths))}, latents of {self.latent} channels"

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Keys and shapes of the weights, without making a module: what a file claims may be of any size."""
        first, last, top = self.widths[0], self.widths[-1], self.levels - 1
        shapes: dict[str, tuple[int, ...]] = {
            "init_conv.weight": (first, self.channels, 3, 3), "latent_conv.weight": (self.latent, last, 1, 1),
            "post_latent_conv.weight": (last, self.latent, 1, 1), "final_conv.weight": (self.channels, first, 3, 3),
            "final_conv.bias": (self.channels,),
        }  # fmt: skip

        def block(name: str, channels: int, made: int) -> None:
            shapes[f"{name}.block1.proj.weight"] = (made, channels, 3, 3)
            shapes[f"{name}.block2.proj.weight"] = (made, made, 3, 3)
            if channels != made:
                shapes[f"{name}.res_conv.weight"] = (made, channels, 1, 1)

        def attention(name: str, c: int) -> None:
            hidden = HEADS * HEAD
            shapes[f"{name}.fn.fn.to_qkv.weight"] = (3 * hidden, c, 1, 1)
            shapes[f"{name}.fn.fn.to_out.0.weight"], shapes[f"{name}.fn.fn.to_out.0.bias"] = (c, hidden, 1, 1), (c,)
            shapes[f"{name}.fn.fn.to_out.1.g"] = shapes[f"{name}.fn.norm.g"] = (1, c, 1, 1)

        def resampling(name: str, channels: int, made: int, side: int, bias: bool) -> None:
            shapes[f"{name}.weight"] = (made, channels, side, side)
            if bias:
                shapes[f"{name}.bias"] = (made,)

        for level in range(self.levels):
            outer, inner = self.widths[level : level + 2]
            down, up = f"encoder.{level}", f"decoder.{top - level}"
            for index in range(2):
                block(f"{down}.{index}", outer, outer)
                block(f"{up}.{index}", outer + inner, inner)
            if level == top:
                attention(f"{down}.2", outer)
                attention(f"{up}.2", inner)
            resampling(f"{down}.3", outer, inner, 3 if level == top else 4, level < top)
            resampling(f"{up}.3.1" if level else f"{up}.3", inner, outer, 3, level > 0)
        return shapes


def is_autoencoder(keys: Container[str]) -> bool:
    """Whether keys are those of such a UNet."""
    return all(key in keys for key in OURS[1:])


def infer_autoencoder(state: Mapping[str, Tensor], name: str = "checkpoint") -> Autoencoder:
    """Hyper-parameters from the shapes of weights.

    Raises:
        CheckpointError: for weights of anything else.
    """
    lacking = [key for key in OURS if key not in state or state[key].ndim != 4]
    if lacking:
        raise CheckpointError(
            f"{name} is no autoencoder of a latent pair: it lacks {', '.join(lacking)}",
            hint="give the file that Refusion publishes beside its network for latents",
        )
    levels = {int(found[2]) for key in state if (found := LEVEL.match(key)) is not None}
    gap = next(index for index in range(len(levels) + 1) if index not in levels)
    inner = [state.get(f"encoder.{level}.3.weight") for level in range(gap)]
    # A level whose convolution is missing is told of by name, whatever it is taken to be.
    widths = [state[OURS[0]].shape[0]]
    for weight in inner:
        widths.append(widths[-1] if weight is None or weight.ndim != 4 else weight.shape[0])
    try:
        return Autoencoder(tuple(widths), state[OURS[1]].shape[0], state[OURS[0]].shape[1])
    except InputError as error:
        raise CheckpointError(f"{name} is no autoencoder of a latent pair: {error.message}") from None
