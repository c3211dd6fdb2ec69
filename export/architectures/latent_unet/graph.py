"""The latent pair's UNet as two ONNX graphs, for pictures of any size and batch.

The encoder goes from `picture`, (N, C, H, W) float32 with H and W multiples of `Autoencoder.multiple`, to `latent` and
`hidden_0`, `hidden_1`, ...; the decoder from these to `output`, (N, C, H, W). Sides that are smaller by 2^k are named
`height_2^k` and `width_2^k`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from mrs.export.architectures.latent_unet.config import Autoencoder
from mrs.export.architectures.unet.graph import UNetEmitter
from mrs.export.onnx_writer import F32

Sides = Sequence[int | str]


def encoder_graph(state: Mapping[str, F32], arch: Autoencoder) -> onnx.ModelProto:
    """From a picture to its latent and hidden states, as a checked ONNX model.

    Args:
        state: float32 weights under the published keys.
        arch: their hyper-parameters.
    """
    emit = _Emitter(state)
    hidden = _hidden(arch)
    names = iter(hidden)
    y = emit.conv("picture", "init_conv", pads=1, output=next(names))
    for level in range(arch.levels):
        last = level == arch.levels - 1
        y = emit.plain([y], f"encoder.{level}.0", output=next(names))
        if last:
            y = emit.plain([y], f"encoder.{level}.1")
            y = emit.attended(y, f"encoder.{level}.2.fn", output=next(names))
        else:
            y = emit.plain([y], f"encoder.{level}.1", output=next(names))
        y = emit.conv(y, f"encoder.{level}.3", pads=1, strides=1 if last else 2)
    emit.conv(y, "latent_conv", output="latent")
    return emit.model("encoder", {"picture": _sides(arch.channels, 1)}, {"latent": _latent(arch), **hidden})


def decoder_graph(state: Mapping[str, F32], arch: Autoencoder) -> onnx.ModelProto:
    """From a latent and hidden states to a picture; see `encoder_graph`."""
    emit = _Emitter(state)
    hidden = _hidden(arch)
    first, *names = hidden
    y = emit.conv("latent", "post_latent_conv")
    for up, level in enumerate(reversed(range(arch.levels))):
        for index in range(2):
            y = emit.plain([y, names.pop()], f"decoder.{up}.{index}")
        if up == 0:
            y = emit.attended(y, f"decoder.{up}.2.fn")
        y = emit.enlarged(y, f"decoder.{up}.3.1") if level else emit.conv(y, f"decoder.{up}.3", pads=1)
    emit.conv(emit("Add", y, first), "final_conv", pads=1, output="output")
    return emit.model("decoder", {"latent": _latent(arch), **hidden}, _sides(arch.channels, 1))


def _hidden(arch: Autoencoder) -> dict[str, Sides]:
    """The hidden states by name."""
    return {f"hidden_{index}": _sides(channels, by) for index, (channels, by) in enumerate(arch.hidden)}


def _latent(arch: Autoencoder) -> Sides:
    return _sides(arch.latent, arch.scale)


def _sides(channels: int, by: int) -> Sides:
    return ["batch", channels, *(side if by == 1 else f"{side}_{by}" for side in ("height", "width"))]


class _Emitter(UNetEmitter):
    """The blocks of this network, which time has no say in."""

    def plain(self, parts: list[str], key: str, output: str = "") -> str:
        """One residual block of what is concatenated of these parts; see module.py for the same in torch."""
        y = self.silu(self.of_parts(parts, f"{key}.block1.proj", pads=1))
        y = self.silu(self.conv(y, f"{key}.block2.proj", pads=1))
        through = f"{key}.res_conv.weight" in self.state
        return self("Add", y, self.of_parts(parts, f"{key}.res_conv") if through else parts[0], output=output)

    def attended(self, x: str, key: str, output: str = "") -> str:
        """x and a linear attention of its norm."""
        y = self.attention(x, key, "linear", iter(()))
        if output:
            # The last node of an attention adds x.
            self.nodes[-1].output[0] = output
        return output or y
