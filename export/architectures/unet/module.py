"""The UNets of IR-SDE and DA-CLIP as a torch module with the published state-dict keys.

Sources: IR-SDE (arXiv 2301.11699, appendix), DA-CLIP (arXiv 2310.01018, section 3) and the key names of the published
`DenoisingUNet_arch.py` of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrs.export.architectures.nafnet.module import SinusoidalEmbedding
from mrs.export.architectures.unet.attention import attention, vectors_of
from mrs.export.architectures.unet.config import Config, transformer_names
from mrs.kernels.update import reflected
from mrs.runtime.errors import InputError


class Block(nn.Module):
    """A convolution, perhaps scaled and shifted, and SiLU."""

    def __init__(self, channels: int, made: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, made, 3, padding=1, bias=False)

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        y = self.proj(x)
        return F.silu(y if scale is None or shift is None else y * (scale + 1) + shift)


class ResBlock(nn.Module):
    """Two convolutions, the first scaled and shifted by the embedded time, and what they are added to."""

    def __init__(self, channels: int, made: int, time: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * made))
        self.block1, self.block2 = Block(channels, made), Block(made, made)
        self.res_conv = nn.Identity() if channels == made else nn.Conv2d(channels, made, 1, bias=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.mlp(time)[:, :, None, None].chunk(2, dim=1)
        return self.block2(self.block1(x, scale, shift)) + self.res_conv(x)


class UNet(nn.Module):
    """What all networks of this kind have in common: everything but their inputs' names.

    Any height and width: the input is mirrored at its lower and right side up to `arch.multiple` and the output
    cropped, a side that is shorter than its margin as often as it takes (the published code takes none such). Cast to
    a 16-bit type it computes the same function, rounded: its norms and its time embedding stay in float32.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.arch = config
        nf, time, context, last = config.width, config.time, config.context, config.levels - 1
        self.init_conv = nn.Conv2d(config.channels * (1 + config.condition), nf, 7, padding=3, bias=False)
        self.time_mlp = nn.Sequential(
            SinusoidalEmbedding(nf), nn.Linear(nf, time), nn.GELU(), nn.Linear(time, time)
        )  # fmt: skip
        if config.prompt:
            self.prompt = nn.Parameter(torch.zeros(1, time))
            self.text_mlp = nn.Sequential(nn.Linear(context, time), nn.SiLU(), nn.Linear(time, time))
            self.prompt_mlp = nn.Linear(time, time)
        if config.half:
            self.downsample, self.upsample = nn.Conv2d(nf, nf, 4, 2, 1), upsample(nf, nf)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level in range(config.levels):
            kind = "transformer" if level >= config.first_transformer else "linear"
            outer, inner = config.widths[level : level + 2]
            down = nn.Conv2d(outer, inner, 3, 1, 1, bias=False) if level == last else nn.Conv2d(outer, inner, 4, 2, 1)
            up = upsample(inner, outer) if level else nn.Conv2d(inner, outer, 3, 1, 1, bias=False)
            blocks = (ResBlock(outer, outer, time) for _ in range(2))
            self.downs.append(nn.ModuleList([*blocks, attention(outer, kind, context), down]))
            blocks = (ResBlock(outer + inner, inner, time) for _ in range(2))
            self.ups.insert(0, nn.ModuleList([*blocks, attention(inner, kind, context), up]))
        middle = config.widths[-1]
        self.mid_block1, self.mid_block2 = (ResBlock(middle, middle, time) for _ in range(2))
        self.mid_attn = attention(middle, config.middle, context)
        self.final_res_block = ResBlock(2 * nf, nf, time)
        self.final_conv = nn.Conv2d(nf, config.channels, 3, padding=1)

    def embedded(self, t: Tensor | float, like: Tensor) -> Tensor:
        """The embedded time, (1, 4 width) or (N, 4 width).

        Raises:
            InputError: for neither one time nor one for each picture of `like`.
        """
        times = torch.as_tensor(t, dtype=torch.float32, device=like.device).reshape(-1)
        if len(times) not in (1, len(like)):
            raise InputError(f"{len(times)} times for {len(like)} pictures", hint="give one, or one for each")
        embed, *mlp = self.time_mlp
        # Times are not exact in 16 bits: the angles are taken in float32 whatever the network was cast to.
        time = embed(times).to(like.dtype)
        for layer in mlp:
            time = layer(time)
        return time

    def prompted(self, text_context: Tensor) -> Tensor:
        """What the features of a degradation, (N, context), add to the embedded time."""
        return self.prompt_mlp(self.text_mlp(text_context).softmax(dim=1) * self.prompt)

    def evaluate(self, packed: Tensor, time: Tensor, told: Sequence[Tensor | None]) -> Tensor:
        """The output for what the convolution at full resolution takes, before it is mirrored.

        Args:
            packed: (N, C, H, W).
            time: embedded, with what was added to it.
            told: what each transformer is told of the picture; None where it asks the picture itself.
        """
        height, width = packed.shape[-2:]
        attended = iter(told)
        full = y = self.init_conv(mirrored(packed, self.arch.multiple))
        if self.arch.half:
            y = self.downsample(y)
        skips = []
        for level, parts in enumerate(self.downs):
            block1, block2, attend, down = _four(parts)
            y = block1(y, time)
            skips.append(y)
            y = self._attend(attend, block2(y, time), level, attended)
            skips.append(y)
            y = down(y)
        y = self.mid_attn(self.mid_block1(y, time), next(attended) if self.arch.image else None)
        y = self.mid_block2(y, time)
        for up, parts in enumerate(self.ups):
            *blocks, attend, enlarge = _four(parts)
            for block in blocks:
                y = block(torch.cat([y, skips.pop()], dim=1), time)
            y = enlarge(self._attend(attend, y, self.arch.levels - 1 - up, attended))
        if self.arch.half:
            y = self.upsample(y)
        y = self.final_res_block(torch.cat([y, full], dim=1), time)
        return self.final_conv(y)[..., :height, :width]

    def _attend(self, attend: nn.Module, y: Tensor, level: int, told: Iterator[Tensor | None]) -> Tensor:
        return attend(y, next(told) if level >= self.arch.first_transformer else None)


