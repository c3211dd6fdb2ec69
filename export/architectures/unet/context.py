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
    # A single part is the whole vector.
    alone = output if config.prompt + len(transformers) == 1 else ""
    parts = []
    if config.prompt:
        y = _linear(emit, state, degradation_feature, "text_mlp.0")
        y = _linear(emit, state, emit("Mul", y, emit("Sigmoid", y)), "text_mlp.2")
        prompt = emit.weight("prompt", state["prompt"][:, :, None, None])
        parts.append(_linear(emit, state, emit("Mul", emit("Softmax", y, axis=1), prompt), "prompt_mlp", alone))
    for name in transformers:
        block = f"{name}.transformer_blocks.0.attn2"
        value, made = state[f"{block}.to_v.weight"], state[f"{block}.to_out.0.weight"]
        # Two matrices in a row are one.
        weight = (made.astype(np.float64) @ value).astype(np.float32)
        parts.append(_conv(emit, image_feature, block, weight, state[f"{block}.to_out.0.bias"], alone))
    return alone or emit("Concat", *parts, output=output, axis=1)


def _linear(emit: Emitter, state: Mapping[str, F32], x: str, key: str, output: str = "") -> str:
    return _conv(emit, x, key, state[f"{key}.weight"], state[f"{key}.bias"], output)


def _conv(emit: Emitter, x: str, name: str, weight: F32, bias: F32, output: str) -> str:
    """A matrix as a 1x1 convolution of vectors (N, C, 1, 1)."""
    inputs = emit.weight(f"{name}.weight", weight[:, :, None, None]), emit.weight(f"{name}.bias", bias)
    return emit(
        "Conv", x, *inputs, output=output, kernel_shape=[1, 1], pads=[0] * 4, strides=[1, 1], group=1
    )  # fmt: skip
