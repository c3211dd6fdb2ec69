"""The UNet of a latent pair as a torch module with the published state-dict keys.

Sources: Refusion (arXiv 2304.08291, section 3.3) and the key names of its published `UNet_arch.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mrs.export.architectures.latent_unet.config import Autoencoder
from mrs.export.architectures.unet.attention import attention
from mrs.export.architectures.unet.module import Block, mirrored, upsample
from mrs.runtime.errors import InputError


class ResBlock(nn.Module):
    """Two convolutions and what they are added to."""

    def __init__(self, channels: int, made: int) -> None:
        super().__init__()
        self.block1, self.block2 = Block(channels, made), Block(made, made)
        self.res_conv = nn.Identity() if channels == made else nn.Conv2d(channels, made, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.block2(self.block1(x)) + self.res_conv(x)


class Hidden(list[Tensor]):
    """What an encoder saw on its way, for the decoder.

    Attributes:
        size: height and width of the picture.
    """

    def __init__(self, states: Sequence[Tensor], size: tuple[int, int]) -> None:
        super().__init__(states)
        self.size = size


class LatentUNet(nn.Module):
    """Latents of pictures and pictures of latents.

    `encode` takes pictures (N, C, H, W) float of any size, mirrored at their lower and right sides up to
    `arch.multiple` (a side that is shorter than its margin as often as it takes: the published code takes none such).
    Unlike in the published code nothing is kept in the module between two calls: the picture's size is the hidden
    states' own.
    """

    def __init__(self, arch: Autoencoder) -> None:
        super().__init__()
        self.arch = arch
        first, last, top = arch.widths[0], arch.widths[-1], arch.levels - 1
        self.init_conv = nn.Conv2d(arch.channels, first, 3, padding=1, bias=False)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level in range(arch.levels):
            outer, inner = arch.widths[level : level + 2]
            down = nn.Conv2d(outer, inner, 3, 1, 1, bias=False) if level == top else nn.Conv2d(outer, inner, 4, 2, 1)
            up = upsample(inner, outer) if level else nn.Conv2d(inner, outer, 3, 1, 1, bias=False)
            attends = [attention(c, "linear", 0) if level == top else nn.Identity() for c in (outer, inner)]
            self.encoder.append(nn.ModuleList([*(ResBlock(outer, outer) for _ in range(2)), attends[0], down]))
            self.decoder.insert(
                0, nn.ModuleList([*(ResBlock(outer + inner, inner) for _ in range(2)), attends[1], up])
            )  # fmt: skip
        self.latent_conv = nn.Conv2d(last, arch.latent, 1, bias=False)
        self.post_latent_conv = nn.Conv2d(arch.latent, last, 1, bias=False)
        self.final_conv = nn.Conv2d(first, arch.channels, 3, padding=1)

    def encode(self, picture: Tensor) -> tuple[Tensor, Hidden]:
        """The latent, (N, `arch.latent`, H', W') with the mirrored picture's sides by `arch.scale`; hidden states."""
        y = self.init_conv(mirrored(picture, self.arch.multiple))
        states = [y]
        for stage in self.encoder:
            block1, block2, attend, down = stage.children()
            y = block1(y)
            states.append(y)
            y = attend(block2(y))
            states.append(y)
            y = down(y)
        height, width = picture.shape[-2:]
        return self.latent_conv(y), Hidden(states, (height, width))

    def decode(self, latent: Tensor, hidden: Sequence[Tensor]) -> Tensor:
        """The picture, (N, C, H, W), of a latent and the hidden states of the degraded picture.

        Args:
            latent: (N, `arch.latent`, H', W').
            hidden: what `encode` gave; the mirrored picture is returned whole for a plain list of tensors.

        Raises:
            InputError: for a latent and hidden states that do not fit.
        """
        self._check(latent, hidden)
        y, states = self.post_latent_conv(latent), list(hidden)
        for stage in self.decoder:
            block1, block2, attend, up = stage.children()
            y = block1(torch.cat([y, states.pop()], dim=1))
            y = up(attend(block2(torch.cat([y, states.pop()], dim=1))))
        picture: Tensor = self.final_conv(y + states[0])
        height, width = hidden.size if isinstance(hidden, Hidden) else picture.shape[-2:]
        return picture[..., :height, :width]

    def forward(self, picture: Tensor) -> Tensor:
        return self.decode(*self.encode(picture))

    def _check(self, latent: Tensor, hidden: Sequence[Tensor]) -> None:
        arch = self.arch
        if latent.ndim != 4 or latent.shape[1] != arch.latent:
            raise InputError(f"a latent of {tuple(latent.shape)} is not one of {arch.latent} channels")
        count, _, height, width = latent.shape
        expected = [
            (count, channels, height * arch.scale // by, width * arch.scale // by) for channels, by in arch.hidden
        ]
        if [tuple(state.shape) for state in hidden] != expected:
            raise InputError(
                f"{len(hidden)} hidden states do not fit a latent of {tuple(latent.shape)}",
                hint="give those that encode gave for a picture of the same size",
            )
