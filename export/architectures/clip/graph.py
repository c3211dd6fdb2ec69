"""DA-CLIP's image encoder in ONNX: a part of the graph that tells a network of the whole picture.

Values have four sides: tokens are (N, 1, tokens, width), so that a linear layer is one product with a matrix. CLIP's
normalisation of colours is in the weights of the first convolution, which has no padding that would see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mrs.export.architectures.clip.config import BLOCKS, CONTROL, DEVIATION, JOINTS, MEAN, NORM_EPS, PICTURE, Encoder
from mrs.export.onnx_writer import F32, Emitter
from mrs.runtime.errors import InputError
from mrs.runtime.onnx_guard.encoder import PATCHES
from mrs.runtime.onnx_guard.model import FLOAT32

# An ONNX file holds two gigabytes at most, and what follows the encoder needs some of it. Larger encoders (the two
# towers of ViT-L-14 have 2.5) keep their matrices in half precision: the published code's autocast rounds them so too.
LARGEST = 1_900_000_000


def is_halved(encoder: Encoder) -> bool:
    """Whether the graph's matrices are kept in half precision, because a file of float32 would be too large."""
    return 4 * sum(int(np.prod(shape)) for shape in encoder.weight_shapes().values()) > LARGEST


def features(
    emit: Emitter,
    state: Mapping[str, F32],
    encoder: Encoder,
    picture: str,
    *,
    image: bool = True,
    degradation: bool = True,
    normalised: bool = False,
) -> tuple[str, str]:
    """Write the towers; the names of the image features and of the degradation features, (N, length, 1, 1) each.

    Args:
        emit: to which they are added.
        state: the encoder's weights.
        encoder: the hyper-parameters.
        picture: a value (N, 3, side, side).
        image, degradation: which features are wanted: nothing is written that only others need, and the name of one
            that is not wanted is "".
        normalised: whether the picture has CLIP's colours already; it is in [0, 1] otherwise.

    Raises:
        InputError: for patches that a plan's reader does not take, and for a large encoder with a number that half
            precision does not have.
    """
    if encoder.patch not in PATCHES:
        raise InputError(
            f"the encoder has patches of {encoder.patch} pixels",
            hint=f"a plan takes those of {', '.join(map(str, PATCHES))}",
        )
    towers = _Towers(emit, state, encoder, normalised)
    hiddens: list[str] = []
    x = towers.tokens(picture, CONTROL)
    for index in range(encoder.layers):
        x = towers.block(x, f"{BLOCKS[CONTROL]}.{index}")
        hiddens.append(x)
    degrades = towers.feature(x, CONTROL) if degradation else ""
    if not image:
        return "", degrades
    x = towers.tokens(picture, PICTURE)
    for index in range(encoder.layers):
        # The first block is told what the other tower's last one saw.
        told = encoder.layers - 1 - index
        x = towers.block(x, f"{BLOCKS[PICTURE]}.{index}", hiddens[told], f"{JOINTS}.{told}")
    return towers.feature(x, PICTURE), degrades


