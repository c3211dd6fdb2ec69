"""Attention of a ConditionalUNet in ONNX: see attention.py for the same in torch.

Everything here is of tokens, (N, 1, pixels, channels). Engines keep pictures with channels last, so that a picture is
its tokens without a copy, and what works on a pixel's channels works on numbers that lie together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import TensorProto

from mrs.export.architectures.unet.config import GROUP_EPS, GROUPS, HEAD, HEADS, NORM_EPS
from mrs.export.onnx_writer import F32, Emitter

# Rows and columns of matrices.
SWAP = [0, 1, 3, 2]
HIDDEN = HEADS * HEAD


class AttentionEmitter(Emitter):
    """Attentions with their norms."""

    def __init__(self, state: Mapping[str, F32]) -> None:
        super().__init__(state)
        self.state: dict[str, F32] = dict(state)

    def attention(self, x: str, key: str, kind: str, told: Iterator[str]) -> str:
        """x and an attention of its norm; a transformer takes the next of the vectors that it is told."""
        channels = self.state[f"{key}.norm.g"].size
        picture = self("Transpose", x, perm=[0, 2, 3, 1])
        tokens = self("Reshape", picture, self.whole(0, 1, -1, channels))
        normal = self._norm(tokens, channels)
        if kind == "linear":
            y = self._linear(normal, key)
        elif kind == "softmax":
            y = self._softmax(normal, key)
        else:
            y = self._transformer(self("Mul", normal, self._gain(f"{key}.norm.g")), f"{key}.fn", next(told))
        y = self("Reshape", y, self("Shape", picture))
        return self("Add", x, self("Transpose", y, perm=[0, 3, 1, 2]))

    def _gain(self, key: str) -> str:
        return self.weight(key, self.state[key].reshape(-1))

    def _norm(self, tokens: str, channels: int) -> str:
        """Each token less its mean, by its deviation; what follows takes gain and bias into its weights."""
        ones = self.constant(np.ones(channels, np.float32))
        return self("LayerNormalization", tokens, ones, axis=-1, epsilon=NORM_EPS)

    def _matrix(self, tokens: str, name: str, weight: F32, bias: F32 | None = None) -> str:
        """A layer for each token."""
        y = self("MatMul", tokens, self.weight(f"{name}.weight", np.ascontiguousarray(weight.T)))
        return y if bias is None else self("Add", y, self.weight(f"{name}.bias", bias))

    def _layer(self, tokens: str, key: str, *, norm: str = "", scale: float = 1.0, part: slice | None = None) -> str:
        """The published layer under a key, or part of its outputs, with gain and bias of the norm before it."""
        weight, bias = self.state[f"{key}.weight"], self.state.get(f"{key}.bias")
        weight = weight.reshape(weight.shape[:2])[part or slice(None)]
        bias = bias if bias is None else bias[part or slice(None)]
        if norm:
            shift = weight @ self.state[f"{norm}.bias"]
            weight, bias = weight * self.state[f"{norm}.weight"], shift if bias is None else bias + shift
        name = key if part is None else f"{key}.{part.start}"
        return self._matrix(
            tokens, name, weight * np.float32(scale), bias if bias is None else bias * np.float32(scale)
        )

    def _linear(self, normal: str, key: str) -> str:
        """Keys, a distribution over the pixels each, mean the tokens; the values are made of these means.

        So there is no value of any pixel, and with what the heads' outputs are projected by only one small matrix for
        the queries.
        """
        channels = self.state[f"{key}.norm.g"].size
        weight = self.state[f"{key}.fn.to_qkv.weight"][:, :, 0, 0] * self.state[f"{key}.norm.g"].reshape(1, -1)
        query = self._matrix(normal, f"{key}.fn.q", weight[:HIDDEN])
        query = self("Softmax", self("Reshape", query, self.whole(0, -1, HEADS, HEAD)), axis=-1)
        keys = self.weight(f"{key}.fn.k.weight", weight[None, None, HIDDEN : 2 * HIDDEN])
        keys = self("MatMul", keys, self("Transpose", normal, perm=SWAP))
        # Along another axis than the last, which is all the same: OpenVINO takes both products with a softmax along the
        # last for an attention, whose rows it has as a whole, however long.
        keys = self("Softmax", self("Reshape", keys, self.whole(0, HIDDEN, -1, 1)), axis=2)
        keys = self("Reshape", keys, self.whole(0, 1, HIDDEN, -1))
        means = self("Reshape", self("MatMul", keys, normal), self.whole(0, HEADS, HEAD, channels))
        values = np.ascontiguousarray(weight[2 * HIDDEN :].reshape(1, HEADS, HEAD, channels).transpose(0, 1, 3, 2))
        mixed = self("MatMul", means, self.weight(f"{key}.fn.v.weight", values))
        pixels = self("Cast", self("Shape", normal, start=2, end=3), to=TensorProto.FLOAT)
        out = self.state[f"{key}.fn.to_out.0.weight"].reshape(channels, HEADS, HEAD) * np.float32(HEAD**-0.5)
        project = self.weight(f"{key}.fn.to_out.0.weight", np.ascontiguousarray(out.transpose(1, 2, 0)[None]))
        mixed = self("Reshape", self("MatMul", self("Div", mixed, pixels), project), self.whole(0, 1, HIDDEN, channels))
        y = self("MatMul", self("Reshape", query, self.whole(0, 1, -1, HIDDEN)), mixed)
        y = self("Add", y, self._gain(f"{key}.fn.to_out.0.bias"))
        return self("Mul", self._norm(y, channels), self._gain(f"{key}.fn.to_out.1.g"))

    def _softmax(self, normal: str, key: str) -> str:
        weight = self.state[f"{key}.fn.to_qkv.weight"][:, :, 0, 0] * self.state[f"{key}.norm.g"].reshape(1, -1)
        scales = (np.float32(HEAD**-0.5), 1, 1)
        made = [self._matrix(normal, f"{key}.fn.{name}", scale * part)
                for name, scale, part in zip("qkv", scales, np.split(weight, 3), strict=True)]  # fmt: skip
        return self._layer(self._attended(made, HIDDEN), f"{key}.fn.to_out")

    def _attended(self, made: list[str], channels: int) -> str:
        """Values by queries, which are scaled, and keys, in the pattern that engines run as one attention."""
        heads = self.whole(0, -1, channels // HEAD, HEAD)
        query, keys, value = (
            self("Transpose", self("Reshape", each, heads), perm=perm)
            for each, perm in zip(made, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
        )
        y = self("MatMul", self("Softmax", self("MatMul", query, keys), axis=-1), value)
        return self("Reshape", self("Transpose", y, perm=[0, 2, 1, 3]), self.whole(0, 1, -1, channels))

    def _transformer(self, normal: str, key: str, told: str) -> str:
        """The tokens and what a transformer makes of them."""
        block, channels = f"{key}.transformer_blocks.0", self.state[f"{key}.norm.weight"].size
        tokens = self._layer(self._group_norm(normal, channels), f"{key}.proj_in", norm=f"{key}.norm")
        y, norm = self._norm(tokens, channels), f"{block}.norm1"
        made = [self._layer(y, f"{block}.attn1.to_{name}", norm=norm, scale=HEAD**-0.5 if name == "q" else 1)
                for name in "qkv"]  # fmt: skip
        tokens = self("Add", tokens, self._layer(self._attended(made, channels), f"{block}.attn1.to_out.0"))
        tokens = self("Add", tokens, self("Reshape", told, self.whole(0, 1, 1, channels)))
        y, norm, first = self._norm(tokens, channels), f"{block}.norm3", f"{block}.ff.net.0.proj"
        half = self.state[f"{first}.bias"].size // 2
        value = self._layer(y, first, norm=norm, part=slice(0, half))
        gate = self._gelu(self._layer(y, first, norm=norm, part=slice(half, 2 * half)))
        tokens = self("Add", tokens, self._layer(self("Mul", value, gate), f"{block}.ff.net.2"))
        return self("Add", normal, self._layer(tokens, f"{key}.proj_out"))

    def _group_norm(self, tokens: str, channels: int) -> str:
        """Each group of channels over all pixels less its mean, by its deviation."""
        groups = self("Reshape", self("Transpose", tokens, perm=SWAP), self.whole(0, GROUPS, channels // GROUPS, -1))
        vectors = self.constant(np.ones(GROUPS, np.float32)), self.constant(np.zeros(GROUPS, np.float32))
        groups = self("InstanceNormalization", groups, *vectors, epsilon=GROUP_EPS)
        return self("Transpose", self("Reshape", groups, self.whole(0, 1, channels, -1)), perm=SWAP)

    def _gelu(self, x: str) -> str:
        """The exact one, as engines know it."""
        error = self("Erf", self("Div", x, self.number(2**0.5)))
        return self("Mul", self("Mul", x, self("Add", error, self.number(1))), self.number(0.5))