class ConditionalUNet(UNet):
    """A UNet that is told of the degraded picture, and DA-CLIP's also of its features.

    Called as `net(x, mu, t)`, or `net(x, mu, t, text_context, image_context)` with the features of the degradation and
    of the picture, (N, context) each. The state x and the degraded picture mu are (N, C, H, W) float in picture units,
    t a number or a tensor of shape (N,) or (1,) in forward steps [0, T]; returns (N, C, H, W).
    """

    def forward(
        self,
        x: Tensor,
        mu: Tensor,
        t: Tensor | float,
        text_context: Tensor | None = None,
        image_context: Tensor | None = None,
    ) -> Tensor:
        time, packed = self.embedded(t, x), torch.cat([x - mu, mu], dim=1)
        if self.arch.prompt and text_context is not None:
            time = time + self.prompted(self._checked(text_context, "text"))
        return self.evaluate(packed, time, self._told(image_context))

    def context(self, text_context: Tensor | None = None, image_context: Tensor | None = None) -> Tensor:
        """All that depends on these features, (N, length): the graph's input `context`, see context.py.

        Raises:
            InputError: where features are missing.
        """
        parts = []
        if self.arch.prompt:
            parts.append(self.prompted(self._checked(text_context, "text")))
        if self.arch.image:
            names = [name for name, _ in transformer_names(self.arch)]
            parts += vectors_of(self, names, self._checked(image_context, "image"))
        return torch.cat(parts, dim=1)

    def given(self, x: Tensor, mu: Tensor, t: Tensor | float, context: Tensor) -> Tensor:
        """The output for what `context` made of the features."""
        time, packed = self.embedded(t, x), torch.cat([x - mu, mu], dim=1)
        lengths = [channels for _, channels in transformer_names(self.arch)]
        prompt, *told = context.split([self.arch.time if self.arch.prompt else 0, *lengths], dim=1)
        return self.evaluate(packed, time + prompt if self.arch.prompt else time, told)

    def _told(self, image_context: Tensor | None) -> Sequence[Tensor | None]:
        names = dict(transformer_names(self.arch))
        if not names:
            return ()
        if image_context is not None:
            return vectors_of(self, list(names), self._checked(image_context, "image"))
        # Then the transformers ask the picture itself, with weights that are as long as the features.
        if set(names.values()) != {self.arch.context}:
            raise InputError(
                "this network needs an image context: its transformers have "
                f"{', '.join(map(str, sorted(set(names.values()))))} channels, not {self.arch.context}"
            )
        return [None] * len(names)

    def _checked(self, context: Tensor | None, kind: str) -> Tensor:
        if context is None or context.shape[1:] != (self.arch.context,):
            given = "none" if context is None else f"one of shape {tuple(context.shape)}"
            raise InputError(f"this network takes a {kind} context of (N, {self.arch.context}), not {given}")
        return context


class DenoisingUNet(UNet):
    """A UNet that sees the state alone, called as `net(x, t)`: see `ConditionalUNet`."""

    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        return self.evaluate(x, self.embedded(t, x), [])


def module_of(config: Config) -> UNet:
    """The network of these hyper-parameters."""
    return (ConditionalUNet if config.condition else DenoisingUNet)(config)


def _four(parts: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
    """A level's two blocks, what attends, and what leads to the next level."""
    assert isinstance(parts, nn.ModuleList)
    block1, block2, attend, leave = parts
    return block1, block2, attend, leave


def upsample(channels: int, made: int) -> nn.Sequential:
    """A convolution of a picture twice as large, each pixel four times."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(channels, made, 3, padding=1))


def mirrored(x: Tensor, multiple: int) -> Tensor:
    """Rows and columns up to a multiple, mirrored without the edge itself: where they run out, to and fro."""
    for axis in (2, 3):
        side = x.shape[axis]
        if side % multiple:
            lines = torch.from_numpy(reflected(side, side + -side % multiple))
            x = x.index_select(axis, lines.to(x.device))
    return x
