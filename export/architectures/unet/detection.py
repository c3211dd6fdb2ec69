"""Hyper-parameters of a ConditionalUNet from the names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from mrs.export.architectures.unet.config import Config
from mrs.runtime.errors import CheckpointError, InputError

LEVEL = re.compile(r"(downs|ups)\.(\d)\.")
# Convolutions that every network of this kind has.
OURS = ("init_conv.weight", "final_conv.weight", "mid_block1.block1.proj.weight")


def infer_config(state: Mapping[str, Tensor], name: str = "checkpoint") -> Config | None:
    """Hyper-parameters; None for weights without this kind's convolutions, or without a network of time.

    Raises:
        CheckpointError: where they are those of no such network, or of one for stereo pairs.
    """
    if not all(_is_conv(state, key) for key in OURS) or not any(key.startswith("time_mlp.") for key in state):
        return None
    if any(key.startswith("mid_fusion.") for key in state):
        raise CheckpointError(
            f"{name} is a ConditionalUNet for stereo super-resolution, which is not supported",
            hint="networks for single pictures are",
        )
    levels = {int(found[2]) for key in state if (found := LEVEL.match(key)) is not None}
    gap = next(index for index in range(len(levels) + 1) if index not in levels)
    if gap < len(levels):
        raise CheckpointError(f"{name} is no ConditionalUNet: every weight of downs.{gap} and ups.{gap} is missing")
    try:
        return _config(state, gap)
    except InputError as error:
        raise CheckpointError(f"{name} is no ConditionalUNet: {error.message}") from None


def _config(state: Mapping[str, Tensor], levels: int) -> Config:
    """What the shapes say; where a weight is missing the keys that follow from this will tell which."""
    init, final, middle = (state[key] for key in OURS)
    channels = [_side(state, f"downs.{level}.0.block1.proj.weight", 0) for level in range(levels)]
    attends = [any(key.startswith(f"downs.{level}.2.fn.fn.transformer_blocks.") for key in state)
               for level in range(levels)]  # fmt: skip
    image = any(key.startswith("mid_attn.fn.fn.transformer_blocks.") for key in state)
    prompt = "prompt" in state
    told = "text_mlp.0.weight" if prompt else "mid_attn.fn.fn.transformer_blocks.0.attn2.to_v.weight"
    return Config(
        width=init.shape[0],
        widths=(*channels, middle.shape[0]),
        channels=final.shape[0],
        # Whatever else is not twice the picture's channels is told of as misshapen.
        condition=init.shape[1] != final.shape[0],
        middle="transformer" if image else "softmax" if "mid_attn.fn.fn.to_out.weight" in state else "linear",
        transformers=sum(attends),
        context=_side(state, told, 1) if prompt or image else 0,
        prompt=prompt,
        half="downsample.weight" in state,
    )


def _is_conv(state: Mapping[str, Tensor], key: str) -> bool:
    return key in state and state[key].ndim == 4


def _side(state: Mapping[str, Tensor], key: str, axis: int) -> int:
    """One side of a weight.

    Raises:
        InputError: where it is missing, or has no such side.
    """
    if key not in state or state[key].ndim <= axis:
        raise InputError(f"{key} is missing" if key not in state else f"{key} has {state[key].ndim} axes")
    return state[key].shape[axis]