class _Towers:
    def __init__(self, emit: Emitter, state: Mapping[str, F32], encoder: Encoder, normalised: bool) -> None:
        self.emit, self.state, self.encoder, self.normalised = emit, state, encoder, normalised
        self.halved = is_halved(encoder)

    def tokens(self, picture: str, tower: str) -> str:
        """The patches of a picture, the class before them."""
        emit, encoder = self.emit, self.encoder
        weight = self.state[f"{tower}.conv1.weight"]
        positions = self.state[f"{tower}.positional_embedding"].copy()
        positions[0] += self.state[f"{tower}.class_embedding"]
        if not self.normalised:
            # In double precision, so that only the result is rounded.
            exact = weight / np.array(DEVIATION).reshape(1, 3, 1, 1)
            positions[1:] -= (exact * np.array(MEAN).reshape(1, 3, 1, 1)).sum(axis=(1, 2, 3)).astype(np.float32)
            weight = exact.astype(np.float32)
        side = encoder.patch
        patches = emit(
            "Conv", picture, emit.weight(f"{tower}.conv1.weight", weight),
            kernel_shape=[side, side], pads=[0] * 4, strides=[side, side], group=1,
        )  # fmt: skip
        columns = emit("Reshape", patches, emit.whole(0, 1, encoder.width, encoder.tokens - 1))
        rows = emit("Transpose", columns, perm=[0, 1, 3, 2])
        # A row of zeros, to which the class is added.
        rows = emit("Pad", rows, emit.whole(0, 0, 1, 0, 0, 0, 0, 0))
        placed = emit("Add", rows, emit.weight(f"{tower}.positional_embedding", positions[None, None]))
        return self.norm(placed, f"{tower}.ln_pre")

    def feature(self, x: str, tower: str) -> str:
        """(N, length, 1, 1), of the first token."""
        emit = self.emit
        first = emit("Slice", x, emit.whole(0), emit.whole(1), emit.whole(2))
        matrix = self.matrix(f"{tower}.proj", self.state[f"{tower}.proj"])
        projected = emit("MatMul", self.norm(first, f"{tower}.ln_post"), matrix)
        return emit("Transpose", projected, perm=[0, 3, 1, 2])

    def block(self, x: str, key: str, told: str = "", joint: str = "") -> str:
        """One transformer block, and what another tower tells it; see module.py for the same in torch."""
        emit = self.emit
        y = self.attention(self.norm(x, f"{key}.ln_1"), key)
        x = self.sum(x, [(y, f"{key}.attn.out_proj")])
        name = f"{key}.mlp.c_fc"
        y = self.linear(self.norm(x, f"{key}.ln_2"), name, self.state[f"{name}.weight"], self.state[f"{name}.bias"])
        # Exact GELU, in the form that engines know.
        wide = emit("Add", emit("Erf", emit("Div", y, emit.number(np.sqrt(2)))), emit.number(1))
        y = emit("Mul", emit("Mul", y, wide), emit.number(0.5))
        return self.sum(x, [(y, f"{key}.mlp.c_proj")] + ([(told, joint)] if told else []))

    def attention(self, x: str, key: str) -> str:
        """Softmax of queries by keys, times values, heads side by side again."""
        emit, encoder = self.emit, self.encoder
        heads, width = encoder.heads, encoder.width
        weight, bias = self.state[f"{key}.attn.in_proj_weight"], self.state[f"{key}.attn.in_proj_bias"]
        parts = []
        for index, name in enumerate("qkv"):
            part = slice(index * width, (index + 1) * width)
            # The scale of the scores is the queries' weights' own.
            scale = np.float32((width // heads) ** -0.5) if name == "q" else np.float32(1)
            y = self.linear(x, f"{key}.attn.{name}", weight[part] * scale, bias[part] * scale)
            y = emit("Reshape", y, emit.whole(0, encoder.tokens, heads, width // heads))
            parts.append(emit("Transpose", y, perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]))
        q, k, v = parts
        y = emit("MatMul", emit("Softmax", emit("MatMul", q, k), axis=-1), v)
        return emit("Reshape", emit("Transpose", y, perm=[0, 2, 1, 3]), emit.whole(0, 1, encoder.tokens, width))

    def sum(self, x: str, parts: Sequence[tuple[str, str]]) -> str:
        """A value, and linear layers of others; their biases are added as one."""
        emit = self.emit
        for y, key in parts:
            x = emit("Add", x, emit("MatMul", y, self.matrix(f"{key}.weight", self.state[f"{key}.weight"].T)))
        bias = np.sum([self.state[f"{key}.bias"] for _, key in parts], axis=0)
        return emit("Add", x, emit.weight(f"{parts[0][1]}.bias", bias[None, None, None]))

    def linear(self, x: str, name: str, weight: F32, bias: F32) -> str:
        product = self.emit("MatMul", x, self.matrix(f"{name}.weight", weight.T))
        return self.emit("Add", product, self.emit.weight(f"{name}.bias", bias[None, None, None]))

    def matrix(self, name: str, value: F32) -> str:
        """A matrix, in half precision where all of them would be too large."""
        if not self.halved:
            return self.emit.weight(name, value)
        if np.abs(value).max() > np.finfo(np.float16).max:
            raise InputError(
                f"the encoder's {name} has a number beyond half precision, in which so large an encoder is kept"
            )
        return self.emit("Cast", self.emit.weight(name, value.astype(np.float16)), output=f"{name}.float", to=FLOAT32)

    def norm(self, x: str, key: str) -> str:
        emit = self.emit
        gain, bias = (emit.weight(f"{key}.{part}", self.state[f"{key}.{part}"]) for part in ("weight", "bias"))
        return emit("LayerNormalization", x, gain, bias, axis=-1, epsilon=NORM_EPS)
