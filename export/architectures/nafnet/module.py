"""ConditionalNAFNet, the denoiser of Refusion, as a torch module with the published state-dict keys.

Sources: NAFNet (arXiv 2204.04676, section 3), Refusion (arXiv 2304.08291, section 3.2) and the key names of its
published `DenoisingNAFNet_arch.py`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrs.export.architectures.nafnet.config import NORM_EPS, Config


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
    """One NAFNet block whose two norms are shifted and scaled by the time embedding."""

    def __init__(self, channels: int, time_dim: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.mlp = nn.Sequential(SimpleGate(), nn.Linear(time_dim // 2, 4 * channels))
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

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        modulation = self.mlp(time)[:, :, None, None]
        shift_att, scale_att, shift_ffn, scale_ffn = modulation.chunk(4, dim=1)
        y = self.norm1(x) * (scale_att + 1) + shift_att
        y = _gate(self.conv2(self.conv1(y)))
        y = self.conv3(y * self.sca(y))
        x = x + y * self.beta
        y = self.norm2(x) * (scale_ffn + 1) + shift_ffn
        y = self.conv5(_gate(self.conv4(y)))
        return x + y * self.gamma


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


class ConditionalNAFNet(nn.Module):
    """The time-conditioned U-shaped NAFNet of Refusion.

    Called as `net(x, mu, t)` with the state x and the degraded picture mu, both (N, C, H, W) float in picture units,
    and t a number or a tensor of shape (N,) or (1,) in forward steps [0, T]; returns (N, C, H, W). Any height and
    width: both are padded with zeros to `arch.multiple` inside and cropped again. Cast to a 16-bit type it computes
    the same function, rounded: its norms and its time embedding stay in float32.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.arch = config
        width, time_dim = config.width, 4 * config.width
        self.time_mlp = nn.Sequential(
            SinusoidalEmbedding(width), nn.Linear(width, 2 * time_dim), SimpleGate(), nn.Linear(time_dim, time_dim)
        )
        self.intro = nn.Conv2d(2 * config.channels, width, 3, padding=1)
        self.ending = nn.Conv2d(width, config.channels, 3, padding=1)
        self.encoders = nn.ModuleList()
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        self.decoders = nn.ModuleList()

        def blocks(count: int, channels: int) -> nn.Sequential:
            return nn.Sequential(*(NAFBlock(channels, time_dim) for _ in range(count)))

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

    def forward(self, x: Tensor, mu: Tensor, t: Tensor | float) -> Tensor:
        height, width = x.shape[-2:]
        time = torch.as_tensor(t, dtype=torch.float32, device=x.device).reshape(-1)
        embed, *mlp = self.time_mlp
        # Times are not exact in 16 bits: the angles are taken in float32 whatever the network was cast to.
        time = embed(time).to(x.dtype)
        for layer in mlp:
            time = layer(time)
        m = self.arch.multiple
        packed = F.pad(torch.cat([x - mu, mu], dim=1), (0, -width % m, 0, -height % m))

        y = self.intro(packed)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            for block in encoder:  # type: ignore[attr-defined]
                y = block(y, time)
            skips.append(y)
            y = down(y)
        for block in self.middle_blks:
            y = block(y, time)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            y = up(y) + skips.pop()
            for block in decoder:  # type: ignore[attr-defined]
                y = block(y, time)
        return self.ending(y)[..., :height, :width]
