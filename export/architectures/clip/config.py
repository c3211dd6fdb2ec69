"""Hyper-parameters of DA-CLIP's image encoder, read from its weights, and the names and shapes of these."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping, Set
from dataclasses import dataclass

from torch import Tensor

from mrs.runtime.errors import CheckpointError, InputError

# CLIP's towers have heads of this width unless their makers said otherwise, and no weight tells.
HEAD_WIDTH = 64
HEADS_HINT = "give the number of heads that it was trained with"
NORM_EPS = 1e-5
# CLIP's own colours: mean and standard deviation of red, green and blue in [0, 1].
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
COLOURS = len(MEAN)
# The picture's tower and the one that finds its degradation; the blocks of each, and what joins them.
PICTURE, CONTROL = "visual", "visual_control"
BLOCKS = {PICTURE: "visual.transformer.resblocks", CONTROL: "visual_control.transformer.transformer.resblocks"}
JOINTS = "visual_control.transformer.zero_modules"
BLOCK = re.compile(rf"{re.escape(BLOCKS[CONTROL])}\.(\d{{1,3}})\.")


@dataclass(frozen=True)
class Encoder:
    """Hyper-parameters of both towers, which are alike.

    Args:
        width: of a token.
        layers: transformer blocks of each tower.
        patch: side of the square of pixels that a token is made of.
        side: of the pictures.
        length: of each of the two features.
        heads: of the attention.

    Raises:
        InputError: for sizes that no encoder can have.
    """

    width: int
    layers: int
    patch: int
    side: int
    length: int
    heads: int

    def __post_init__(self) -> None:
        _check_heads(self.width, self.heads)
        if min(self.width, self.layers, self.patch, self.side, self.length) < 1:
            raise InputError(f"an encoder of {self} has a size below 1")
        if self.side % self.patch:
            raise InputError(f"patches of {self.patch} do not divide a picture of {self.side}")

    @property
    def tokens(self) -> int:
        """One for each patch, and before them one that becomes the feature."""
        return (self.side // self.patch) ** 2 + 1

    @property
    def summary(self) -> str:
        """The hyper-parameters in a few words."""
        return f"width {self.width}, {self.layers} layers, {self.heads} heads, patches of {self.patch}"

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Keys and shapes of the weights, without making a module: what a file claims may be of any size."""
        w = self.width
        shapes: dict[str, tuple[int, ...]] = {}

        def layer(name: str, *shape: int) -> None:
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

        for tower, blocks in BLOCKS.items():
            shapes[f"{tower}.class_embedding"] = (w,)
            shapes[f"{tower}.positional_embedding"] = (self.tokens, w)
            shapes[f"{tower}.proj"] = (w, self.length)
            shapes[f"{tower}.conv1.weight"] = (w, COLOURS, self.patch, self.patch)
            layer(f"{tower}.ln_pre", w)
            layer(f"{tower}.ln_post", w)
            for name in (f"{blocks}.{index}" for index in range(self.layers)):
                layer(f"{name}.ln_1", w)
                shapes[f"{name}.attn.in_proj_weight"], shapes[f"{name}.attn.in_proj_bias"] = (3 * w, w), (3 * w,)
                layer(f"{name}.attn.out_proj", w, w)
                layer(f"{name}.ln_2", w)
                layer(f"{name}.mlp.c_fc", 4 * w, w)
                layer(f"{name}.mlp.c_proj", w, 4 * w)
        for index in range(self.layers):
            layer(f"{JOINTS}.{index}", w, w)
        return shapes


def needed(keys: Set[str]) -> set[str]:
    """Of a checkpoint's keys those that encode pictures, and those that no checkpoint has.

    The text tower and its logit scales are not needed. The picture's tower stands in it twice, as `visual` and as
    `clip.visual`, with the same numbers; the published loader ends with those of `visual`.
    """
    twice = any(key.startswith(f"{PICTURE}.") for key in keys)
    kept = {key for key in keys if not key.startswith("clip.") and key != "logit_scale"}
    return kept if twice else kept | {key for key in keys if key.startswith("clip.visual.")}


def is_encoder(keys: Container[str]) -> bool:
    """Whether keys are those of DA-CLIP's encoder."""
    return f"{CONTROL}.conv1.weight" in keys


def infer_encoder(state: Mapping[str, Tensor], heads: int | None = None, name: str = "checkpoint") -> Encoder:
    """Hyper-parameters from the shapes of weights.

    Args:
        state: a flat state dict.
        heads: of the attention; None for CLIP's own rule, the width by 64.
        name: of where it comes from, for errors.

    Raises:
        CheckpointError: for weights of anything else.
        InputError: for heads that do not divide the width.
    """
    wanted = {f"{CONTROL}.conv1.weight": 4, f"{CONTROL}.positional_embedding": 2, f"{CONTROL}.proj": 2}
    given = [state.get(key) for key in wanted]
    if any(value is None or value.ndim != rank for value, rank in zip(given, wanted.values(), strict=True)):
        raise CheckpointError(
            f"{name} is no DA-CLIP encoder: it lacks {', '.join(wanted)}",
            hint="give the file that DA-CLIP publishes as daclip_ViT-B-32.pt",
        )
    patches, positions, features = (value.shape for value in given if value is not None)
    width, across = patches[0], math.isqrt(max(positions[0] - 1, 0))
    if across**2 != positions[0] - 1:
        raise CheckpointError(f"{name} is no DA-CLIP encoder: {positions[0]} tokens are no square of patches and one")
    if heads is None and width % HEAD_WIDTH:
        raise InputError(f"the encoder's width of {width} is no multiple of {HEAD_WIDTH}", hint=HEADS_HINT)
    heads = max(1, width // HEAD_WIDTH) if heads is None else heads
    _check_heads(width, heads)
    numbers = {int(found[1]) for found in map(BLOCK.match, state) if found is not None}
    gap = next(index for index in range(len(numbers) + 1) if index not in numbers)
    try:
        return Encoder(width, gap, patches[3], across * patches[3], features[1], heads)
    except InputError as error:
        raise CheckpointError(f"{name} is no DA-CLIP encoder: {error.message}") from None


def _check_heads(width: int, heads: int) -> None:
    if heads < 1 or width % heads:
        raise InputError(f"{heads} heads do not divide the encoder's width of {width}", hint=HEADS_HINT)
