"""ConditionalNAFNet as an ONNX graph, written node by node so that engines see what they fuse.

Inputs: `packed` (N, 2C, H, W) float32, x - mu in the first C planes and mu in the others, H and W multiples of the
network's; `modulation` (1, M, 1, 1) float32, the time-dependent vectors of one step (see modulation.py). Output:
`output` (N, C, H, W) float32. What is folded is a `GraphVariant`'s.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from mrs.export.architectures.nafnet.config import NORM_EPS, Config
from mrs.export.architectures.nafnet.modulation import block_names, modulation_size, vectors_per_block
from mrs.export.graph_variant import GraphVariant
from mrs.export.onnx_writer import F32, Emitter
from mrs.runtime.backends.protocol import MEANS
from mrs.runtime.errors import InputError


def build_graph(
    state: Mapping[str, F32],
    config: Config,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    variant: GraphVariant | None = None,
) -> onnx.ModelProto:
    """The network as a checked ONNX model.

    Args:
        state: float32 weights under the published keys.
        config: their hyper-parameters.
        size: (H, W) for a static graph, both multiples of `config.multiple`; None for any.
        batch: N for a static batch; None for any.
        variant: how to write it down.

    Raises:
        InputError: for a size that is not a multiple, or a network without blocks or with too many.
    """
    if size is not None and any(side <= 0 or side % config.multiple for side in size):
        raise InputError(f"graph size {size[0]}x{size[1]} is not a multiple of {config.multiple}")
    if not config.condition:
        # Its input is the state x = (x - mu) + mu, and both parts are packed.
        state = {**state, "intro.weight": np.concatenate([state["intro.weight"]] * 2, axis=1)}
    emit = _Emitter(state, variant or GraphVariant())
    sides: list[int | str] = list(size) if size else ["height", "width"]
    count: int | str = batch or "batch"

    names = dict(block_names(config))
    if not names:
        raise InputError("the network has no blocks", hint="it would not depend on time")
    vectors = emit.modulations(names, vectors_per_block(config))
    first = y = emit.conv("packed", "intro", pads=1)
    skips = []
    for level, blocks in enumerate(config.enc_blocks):
        for i in range(blocks):
            y = emit.block(y, f"encoders.{level}.{i}", vectors)
        skips.append(y)
        y = emit.conv(y, f"downs.{level}", strides=2)
    for i in range(config.mid_blocks):
        y = emit.block(y, f"middle_blks.{i}", vectors)
    for level, blocks in enumerate(config.dec_blocks):
        y = emit.conv(y, f"ups.{level}.0")
        y = emit("DepthToSpace", y, blocksize=2, mode="CRD")
        y = emit("Add", y, skips.pop())
        for i in range(blocks):
            y = emit.block(y, f"decoders.{level}.{i}", vectors)
    y = emit("Add", y, first) if config.outer_skip else y
    emit.conv(y, "ending", pads=1, output="output")
    channels = config.channels
    return emit.model(
        "ConditionalNAFNet",
        {
            "packed": [count, 2 * channels, *sides],
            "modulation": [1, modulation_size(config), 1, 1],
        },
        [count, channels, *sides],
    )


class _Emitter(Emitter):
    """The blocks of this network in one variant."""

    def __init__(self, state: Mapping[str, F32], variant: GraphVariant) -> None:
        super().__init__(state)
        self.variant = variant

    def modulations(self, blocks: Mapping[str, int], count: int) -> dict[str, list[str]]:
        """The vectors of each block, as many as `count`, cut from the graph's input."""
        sizes = self.whole(*(channels for channels in blocks.values() for _ in range(count)))
        cut = self("Split", "modulation", sizes, output="vectors", outputs=count * len(blocks), axis=1)
        return {block: [f"{cut}.{count * i + j}" for j in range(count)] for i, block in enumerate(blocks)}

    def block(self, x: str, key: str, vectors: Mapping[str, list[str]]) -> str:
        """One NAFBlock; see module.py for the same in torch."""
        shift_att, gain_att, shift_ffn, gain_ffn, *lenses = vectors[key]
        y = self.norm(x, f"{key}.norm1", gain_att, shift_att)
        y = self.gated(y, f"{key}.conv1", f"{key}.conv2")
        pooled = self.conv(self("GlobalAveragePool", y), f"{key}.sca.1")
        x = self("Add", x, self.scaled(self("Mul", y, pooled), f"{key}.conv3", f"{key}.beta"))
        y = self.norm(x, f"{key}.norm2", gain_ffn, shift_ffn)
        y = self.gated(y, f"{key}.conv4", None)
        if lenses:
            shift, gain = lenses
            y = self("Add", self("Mul", y, gain), shift)
        return self("Add", x, self.scaled(y, f"{key}.conv5", f"{key}.gamma"))

    def scaled(self, x: str, key: str, scale: str) -> str:
        """A convolution whose outputs are multiplied by a vector of the state, which its weights take."""
        return self.conv(x, key, scale=self.state[scale].reshape(-1))

    def gated(self, x: str, key: str, depthwise: str | None) -> str:
        """1x1 convolution, perhaps a 3x3 one per channel, and the product of both halves of the channels."""
        channels = self.state[f"{key}.weight"].shape[0]
        half = channels // 2
        if self.variant.gate == "split":
            y = self.conv(x, key)
            if depthwise:
                y = self.conv(y, depthwise, pads=1, group=channels)
            cut = self("Split", y, self.whole(half, half), outputs=2, axis=1)
            return self("Mul", f"{cut}.0", f"{cut}.1")
        halves = []
        for part in (slice(0, half), slice(half, channels)):
            y = self.conv(x, key, part=part)
            halves.append(self.conv(y, depthwise, pads=1, group=half, part=part) if depthwise else y)
        return self("Mul", *halves)

    def norm(self, x: str, key: str, gain: str, shift: str) -> str:
        """Layer norm over the channels, times `gain`, plus `shift`."""
        channels = self.state[f"{key}.g"].size
        if self.variant.norm == "layernorm":
            y = self("Transpose", x, perm=[0, 2, 3, 1])
            y = self("LayerNormalization", y, self.constant(np.ones(channels, np.float32)), axis=-1, epsilon=NORM_EPS)
            y = self("Transpose", y, perm=[0, 3, 1, 2])
        else:
            mean = self.mean(x, channels)
            centred = self("Sub", x, mean)
            if self.variant.norm == "raw":
                variance = self("Sub", self.mean_square(x, channels), self("Mul", mean, mean))
                # Rounding may leave a little less than nothing, which has no root.
                variance = self("Max", variance, self.number(0))
            elif self.variant.norm == "length":
                variance = self.mean_square(centred, channels)
            else:
                variance = self.mean(self("Mul", centred, centred), channels)
            y = self("Div", centred, self("Sqrt", self("Add", variance, self.number(NORM_EPS))))
        return self("Add", self("Mul", y, gain), shift)

    def mean(self, x: str, channels: int) -> str:
        """The mean over the channels."""
        if self.variant.norm in ("convolution", "raw"):
            weight = self.weight(f"{MEANS}{channels}", np.full((1, channels, 1, 1), 1 / channels, np.float32))
            return self("Conv", x, weight, kernel_shape=[1, 1], pads=[0] * 4, strides=[1, 1], group=1)
        return self("ReduceMean", x, self.whole(1), keepdims=1)

    def mean_square(self, x: str, channels: int) -> str:
        """The mean square over the channels, without a tensor of squares."""
        length = self("ReduceL2", x, self.whole(1), keepdims=1)
        return self("Mul", self("Mul", length, length), self.number(1 / channels))
