"""DA-CLIP's image encoder as a torch module with the published state-dict keys.

Two vision transformers look at a picture. One finds its degradation; what each of its blocks sees goes through a
linear layer into the other's, which describes what the picture would show without it. Sources: CLIP (arXiv 2103.00020),
DA-CLIP (arXiv 2310.01018, section 3.1) and the key names of its published weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrs.export.architectures.clip.config import COLOURS, NORM_EPS, Encoder
from mrs.runtime.errors import InputError


class Attention(nn.Module):
    """Self-attention with one matrix for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        y = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        # (3, batch, heads, tokens, width of a head)
        q, k, v = y.view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(y.transpose(1, 2).reshape(batch, tokens, width))


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    """One transformer block, normalised before each of its halves."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, NORM_EPS)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, NORM_EPS)
        self.mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Blocks; what another tower saw is added after each, if it is given."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(encoder.width, encoder.heads) for _ in range(encoder.layers))

    def forward(self, x: Tensor, hiddens: Sequence[Tensor] = ()) -> Tensor:
        # The first block is told what the other tower's last one saw.
        for index, block in enumerate(self.resblocks):
            x = block(x)
            x = x + hiddens[-1 - index] if hiddens else x
        return x


class ControlTransformer(nn.Module):
    """Blocks, and what each of them tells another tower."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.transformer = Transformer(encoder)
        self.zero_modules = nn.ModuleList(nn.Linear(encoder.width, encoder.width) for _ in range(encoder.layers))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        hiddens = []
        for block, tell in zip(self.transformer.resblocks, self.zero_modules, strict=True):
            x = block(x)
            hiddens.append(tell(x))
        return x, hiddens


class Tower(nn.Module):
    """From a picture to tokens, and from the first token to a feature."""

    def __init__(self, encoder: Encoder, transformer: nn.Module) -> None:
        super().__init__()
        width = encoder.width
        self.conv1 = nn.Conv2d(COLOURS, width, encoder.patch, stride=encoder.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(encoder.tokens, width))
        self.ln_pre = nn.LayerNorm(width, NORM_EPS)
        self.transformer = transformer
        self.ln_post = nn.LayerNorm(width, NORM_EPS)
        self.proj = nn.Parameter(torch.empty(width, encoder.length))

    def tokens(self, image: Tensor) -> Tensor:
        """(B, tokens, width)."""
        patches = self.conv1(image).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(image), 1, -1)
        return self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)

    def feature(self, x: Tensor) -> Tensor:
        """(B, length), of the first token."""
        return self.ln_post(x[:, 0]) @ self.proj


class DACLIPEncoder(nn.Module):
    """What a picture shows, and what degrades it.

    Called as `encoder(image)` with pictures (B, 3, side, side) normalised as CLIP's; returns the image features and the
    degradation features, (B, length) each, not normalised: the two contexts of DA-CLIP's network.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.arch = encoder
        self.visual = Tower(encoder, Transformer(encoder))
        self.visual_control = Tower(encoder, ControlTransformer(encoder))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        degradation, hiddens = self.control(image)
        return self.picture(image, hiddens), degradation

    def control(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The degradation features, and (B, tokens, width) of each block for the picture's tower."""
        tower = self.visual_control
        x, hiddens = tower.transformer(tower.tokens(self._checked(image)))
        return tower.feature(x), hiddens

    def picture(self, image: Tensor, hiddens: Sequence[Tensor] = ()) -> Tensor:
        """The image features; those of CLIP alone where the other tower tells nothing."""
        tower = self.visual
        return tower.feature(tower.transformer(tower.tokens(self._checked(image)), hiddens))

    def _checked(self, image: Tensor) -> Tensor:
        side = self.arch.side
        if image.ndim != 4 or image.shape[1:] != (COLOURS, side, side):
            raise InputError(
                f"an image of {tuple(image.shape)} is none for this encoder",
                hint=f"give (B, {COLOURS}, {side}, {side})",
            )
        return image
