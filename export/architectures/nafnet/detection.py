"""Hyper-parameters of a ConditionalNAFNet from the names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from mrs.export.architectures.nafnet.config import Config
from mrs.runtime.errors import CheckpointError, InputError

# Where a key belongs. One digit for the level: channels double at each, so there are never ten.
BLOCK = re.compile(
    r"(?P<part>(?:(?:encoders|decoders|downs|ups)\.(?P<level>\d)|middle_blks))\.(?:(?P<block>\d{1,3})\.)?"
)
# Of which a network has one at least.
PARTS = ("time_mlp.", "encoders.", "middle_blks.", "decoders.")
# Of a picture; a latent has more.
COLOURS = 3


def infer_config(state: Mapping[str, Tensor], name: str = "checkpoint") -> Config | None:
    """Hyper-parameters; None for weights without the convolutions intro and ending, or without a part of the others.

    Raises:
        CheckpointError: where the others are those of no such network, or of one for stereo pairs.
    """
    intro, ending = state.get("intro.weight"), state.get("ending.weight")
    ours = any(key.startswith(PARTS) for key in state)
    if not ours or intro is None or ending is None or intro.ndim != 4 or ending.ndim != 4:
        return None
    if any(".fusion." in key for key in state):
        raise CheckpointError(
            f"{name} is a ConditionalNAFNet for stereo super-resolution, which is not supported",
            hint="networks for single pictures are",
        )
    numbers: dict[str, set[int]] = {}
    levels = 0
    for key in state:
        found = BLOCK.match(key)
        if found is not None and found["block"] is not None:
            numbers.setdefault(found["part"], set()).add(int(found["block"]))
        if found is not None and found["level"] is not None:
            # A level may have no block, but it has its resampling convolutions.
            levels = max(levels, int(found["level"]) + 1)
    try:
        return Config(
            width=intro.shape[0],
            enc_blocks=tuple(_count(numbers, f"encoders.{level}") for level in range(levels)),
            mid_blocks=_count(numbers, "middle_blks"),
            dec_blocks=tuple(_count(numbers, f"decoders.{level}") for level in range(levels)),
            channels=ending.shape[0],
        )
    except InputError as error:
        raise CheckpointError(f"{name} is no ConditionalNAFNet: {error.message}") from None


def infer_traits(state: Mapping[str, Tensor]) -> tuple[bool, bool, bool]:
    """`condition`, `outer_skip` and `lensed` of the network that `infer_config` found.

    The network that dehazes latents has the very keys and shapes of the plain one: only that a latent has more channels
    than a picture tells it.
    """
    lensed = any(key.startswith("cam_mlp.") for key in state)
    channels = state["ending.weight"].shape[0]
    # Whatever else is not twice the picture's channels is told of as misshapen.
    condition = state["intro.weight"].shape[1] != channels
    return condition, condition and not lensed and channels > COLOURS, lensed


def _count(numbers: Mapping[str, set[int]], part: str) -> int:
    """Blocks of one part, numbered from 0 without gaps; so that a file cannot claim more blocks than it has keys."""
    found = numbers.get(part, set())
    gap = next(index for index in range(len(found) + 1) if index not in found)
    if gap < len(found):
        raise CheckpointError(f"every weight of {part}.{gap} is missing")
    return gap
