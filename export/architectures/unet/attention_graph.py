"""Attention of a ConditionalUNet in ONNX: see attention.py for the same in torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import TensorProto

from mrs.export.architectures.channel_norm import NORM_EPS, NormEmitter
from mrs.export.architectures.unet.config import GROUP_EPS, GROUPS, HEAD, HEADS
from mrs.export.graph_variant import GraphVariant
from mrs.export.onnx_writer import F32

SWAP = [0, 1, 3, 2]


class AttentionEmitter(NormEmitter):
    """Attentions with their norms; tokens are (N, 1, pixels, channels)."""

    def __init__(self, state: Mapping[str, F32], variant: GraphVariant) -> None:
        super().__init__(state, variant)
        self.state: dict[str, F32] = dict(state)

    def derived(self, key: str, weight: F32, bias: F32 | None = None) -> str:
        """Keep weights that were made of others, as of a convolution; their key."""
        self.state[f"{key}.weight"] = weight.reshape(*weight.shape[:2], *(weight.shape[2:] or (1, 1)))
        if bias is not None:
            self.state[f"{key}.bias"] = bias
        return key

    def silu(self, x: str) -> str:
        """x times its sigmoid."""
        return self("Mul", x, self("Sigmoid", x))

    def attention(self, x: str, key: str, kind: str, told: Iterator[str]) -> str:
        """x and an attention of its norm; a transformer takes the next of the vectors that it is told."""
        if kind == "transformer":
            return self._transformer(x, key, next(told))
        channels = self.state[f"{key}.norm.g"].size
        normal = self.normalised(x, channels)
        return self._linear(x, normal, key) if kind == "linear" else self._softmax(x, normal, key)

    def _queries(self, normal: str, key: str, scale: float) -> list[str]:
        """Queries times a number, keys and values, (N, heads, channels of a head, pixels).

        By a convolution each: what is cut by channels is copied, slowly. They take the norm's gain.
        """
        hidden, weight = HEADS * HEAD, self.state[f"{key}.fn.to_qkv.weight"] * self.state[f"{key}.norm.g"]
        made = []
        for i, factor in enumerate((scale, 1, 1)):
            part = weight[i * hidden : (i + 1) * hidden] * np.float32(factor)
            made.append(self.conv(normal, self.derived(f"{key}.fn.{'qkv'[i]}", part)))
        return made

    def _by_head(self, x: str) -> str:
        return self("Reshape", x, self.whole(0, HEADS, HEAD, -1))

    def _linear(self, x: str, normal: str, key: str) -> str:
        query, keys, value = (self._by_head(y) for y in self._queries(normal, key, 1))
        query, keys = self("Softmax", query, axis=2), self("Softmax", keys, axis=3)
        mixed = self("MatMul", value, self("Transpose", keys, perm=SWAP))
        sides = self("Cast", self("Shape", x, start=2), to=TensorProto.FLOAT)
        mixed = self("Div", mixed, self("ReduceProd", sides, keepdims=0))
        # What the heads make is projected by a matrix for each: both are one, which is small.
        weight = self.state[f"{key}.fn.to_out.0.weight"] * np.float32(HEAD**-0.5)
        channels = len(weight)
        by_head = np.ascontiguousarray(weight.reshape(1, channels, HEADS, HEAD).transpose(0, 2, 1, 3))
        mixed = self("MatMul", self.weight(f"{key}.fn.to_out.0.weight", by_head), mixed)
        mixed = self("Reshape", self("Transpose", mixed, perm=[0, 2, 1, 3]), self.whole(0, 1, channels, HEADS * HEAD))
        y = self("MatMul", mixed, self("Reshape", query, self.whole(0, 1, HEADS * HEAD, -1)))
        bias = self.weight(f"{key}.fn.to_out.0.bias", self.state[f"{key}.fn.to_out.0.bias"].reshape(1, -1, 1, 1))
        y = self("Add", self("Reshape", y, self("Shape", x)), bias)
        gain = self.weight(f"{key}.fn.to_out.1.g", self.state[f"{key}.fn.to_out.1.g"])
        return self("Add", x, self("Mul", self.normalised(y, channels), gain))

    def _softmax(self, x: str, normal: str, key: str) -> str:
        made = self._queries(normal, key, HEAD**-0.5)
        query, keys, value = (self._by_head(y) for y in made)
        scores = self("Softmax", self("MatMul", self("Transpose", query, perm=SWAP), keys), axis=-1)
        y = self("MatMul", scores, self("Transpose", value, perm=SWAP))
        y = self("Reshape", self("Transpose", y, perm=SWAP), self("Shape", made[0]))
        return self("Add", x, self.conv(y, f"{key}.fn.to_out"))

    def _transformer(self, x: str, key: str, told: str) -> str:
        """x, its norm, and what the transformer makes of that."""
        fn, block = f"{key}.fn", f"{key}.fn.transformer_blocks.0"
        channels = self.state[f"{key}.norm.g"].size
        gain = self.weight(f"{key}.norm.g", self.state[f"{key}.norm.g"])
        normal = self("Mul", self.normalised(x, channels), gain)
        groups = self("Reshape", normal, self.whole(0, GROUPS, channels // GROUPS, -1))
        ones, zeros = np.ones(GROUPS, np.float32), np.zeros(GROUPS, np.float32)
        groups = self(
            "InstanceNormalization", groups, self.constant(ones), self.constant(zeros), epsilon=GROUP_EPS
        )  # fmt: skip
        tokens = self("Transpose", self("Reshape", groups, self.whole(0, 1, channels, -1)), perm=SWAP)
        tokens = self._matrix(tokens, f"{fn}.proj_in", norm=f"{fn}.norm")
        tokens = self("Add", tokens, self._self_attention(tokens, block, channels))
        tokens = self("Add", tokens, self("Reshape", told, self.whole(0, 1, 1, channels)))
        tokens = self("Add", tokens, self._feed_forward(tokens, f"{block}.ff.net", f"{block}.norm3"))
        y = self("Transpose", self._matrix(tokens, f"{fn}.proj_out"), perm=SWAP)
        return self("Add", x, self("Add", normal, self("Reshape", y, self("Shape", x))))

    def _self_attention(self, tokens: str, block: str, channels: int) -> str:
        y = self._token_norm(tokens, channels)
        heads = self.whole(0, -1, channels // HEAD, HEAD)
        made = []
        for name, scale, perm in (("q", HEAD**-0.5, (0, 2, 1, 3)), ("k", 1.0, (0, 2, 3, 1)), ("v", 1.0, (0, 2, 1, 3))):
            part = self._matrix(y, f"{block}.attn1.to_{name}", norm=f"{block}.norm1", scale=scale)
            made.append(self("Transpose", self("Reshape", part, heads), perm=list(perm)))
        scores = self("Softmax", self("MatMul", made[0], made[1]), axis=-1)
        y = self("Transpose", self("MatMul", scores, made[2]), perm=[0, 2, 1, 3])
        return self._matrix(self("Reshape", y, self.whole(0, 1, -1, channels)), f"{block}.attn1.to_out.0")

    def _feed_forward(self, tokens: str, key: str, norm: str) -> str:
        y = self._token_norm(tokens, self.state[f"{norm}.weight"].size)
        half = self.state[f"{key}.0.proj.bias"].size // 2
        value = self._matrix(y, f"{key}.0.proj", norm=norm, part=slice(0, half))
        gate = self._matrix(y, f"{key}.0.proj", norm=norm, part=slice(half, 2 * half))
        # As engines know GELU.
        error = self("Erf", self("Div", gate, self.number(2**0.5)))
        gate = self("Mul", self("Mul", gate, self("Add", error, self.number(1))), self.number(0.5))
        return self._matrix(self("Mul", value, gate), f"{key}.2")

    def _token_norm(self, tokens: str, channels: int) -> str:
        ones = self.constant(np.ones(channels, np.float32))
        return self("LayerNormalization", tokens, ones, axis=-1, epsilon=NORM_EPS)

    def _matrix(
        self, tokens: str, key: str, *, norm: str = "", scale: float = 1.0, part: slice = slice(None)
    ) -> str:  # fmt: skip
        """A layer for each token, which takes gain and bias of the norm before it."""
        weight = self.state[f"{key}.weight"]
        weight, bias = weight.reshape(weight.shape[:2])[part], self.state.get(f"{key}.bias")
        bias = bias if bias is None else bias[part]
        if norm:
            shift = weight @ self.state[f"{norm}.bias"]
            weight, bias = weight * self.state[f"{norm}.weight"], shift if bias is None else bias + shift
        suffix = f".{part.start}" if part.start is not None else ""
        factor = np.float32(scale)
        y = self("MatMul", tokens, self.weight(f"{key}.weight{suffix}", np.ascontiguousarray(weight.T) * factor))
        return y if bias is None else self("Add", y, self.weight(f"{key}.bias{suffix}", bias * factor))
