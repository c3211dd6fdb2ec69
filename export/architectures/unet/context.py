"""What DA-CLIP's features of a picture come to, in ONNX: constant over the pixels and over all steps.

The vector `context` holds what the features of the degradation add to the embedded time, where there is a prompt, then
what the features of the picture add in each transformer, in the order of execution: its attention to them has a single
key, whose softmax is 1 whatever the query, so that to_out(to_v(features)) is all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from mrs.export.architectures.protocol import Conditioner
from mrs.export.architectures.unet.config import Config, transformer_names
from mrs.export.onnx_writer import F32, Emitter
from mrs.runtime.errors import InputError


class Encoder(Protocol):
    """What gives the features of a picture.

    Attributes:
        side: of the pictures that it takes.
        length: of both features.
    """

    @property
    def side(self) -> int: ...

    @property
    def length(self) -> int: ...

    def features(self, emit: Emitter, picture: str, *, image: bool = True, degradation: bool = True) -> tuple[str, str]:
        """Add its nodes from a picture, (N, 3, side, side) float32 in [0, 1], made to fit as CLIP's are.

        Returns the names of the features of the picture and of its degradation, (N, length, 1, 1) each; "" for those
        that are not wanted, of which there are no nodes.
        """


def context_size(config: Config) -> int:
    """Length of the vector; 0 for a network that is told of no features."""
    return (config.time if config.prompt else 0) + sum(channels for _, channels in transformer_names(config))


def conditioner_of(state: Mapping[str, F32], config: Config, encoder: Encoder) -> Conditioner:
    """An encoder and what its features come to in a network, as one graph.

    Raises:
        InputError: where the network was trained with features of another length.
    """
    if encoder.length != config.context:
        raise InputError(
            f"the encoder's features are of {encoder.length} numbers; the network takes {config.context}",
            hint="use the encoder that it was trained with",
        )
    emit = Emitter()
    features = encoder.features(emit, "packed", image=config.image, degradation=config.prompt)
    context_graph(emit, state, config, *features)
    sides: list[int | str] = ["batch", config.channels, encoder.side, encoder.side]
    length = context_size(config)
    model = emit.model("conditioner", {"packed": sides}, ["batch", length, 1, 1])
    return Conditioner(model, encoder.side, length, resize="clip")


def context_graph(
    emit: Emitter,
    state: Mapping[str, F32],
    config: Config,
    image_feature: str,
    degradation_feature: str,
    output: str = "output",
) -> str:
    """Add the nodes from both features, (N, context, 1, 1), to the vector, (N, `context_size`, 1, 1); its name.

    Args:
        emit: whose own weights do not matter.
        state: the network's weights.
        config: the network's.
        image_feature, degradation_feature: names of values; one that the network does not use is not read.
        output: name for the vector.
    """
    transformers = [name for name, _ in transformer_names(config)]
    made = []
    if config.prompt:
        y = _linear(emit, state, degradation_feature, "text_mlp.0")
        y = _linear(emit, state, emit("Mul", y, emit("Sigmoid", y)), "text_mlp.2")
        shares = emit("Softmax", emit("Transpose", y, perm=[0, 2, 3, 1]), axis=-1)
        y = emit(
            "Mul",
            emit("Transpose", shares, perm=[0, 3, 1, 2]),
            emit.weight("prompt", state["prompt"][:, :, None, None]),
        )
        made.append((y, "prompt_mlp", state["prompt_mlp.weight"], state["prompt_mlp.bias"]))
    if transformers:
        blocks = [f"{name}.transformer_blocks.0.attn2" for name in transformers]
        # Two matrices in a row are one, and all transformers' are one for the same features.
        weights = [
            state[f"{block}.to_out.0.weight"].astype(np.float64) @ state[f"{block}.to_v.weight"] for block in blocks
        ]
        bias = np.concatenate([state[f"{block}.to_out.0.bias"] for block in blocks])
        made.append((image_feature, "vectors", np.concatenate(weights).astype(np.float32), bias))
    if len(made) == 1:
        return _conv(emit, *made[0], output)
    # Each makes its part of the vector, and zeros in the place of the other.
    before, after = (len(bias) for _, _, _, bias in made)
    margins = ((0, after), (before, 0))
    parts = [
        _conv(emit, x, name, np.pad(weight, (margin, (0, 0))), np.pad(bias, margin))
        for (x, name, weight, bias), margin in zip(made, margins, strict=True)
    ]
    return emit("Add", *parts, output=output)


def _linear(emit: Emitter, state: Mapping[str, F32], x: str, key: str) -> str:
    return _conv(emit, x, key, state[f"{key}.weight"], state[f"{key}.bias"])


def _conv(emit: Emitter, x: str, name: str, weight: F32, bias: F32, output: str = "") -> str:
    """A matrix as a 1x1 convolution of vectors (N, C, 1, 1)."""
    inputs = emit.weight(f"{name}.weight", weight[:, :, None, None]), emit.weight(f"{name}.bias", bias)
    return emit(
        "Conv", x, *inputs, output=output, kernel_shape=[1, 1], pads=[0] * 4, strides=[1, 1], group=1
    )  # fmt: skip
