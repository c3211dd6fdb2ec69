"""What attends in a ConditionalUNet, in torch with the published state-dict keys.

Sources: linear attention is arXiv 1812.01243 with softmaxes as in section 3.3; the transformer is latent diffusion's
(arXiv 2112.10752, appendix E.2.1) with a gated feed-forward part (arXiv 2002.05202).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mrs.export.architectures.nafnet.module import ChannelNorm
from mrs.export.architectures.unet.config import GROUP_EPS, GROUPS, HEAD, HEADS, WIDENING


class LinearAttention(nn.Module):
    """Attention whose cost is linear in the pixels: keys and values of all pixels make one small matrix."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_qkv = nn.Conv2d(channels, 3 * HEADS * HEAD, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(HEADS * HEAD, channels, 1), ChannelNorm(channels))

    def forward(self, x: Tensor, _: Tensor | None = None) -> Tensor:
        height, width = x.shape[-2:]
        query, key, value = self.to_qkv(x).unflatten(1, (3, HEADS, HEAD)).flatten(4).unbind(1)
        query = query.softmax(dim=-2) * HEAD**-0.5
        context = key.softmax(dim=-1) @ (value / (height * width)).transpose(-1, -2)
        out = context.transpose(-1, -2) @ query
        return self.to_out(out.reshape(len(x), HEADS * HEAD, height, width))


class SoftmaxAttention(nn.Module):
    """Attention of every pixel to every pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_qkv = nn.Conv2d(channels, 3 * HEADS * HEAD, 1, bias=False)
        self.to_out = nn.Conv2d(HEADS * HEAD, channels, 1)

    def forward(self, x: Tensor, _: Tensor | None = None) -> Tensor:
        query, key, value = self.to_qkv(x).unflatten(1, (3, HEADS, HEAD)).flatten(4).transpose(-1, -2).unbind(1)
        out = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(out.transpose(-1, -2).reshape(len(x), HEADS * HEAD, *x.shape[-2:]))


class CrossAttention(nn.Module):
    """Attention of tokens to others, or to themselves."""

    def __init__(self, channels: int, told: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(told, channels, bias=False)
        self.to_v = nn.Linear(told, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(2, (-1, HEAD)).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v)
        )
        return self.to_out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))

    def of_one(self, token: Tensor) -> Tensor:
        """What all tokens get from a single other one, (N, C): a softmax over one key is 1."""
        return self.to_out(self.to_v(token))


class GatedLinear(nn.Module):
    """Half of the outputs times the GELU of the others."""

    def __init__(self, channels: int, made: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * made)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Two layers for each token by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = WIDENING * channels
        # Where nothing stands was a dropout: the indices of published state dicts hold.
        self.net = nn.Sequential(GatedLinear(channels, wide), nn.Identity(), nn.Linear(wide, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Attention of the tokens to themselves, to the picture's features, and a feed-forward part."""

    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.attn1 = CrossAttention(channels, channels)
        self.attn2 = CrossAttention(channels, context)
        self.ff = FeedForward(channels)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + (self.attn2(self.norm2(x)) if told is None else told[:, None])
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer over the pixels."""

    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, GROUP_EPS)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def vector(self, image_context: Tensor) -> Tensor:
        """What the picture's features, (N, context), add to every pixel, (N, channels)."""
        return self.transformer_blocks[0].attn2.of_one(image_context)  # type: ignore[union-attr, operator]

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(-1, -2)
        tokens = self.transformer_blocks[0](tokens, told)
        return x + self.proj_out(tokens.transpose(-1, -2).reshape(x.shape))


class PreNorm(nn.Module):
    """A norm and what comes after it."""

    def __init__(self, channels: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn
        self.norm = ChannelNorm(channels)

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        return self.fn(self.norm(x), told)


class Residual(nn.Module):
    """x and what a PreNorm makes of it."""

    def __init__(self, channels: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = PreNorm(channels, fn)

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        return x + self.fn(x, told)


def attention(channels: int, kind: str, context: int) -> Residual:
    """Attention of a kind that `Config` knows, with its norm and what it is added to."""
    if kind == "transformer":
        return Residual(channels, SpatialTransformer(channels, context))
    return Residual(channels, LinearAttention(channels) if kind == "linear" else SoftmaxAttention(channels))


def vectors_of(net: nn.Module, names: list[str], image_context: Tensor) -> list[Tensor]:
    """What the picture's features add in each of these transformers."""
    found = []
    for name in names:
        transformer = net.get_submodule(name)
        assert isinstance(transformer, SpatialTransformer)
        found.append(transformer.vector(image_context))
    return found


__all__ = ["attention", "vectors_of"]
