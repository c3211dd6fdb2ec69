"""Hyper-parameters of a ConditionalUNet of IR-SDE or DA-CLIP, and the names of its parts. Knows no library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from mrs.runtime.errors import InputError

# The published norm over channels uses 1e-5 in float32 and 1e-3 in any other dtype; checkpoints are of float32.
NORM_EPS = 1e-5
# Of the transformers' norm over groups, and into how many groups it parts the channels.
GROUP_EPS, GROUPS = 1e-6, 32
# Heads of an attention without a transformer, and the channels of a head anywhere.
HEADS, HEAD = 4, 32
# Of a transformer's two hidden layers, per channel.
WIDENING = 4
# Keys are read with so many digits, and a checkpoint may claim any sizes.
MOST_LEVELS, MOST_CHANNELS = 9, 1 << 16
MIDDLES = ("linear", "softmax", "transformer")


class Live(NamedTuple):
    """Numbers alive at once for one pixel of a level, besides a linear attention's queries and keys.

    Attributes:
        outer, inner: per channel of the level and of the next.
        tokens: per channel of a transformer's tokens.
        around: per channel at full resolution, around a network of half of it.
    """

    outer: int
    inner: int
    tokens: int
    around: int


# Measured by `python -m benchmarks.experiments.memory`: docs/plan.md. Any other engine is taken to be as OpenVINO.
LIVE = Live(4, 1, 10, 6)
LIVE_ON = {"onnxruntime": Live(10, 10, 10, 10), "torch": Live(7, 7, 10, 7)}


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of a ConditionalUNet.

    IR-SDE's and DA-CLIP's networks of this name are one: they differ in how wide a level is and in what attends.

    Args:
        width: channels at full resolution, even and at least 4.
        widths: channels of each level, full resolution first, and of the middle: all levels but the last halve.
        channels: of the picture.
        condition: whether it is told of the degraded picture; IR-SDE's networks for noise are not.
        middle: its attention in the middle.
        transformers: of how many of the deepest levels the attention is a transformer's.
        context: length of the features of a picture that it is told, DA-CLIP's; 0 for none.
        prompt: whether features of the degradation are added to its time.
        half: whether it works at half the resolution, as the network for wild pictures does.

    Raises:
        InputError: for sizes that no network can have.
    """

    width: int
    widths: tuple[int, ...]
    channels: int = 3
    condition: bool = True
    middle: str = "linear"
    transformers: int = 0
    context: int = 0
    prompt: bool = False
    half: bool = False

    def __post_init__(self) -> None:
        # The time embedding is half sines and half cosines, and its frequencies need two points.
        if self.width < 4 or self.width % 2:
            raise InputError(f"width {self.width} is not an even number of at least 4")
        if not 1 <= self.levels <= MOST_LEVELS or self.widths[0] != self.width:
            raise InputError(
                f"levels of {self.widths} channels are of no network of width {self.width}",
                hint=f"give 1 to {MOST_LEVELS} levels and the middle, the first as wide as the network",
            )
        if not 1 <= self.channels <= MOST_CHANNELS or not 1 <= min(self.widths) <= max(self.widths) <= MOST_CHANNELS:
            raise InputError(f"{self.channels} channels or levels of {self.widths} are not of 1 to {MOST_CHANNELS}")
        if self.middle not in MIDDLES:
            raise InputError(f"an attention {self.middle!r} is unknown", hint=f"use one of {', '.join(MIDDLES)}")
        if not 0 <= self.transformers <= self.levels or (self.transformers and not self.image):
            raise InputError(f"{self.transformers} of {self.levels} levels cannot have transformers where "
                             f"the middle has {self.middle} attention")  # fmt: skip
        if self.image and any(channels % GROUPS for channels in self.widths[self.first_transformer :]):
            raise InputError(f"transformers of {self.widths[self.first_transformer :]} channels have no whole heads",
                             hint=f"use multiples of {GROUPS}")  # fmt: skip
        if (self.context > 0) != (self.image or self.prompt) or self.context < 0:
            raise InputError(f"a context of {self.context} numbers does not fit", hint="it is for prompts and images")

    @property
    def levels(self) -> int:
        """Number of resolutions, the lowest of which is the middle's too."""
        return len(self.widths) - 1

    @property
    def image(self) -> bool:
        """Whether it is told of the picture's features."""
        return self.middle == "transformer"

    @property
    def first_transformer(self) -> int:
        """The level from which on attention is a transformer's."""
        return self.levels - self.transformers

    @property
    def multiple(self) -> int:
        """Height and width are mirrored up to a multiple of this, twice what the halvings need, as published."""
        return 2**self.levels

    @property
    def bytes_per_pixel(self) -> int:
        """Memory of the activations for one pixel of a picture: of the level that needs most."""
        return self._bytes_per_pixel(LIVE)

    @property
    def bytes_per_pixel_on(self) -> dict[str, int]:
        """The same on engines that take more."""
        return {engine: self._bytes_per_pixel(live) for engine, live in LIVE_ON.items()}

    def _bytes_per_pixel(self, live: Live) -> int:
        inside = 0.0
        for level, (outer, inner) in enumerate(pairwise(self.widths)):
            tokens = live.tokens * inner if level >= self.first_transformer else 0
            inside = max(inside, (2 * HEADS * HEAD + live.outer * outer + live.inner * inner + tokens) / 4**level)
        return 4 * ceil(max(inside / 4, live.around * self.width) if self.half else inside)

    @property
    def bytes_per_pair(self) -> float:
        """Memory for each pair of pixels where an engine writes attention down: scores and weights of every head.

        Measured with ONNX Runtime, DA-CLIP's network of width 32 at 512x512: 1.1 GB beyond `bytes_per_pixel`.
        """
        if self.middle == "linear":
            return 0.0
        level = min(self.first_transformer, self.levels - 1)
        heads = self.widths[-1] // HEAD if self.image else HEADS
        return 2 * 4 * heads / 16 ** (level + self.half)

    @property
    def time(self) -> int:
        """Length of the embedded time."""
        return 4 * self.width

    @property
    def summary(self) -> str:
        """The hyper-parameters in a few words."""
        words = [f"width {self.width}, levels {','.join(map(str, self.widths[:-1]))}, middle {self.widths[-1]}"]
        if not self.condition:
            words.append("no condition")
        if self.middle != "linear":
            words.append(
                f"{self.middle} in the middle" + (f" and {self.transformers} levels" * bool(self.transformers))
            )
        if self.prompt:
            words.append("degradation prompt")
        if self.context:
            words.append(f"context {self.context}")
        if self.half:
            words.append("half resolution")
        return ", ".join(words)


def transformer_names(config: Config) -> Iterator[tuple[str, int]]:
    """State-dict prefix and channels of every transformer, in the order of execution."""
    if config.image:
        first, last = config.first_transformer, config.levels
        yield from ((f"downs.{level}.2.fn.fn", config.widths[level]) for level in range(first, last))
        yield "mid_attn.fn.fn", config.widths[-1]
        yield from ((f"ups.{i}.2.fn.fn", config.widths[last - i]) for i in range(config.transformers))


def block_names(config: Config) -> Iterator[tuple[str, int, int]]:
    """State-dict prefix and channels, in and out, of every residual block, in the order of execution."""
    for level, channels in enumerate(config.widths[:-1]):
        yield from ((f"downs.{level}.{i}", channels, channels) for i in range(2))
    yield from ((f"mid_block{i}", config.widths[-1], config.widths[-1]) for i in (1, 2))
    for up, level in enumerate(reversed(range(config.levels))):
        inner, outer = config.widths[level + 1], config.widths[level]
        yield from ((f"ups.{up}.{i}", inner + outer, inner) for i in range(2))
    yield "final_res_block", 2 * config.width, config.width
