"""Hyper-parameters of a ConditionalNAFNet, and the names and shapes of its weights. Knows no library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mrs.runtime.errors import InputError

# The published norm uses 1e-5 in float32 and 1e-3 in any other dtype, so that casting the network changes its
# function. Every checkpoint was trained in float32: pin its value.
NORM_EPS = 1e-5
# Channels double at each level, so there are never ten; names of blocks are read with so many digits.
MOST_LEVELS, MOST_BLOCKS = 9, 999
# Activations alive at once at full resolution, in channels of float32 per channel of width. Measured: docs/plan.md.
LIVE_CHANNELS = 10


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of a ConditionalNAFNet.

    Args:
        width: channels at full resolution, even and at least 4; they double at each level.
        enc_blocks: blocks per encoder level, full resolution first; a level may have none.
        mid_blocks: blocks at the lowest resolution.
        dec_blocks: blocks per decoder level, lowest resolution first; as many levels as `enc_blocks`.
        channels: channels of the picture.

    Attributes:
        condition: whether it is told of the degraded picture; the denoising network is not.
        outer_skip: whether what the first convolution makes is added before the last one.
        lensed: whether it is told of two lenses and the disparity.

    Raises:
        InputError: for sizes that no network can have.
    """

    condition: ClassVar[bool] = True
    outer_skip: ClassVar[bool] = False
    lensed: ClassVar[bool] = False

    width: int
    enc_blocks: tuple[int, ...]
    mid_blocks: int
    dec_blocks: tuple[int, ...]
    channels: int = 3

    def __post_init__(self) -> None:
        # The time embedding is half sines and half cosines, and its frequencies need two points.
        if self.width < 4 or self.width % 2:
            raise InputError(f"width {self.width} is not an even number of at least 4")
        if self.channels < 1:
            raise InputError(f"channels {self.channels} is not positive")
        if len(self.enc_blocks) != len(self.dec_blocks):
            raise InputError(
                f"the encoder has {len(self.enc_blocks)} levels and the decoder {len(self.dec_blocks)}",
                hint="give both as many block counts",
            )
        if self.levels > MOST_LEVELS or max((*self.enc_blocks, self.mid_blocks, *self.dec_blocks)) > MOST_BLOCKS:
            raise InputError(
                f"a network of {self.levels} levels and up to "
                f"{max((*self.enc_blocks, self.mid_blocks, *self.dec_blocks))} blocks each is too large",
                hint=f"use at most {MOST_LEVELS} levels and {MOST_BLOCKS} blocks",
            )
        if min((*self.enc_blocks, self.mid_blocks, *self.dec_blocks)) < 0:
            raise InputError(
                f"block counts {self.enc_blocks}, {self.mid_blocks}, {self.dec_blocks} hold a negative one"
            )

    @property
    def levels(self) -> int:
        """Number of halvings between full and lowest resolution."""
        return len(self.enc_blocks)

    @property
    def multiple(self) -> int:
        """Height and width are padded with zeros to a multiple of this."""
        return 2**self.levels

    @property
    def summary(self) -> str:
        """The hyper-parameters in a few words."""
        parts = (self.enc_blocks, [self.mid_blocks], self.dec_blocks)
        return f"width {self.width}, blocks {' / '.join(','.join(map(str, part)) for part in parts)}"

    @property
    def bytes_per_pixel_on(self) -> dict[str, int]:
        """No engine takes more."""
        return {}

    @property
    def bytes_per_pair(self) -> float:
        """No pixel attends to others."""
        return 0.0

    @property
    def bytes_per_pixel(self) -> int:
        """Memory of the activations for one pixel of a picture."""
        return 4 * (LIVE_CHANNELS + self.outer_skip) * self.width


def weight_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The state dict's keys and shapes, without making a module: what a file claims may be of any size."""
    time = 4 * config.width
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def blocks(part: str, count: int, c: int) -> None:
        for name in (f"{part}.{index}" for index in range(count)):
            layer(f"{name}.{'time_mlp' if config.lensed else 'mlp'}.1", 4 * c, time // 2)
            if config.lensed:
                layer(f"{name}.cam_mlp.1", 2 * c, time // 2)
            layer(f"{name}.conv1", 2 * c, c, 1, 1)
            layer(f"{name}.conv2", 2 * c, 1, 3, 3)
            layer(f"{name}.conv3", c, c, 1, 1)
            layer(f"{name}.sca.1", c, c, 1, 1)
            layer(f"{name}.conv4", 2 * c, c, 1, 1)
            layer(f"{name}.conv5", c, c, 1, 1)
            shapes.update(dict.fromkeys((f"{name}.norm1.g", f"{name}.norm2.g"), (1, c, 1, 1)))
            shapes.update(dict.fromkeys((f"{name}.beta", f"{name}.gamma"), (1, c, 1, 1)))

    # Where there are lenses, they and the time share the sinusoidal embedding, which stands for itself.
    first, second = (0, 2) if config.lensed else (1, 3)
    layer(f"time_mlp.{first}", 2 * time, config.width)
    layer(f"time_mlp.{second}", time, time)
    if config.lensed:
        layer("cam_mlp.0", 2 * time, 3 * config.width)
        layer("cam_mlp.2", time, time)
    layer("intro", config.width, config.channels * (1 + config.condition), 3, 3)
    layer("ending", config.channels, config.width, 3, 3)
    channels = config.width
    for level, count in enumerate(config.enc_blocks):
        blocks(f"encoders.{level}", count, channels)
        layer(f"downs.{level}", 2 * channels, channels, 2, 2)
        channels *= 2
    blocks("middle_blks", config.mid_blocks, channels)
    for level, count in enumerate(config.dec_blocks):
        layer(f"ups.{level}.0", 2 * channels, channels, 1, 1, bias=False)
        channels //= 2
        blocks(f"decoders.{level}", count, channels)
    return shapes
