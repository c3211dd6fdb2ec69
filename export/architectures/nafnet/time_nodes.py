"""The network's time path as nodes of the graph: what modulation.py folds away, for engines and figures without it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mrs.export.onnx_writer import Emitter


def time_vectors(emit: Emitter, time: str, blocks: Mapping[str, int]) -> dict[str, list[str]]:
    """Shift and multiplier of each block's two norms, (1, C, 1, 1) each, in the order of `modulation_table`.

    Args:
        emit: the graph in the making.
        time: name of t, (1, 1, 1, 1).
        blocks: channels of each block.
    """
    # As SinusoidalEmbedding in module.py.
    half = emit.state["time_mlp.1.weight"].shape[1] // 2
    frequencies = np.exp(np.arange(half, dtype=np.float32) * np.float32(-math.log(10000.0) / (half - 1)))
    angle = emit("Mul", [time, emit.constant("frequencies", frequencies.reshape(1, half, 1, 1))])
    y = emit("Concat", [emit("Sin", [angle]), emit("Cos", [angle])], axis=1)
    embedded = _linear(emit, _gated(emit, _linear(emit, y, "time_mlp.1"), "time_mlp.3"), "time_mlp.3")
    vectors = {}
    for block, channels in blocks.items():
        made = _linear(emit, _gated(emit, embedded, f"{block}.mlp.1"), f"{block}.mlp.1")
        cut = emit(
            "Split", [made, emit.constant(f"four.{channels}", np.full(4, channels, np.int64))], outputs=4, axis=1
        )
        vectors[block] = [
            f"{cut}.0", _multiplier(emit, f"{cut}.1", f"{block}.norm1.g"),
            f"{cut}.2", _multiplier(emit, f"{cut}.3", f"{block}.norm2.g"),
        ]  # fmt: skip
    return vectors


def _linear(emit: Emitter, x: str, key: str) -> str:
    weight = emit.constant(f"{key}.weight", emit.state[f"{key}.weight"][:, :, None, None])
    bias = emit.constant(f"{key}.bias", emit.state[f"{key}.bias"])
    return emit("Conv", [x, weight, bias], kernel_shape=[1, 1], pads=[0] * 4, strides=[1, 1], group=1)


def _gated(emit: Emitter, x: str, key: str) -> str:
    """The product of both halves of the channels, as the weights under `key` take it."""
    half = emit.state[f"{key}.weight"].shape[1]
    cut = emit("Split", [x, emit.constant(f"two.{half}", np.full(2, half, np.int64))], outputs=2, axis=1)
    return emit("Mul", [f"{cut}.0", f"{cut}.1"])


def _multiplier(emit: Emitter, scale: str, gain: str) -> str:
    """g (1 + scale)."""
    one = emit.constant("one", np.array(1, np.float32))
    return emit("Mul", [emit("Add", [scale, one]), emit.constant(gain, emit.state[gain])])
