"""ConditionalNAFNet, the denoiser of Refusion, as a torch module with the published state-dict keys.

Sources: NAFNet (arXiv 2204.04676, section 3), Refusion (arXiv 2304.08291, section 3.2) and the key names of its
published `DenoisingNAFNet_arch.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrs.export.architectures.nafnet.config import NORM_EPS, Config
from mrs.runtime.errors import InputError


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel: gain `g` (1, C, 1, 1), no bias, biased variance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        variance, mean = torch.var_mean(x32, dim=1, correction=0, keepdim=True)
        return ((x32 - mean) * torch.rsqrt(variance + NORM_EPS) * self.g).to(x.dtype)


def _gate(x: Tensor) -> Tensor:
    """SimpleGate: the product of the two halves of the channels."""
    first, second = x.chunk(2, dim=1)
    return first * second


class SimpleGate(nn.Module):
    """`_gate` as a module, so that the indices of published state dicts hold."""

    def forward(self, x: Tensor) -> Tensor:
        return _gate(x)


class NAFBlock(nn.Module):
    """One NAFNet block whose two norms are shifted and scaled by the time embedding, and perhaps the gate of its second
    half by that of the lenses."""

    def __init__(self, channels: int, time_dim: int, lensed: bool = False) -> None:
        super().__init__()
        wide = 2 * channels
        by_time = nn.Sequential(SimpleGate(), nn.Linear(time_dim // 2, 4 * channels))
        if lensed:
            self.time_mlp = by_time
            self.cam_mlp = nn.Sequential(SimpleGate(), nn.Linear(time_dim // 2, 2 * channels))
        else:
            self.mlp = by_time
        self.conv1 = nn.Conv2d(channels, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.conv4 = nn.Conv2d(channels, wide, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.norm1 = ChannelNorm(channels)
        self.norm2 = ChannelNorm(channels)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.lensed = lensed

    def by_time(self, time: Tensor) -> tuple[Tensor, ...]:
        """Shift and scale of the first norm, shift and scale of the second, (N, C) each."""
        return (self.time_mlp if self.lensed else self.mlp)(time).chunk(4, dim=1)

    def by_lenses(self, lenses: Tensor) -> tuple[Tensor, ...]:
        """Scale and shift of the second gate, (N, C) each."""
        return self.cam_mlp(lenses).chunk(2, dim=1)

    def forward(self, x: Tensor, time: Tensor, lenses: Tensor | None = None) -> Tensor:
        shift_att, scale_att, shift_ffn, scale_ffn = (part[:, :, None, None] for part in self.by_time(time))
        y = self.norm1(x) * (scale_att + 1) + shift_att
        y = _gate(self.conv2(self.conv1(y)))
        y = self.conv3(y * self.sca(y))
        x = x + y * self.beta
        y = self.norm2(x) * (scale_ffn + 1) + shift_ffn
        y = _gate(self.conv4(y))
        if lenses is not None:
            scale, shift = (part[:, :, None, None] for part in self.by_lenses(lenses))
            y = y * (scale + 1) + shift
        return x + self.conv5(y) * self.gamma


class SinusoidalEmbedding(nn.Module):
    """sin and cos of t at `dim / 2` frequencies from 1 down to 1e-4 (arXiv 1706.03762, section 3.5)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, t: Tensor) -> Tensor:
        half = self.dim // 2
        steps = torch.arange(half, device=t.device, dtype=torch.float32)
        angle = t[:, None] * torch.exp(steps * (-math.log(10000.0) / (half - 1)))
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class NAFNetModule(nn.Module):
    """What all networks of this kind have in common: everything but their inputs' names.

    Any height and width: the input is padded with zeros to `arch.multiple` and the output cropped. Cast to a 16-bit
    type it computes the same function, rounded: its norms and its embeddings stay in float32.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.arch = config
        width, time_dim = config.width, 4 * config.width

        def embedded(channels: int) -> list[nn.Module]:
            return [nn.Linear(channels, 2 * time_dim), SimpleGate(), nn.Linear(time_dim, time_dim)]

        self.sinusoids = SinusoidalEmbedding(width)
        if config.lensed:
            self.time_mlp = nn.Sequential(*embedded(width))
            self.cam_mlp = nn.Sequential(*embedded(3 * width))
        else:
            # Where nothing is done stands the embedding in published code: the indices of state dicts hold.
            self.time_mlp = nn.Sequential(nn.Identity(), *embedded(width))
        self.intro = nn.Conv2d(config.channels * (1 + config.condition), width, 3, padding=1)
        self.ending = nn.Conv2d(width, config.channels, 3, padding=1)
        self.encoders = nn.ModuleList()
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        self.decoders = nn.ModuleList()

        def blocks(count: int, channels: int) -> nn.Sequential:
            return nn.Sequential(*(NAFBlock(channels, time_dim, config.lensed) for _ in range(count)))

        channels = width
        for count in config.enc_blocks:
            self.encoders.append(blocks(count, channels))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, stride=2))
            channels *= 2
        self.middle_blks = blocks(config.mid_blocks, channels)
        for count in config.dec_blocks:
            self.ups.append(nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.PixelShuffle(2)))
            channels //= 2
            self.decoders.append(blocks(count, channels))

    def embedded_time(self, t: Tensor | float) -> Tensor:
        """Of times, (N,) or one, (N, 4 width)."""
        # Times are not exact in 16 bits: the angles are taken in float32 whatever the network was cast to.
        time = torch.as_tensor(t, dtype=torch.float32, device=self.intro.weight.device).reshape(-1)
        embedded: Tensor = self.time_mlp(self.sinusoids(time).to(self.intro.weight.dtype))
        return embedded

    def evaluate(self, packed: Tensor, t: Tensor | float, lenses: Tensor | None = None) -> Tensor:
        """The output for what the first convolution takes, (N, C, H, W), before it is padded.

        Args:
            packed: the input.
            t: time, one or (N,).
            lenses: what is embedded of them, where the network is told of them.
        """
        height, width = packed.shape[-2:]
        time = self.embedded_time(t)
        m = self.arch.multiple
        first = y = self.intro(F.pad(packed, (0, -width % m, 0, -height % m)))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            for block in encoder:  # type: ignore[attr-defined]
                y = block(y, time, lenses)
            skips.append(y)
            y = down(y)
        for block in self.middle_blks:
            y = block(y, time, lenses)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            y = up(y) + skips.pop()
            for block in decoder:  # type: ignore[attr-defined]
                y = block(y, time, lenses)
        return self.ending(y + first if self.arch.outer_skip else y)[..., :height, :width]


class ConditionalNAFNet(NAFNetModule):
    """The time-conditioned U-shaped NAFNet of Refusion.

    Called as `net(x, mu, t)` with the state x and the degraded picture mu, both (N, C, H, W) float in picture units,
    and t a number or a tensor of shape (N,) or (1,) in forward steps [0, T]; returns (N, C, H, W).
    """

    def forward(self, x: Tensor, mu: Tensor, t: Tensor | float) -> Tensor:
        return self.evaluate(torch.cat([x - mu, mu], dim=1), t)


class DenoisingNAFNet(NAFNetModule):
    """One that sees the state alone, called as `net(x, t)`: see `ConditionalNAFNet`."""

    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        return self.evaluate(x, t)


class BokehNAFNet(NAFNetModule):
    """One that is told of lenses, called as `net(x, mu, t, lenses)`: see `ConditionalNAFNet`.

    `lenses` are (3,) or (N, 3): the source lens and the wanted one, as ten times their f-number, which is negative for
    Canon's, and the disparity; those of the hyper-parameters where they are not given.
    """

    def embedded_lenses(self, lenses: Tensor | Sequence[float] | None = None) -> Tensor:
        """(N, 4 width).

        Raises:
            InputError: where there are none, or not three.
        """
        given = getattr(self.arch, "lenses", None) if lenses is None else lenses
        if given is None:
            raise InputError("this network is told of lenses", hint="give source lens, wanted lens and disparity")
        numbers = torch.as_tensor(given, dtype=torch.float32, device=self.intro.weight.device)
        if numbers.shape[-1:] != (3,) or numbers.ndim > 2:
            raise InputError(f"lenses of shape {tuple(numbers.shape)} are not three numbers for each picture")
        angles = self.sinusoids(numbers.reshape(-1)).reshape(-1, 3 * self.arch.width)
        embedded: Tensor = self.cam_mlp(angles.to(self.intro.weight.dtype))
        return embedded

    def forward(
        self, x: Tensor, mu: Tensor, t: Tensor | float, lenses: Tensor | Sequence[float] | None = None
    ) -> Tensor:  # fmt: skip
        return self.evaluate(torch.cat([x - mu, mu], dim=1), t, self.embedded_lenses(lenses))
