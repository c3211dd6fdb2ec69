"""A ConditionalUNet as an ONNX graph, written node by node so that engines see what they fuse.

Inputs: `packed` (N, 2C, H, W) float32, x - mu in the first C planes and mu in the others, H and W multiples of the
network's; `modulation` (1, M, 1, 1) float32, see modulation.py; `context` (N, K, 1, 1) float32, see context.py, where
the network is told of features. Output: `output` (N, C, H, W) float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx

from mrs.export.architectures.unet.attention_graph import AttentionEmitter
from mrs.export.architectures.unet.config import Config, block_names, transformer_names
from mrs.export.architectures.unet.context import context_size
from mrs.export.architectures.unet.modulation import modulation_size
from mrs.export.onnx_writer import F32


def build_graph(state: Mapping[str, F32], config: Config) -> onnx.ModelProto:
    """The network as a checked ONNX model, for any size and batch.

    Args:
        state: float32 weights under the published keys.
        config: their hyper-parameters.
    """
    emit = UNetEmitter(state)
    vectors, told = emit.inputs(config)
    full = y = emit.first(config)
    if config.half:
        y = emit.conv(y, "downsample", pads=1, strides=2)
    skips: list[str] = []
    for level in range(config.levels):
        transformer = level >= config.first_transformer
        y = emit.block([y], f"downs.{level}.0", vectors)
        skips.append(y)
        y = emit.block([y], f"downs.{level}.1", vectors)
        y = emit.attention(y, f"downs.{level}.2.fn", "transformer" if transformer else "linear", told)
        skips.append(y)
        y = emit.conv(y, f"downs.{level}.3", pads=1, strides=1 if level == config.levels - 1 else 2)
    y = emit.block([y], "mid_block1", vectors)
    y = emit.attention(y, "mid_attn.fn", config.middle, told)
    y = emit.block([y], "mid_block2", vectors)
    for up, level in enumerate(reversed(range(config.levels))):
        transformer = level >= config.first_transformer
        for i in range(2):
            y = emit.block([y, skips.pop()], f"ups.{up}.{i}", vectors)
        y = emit.attention(y, f"ups.{up}.2.fn", "transformer" if transformer else "linear", told)
        y = emit.enlarged(y, f"ups.{up}.3.1") if level else emit.conv(y, f"ups.{up}.3", pads=1)
    if config.half:
        y = emit.enlarged(y, "upsample.1")
    y = emit.block([y, full], "final_res_block", vectors)
    emit.conv(y, "final_conv", pads=1, output="output")
    sides = ["height", "width"]
    inputs: dict[str, list[int | str]] = {
        "packed": ["batch", 2 * config.channels, *sides], "modulation": [1, modulation_size(config), 1, 1],
    }  # fmt: skip
    if context_size(config):
        inputs["context"] = ["batch", context_size(config), 1, 1]
    return emit.model("ConditionalUNet", inputs, ["batch", config.channels, *sides])


class UNetEmitter(AttentionEmitter):
    """The blocks of this network."""

    def inputs(self, config: Config) -> tuple[dict[str, tuple[str, str]], Iterator[str]]:
        """The two vectors of each block, and those of the transformers in the order of execution."""
        told = [channels for _, channels in transformer_names(config)]
        lengths = [config.time] * config.prompt + told
        names = ["context"] if len(lengths) == 1 else self._cut("context", lengths) if lengths else []
        modulation = self._blocks_of(config, names.pop(0)) if config.prompt else "modulation"
        blocks = list(block_names(config))
        cut = self._cut(modulation, [made for _, _, made in blocks for _ in range(2)])
        vectors = {name: (cut[2 * i], cut[2 * i + 1]) for i, (name, _, _) in enumerate(blocks)}
        return vectors, iter(names)

    def _cut(self, x: str, lengths: list[int]) -> list[str]:
        cut = self("Split", x, self.whole(*lengths), outputs=len(lengths), axis=1)
        return [f"{cut}.{i}" for i in range(len(lengths))]

    def _blocks_of(self, config: Config, prompt: str) -> str:
        """All blocks' vectors from the embedded time and what the prompt adds: their layers as one."""
        time = self.silu(self("Add", prompt, "modulation"))
        layers = [(self.state[f"{name}.mlp.1.weight"], self.state[f"{name}.mlp.1.bias"], made)
                  for name, _, made in block_names(config)]  # fmt: skip
        # The first half are scales, to which 1 is added.
        bias = np.concatenate([bias + (np.arange(2 * made) < made) for _, bias, made in layers]).astype(np.float32)
        return self.conv(time, self.derived("mlps", np.concatenate([weight for weight, _, _ in layers]), bias))

    def first(self, config: Config) -> str:
        """The convolution at full resolution; where there is no condition, of x = (x - mu) + mu."""
        weight = self.state["init_conv.weight"]
        weight = weight if config.condition else np.concatenate([weight, weight], axis=1)
        return self.conv("packed", self.derived("init_conv", weight), pads=3)

    def derived(self, key: str, weight: F32, bias: F32 | None = None) -> str:
        """Keep weights that were made of others, as of a convolution; their key."""
        self.state[f"{key}.weight"] = weight.reshape(*weight.shape[:2], *(weight.shape[2:] or (1, 1)))
        if bias is not None:
            self.state[f"{key}.bias"] = bias
        return key

    def silu(self, x: str) -> str:
        """x times its sigmoid."""
        return self("Mul", x, self("Sigmoid", x))

    def block(self, parts: list[str], key: str, vectors: Mapping[str, tuple[str, str]]) -> str:
        """One residual block of what is concatenated of these parts; see module.py for the same in torch."""
        gain, shift = vectors[key]
        y = self.of_parts(parts, f"{key}.block1.proj", pads=1)
        y = self.silu(self("Add", self("Mul", y, gain), shift))
        y = self.silu(self.conv(y, f"{key}.block2.proj", pads=1))
        through = f"{key}.res_conv.weight" in self.state
        return self("Add", y, self.of_parts(parts, f"{key}.res_conv") if through else parts[0])

    def of_parts(self, parts: list[str], key: str, pads: int = 0) -> str:
        """A convolution of values beside each other as the sum of one for each: nothing is copied."""
        if len(parts) == 1:
            return self.conv(parts[0], key, pads=pads)
        weight = self.state[f"{key}.weight"]
        # Of a decoder's two values the first has as many channels as are made.
        cut = weight.shape[0]
        left, right = self.derived(f"{key}.x", weight[:, :cut]), self.derived(f"{key}.skip", weight[:, cut:])
        return self("Add", self.conv(parts[0], left, pads=pads), self.conv(parts[1], right, pads=pads))

    def enlarged(self, x: str, key: str) -> str:
        """A 3x3 convolution of x twice as large, each pixel four times, as one that spreads x itself.

        Of its three factors in each direction two meet the same pixel, above or below: a pixel goes to four places by
        sixteen factors instead of thirty-six.
        """
        weight = self.state[f"{key}.weight"].transpose(1, 0, 2, 3).astype(np.float64)
        for _ in range(2):
            # Of one direction, the last; then of the other.
            first, middle, last = np.moveaxis(weight, 3, 0)
            weight = np.stack([last, middle + last, first + middle, first], axis=2)
        inputs = self.weight(f"{key}.weight", weight.astype(np.float32)), self.weight(key, self.state[f"{key}.bias"])
        return self("ConvTranspose", x, *inputs, kernel_shape=[4, 4], pads=[1] * 4, strides=[2, 2], group=1)
