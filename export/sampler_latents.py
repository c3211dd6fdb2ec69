"""Pictures as latents and back in a graph of the whole sampler: the encoder before its rows, the decoder after them."""

from __future__ import annotations

import numpy as np
import onnx

from mrs.export.sampler_nodes import SamplerEmitter
from mrs.export.sampler_shapes import with_shapes
from mrs.runtime.codec import Codec

# Names of the sides of latents, and of pictures that are mirrored up to the encoder's multiple.
LATENT = ("latent_height", "latent_width")
MIRRORED = ("mirrored_height", "mirrored_width")


class Latents:
    """Of one picture, and the picture of those.

    Args:
        emit: what is written.
        codec: the graphs.
        planes: name of the picture, (N, C, H, W) in [0, 1].

    Attributes:
        channels: of pictures.
        encoded: name of the latent.
    """

    def __init__(self, emit: SamplerEmitter, codec: Codec, planes: str) -> None:
        self._emit = emit
        encoder, self._decoder = (self._graph(codec, part) for part in (codec.encoder, codec.decoder))
        self.channels: int = encoder.input[0].type.tensor_type.shape.dim[1].dim_value
        self._sides = emit("Shape", planes, start=2)
        for axis in (2, 3):
            planes = self._mirrored(planes, axis, codec.multiple)
        emit.shaped(planes, "batch", self.channels, *MIRRORED)
        self._hidden = emit.parts(encoder, "encoder", {"picture": planes}, shared=False)
        self.encoded = self._hidden.pop("latent")

    def decoded(self, latent: str) -> str:
        """Name of the picture of a latent, (N, C, H, W), and of what the encoder saw."""
        inputs, emit = {"latent": latent, **self._hidden}, self._emit
        restored = emit.copy(self._decoder, "decoder", inputs, shared=False)
        restored = emit("Slice", restored, emit.whole(0, 0), self._sides, emit.whole(2, 3))
        return emit.shaped(restored, "batch", self.channels, "height", "width")

    @staticmethod
    def _graph(codec: Codec, content: bytes) -> onnx.GraphProto:
        names = {f"{side}/{codec.scale}": latent for side, latent in zip(MIRRORED, LATENT, strict=True)}
        return with_shapes(onnx.load_from_string(content), MIRRORED, codec.multiple, names)

    def _mirrored(self, planes: str, axis: int, multiple: int) -> str:
        """With a side mirrored up to a multiple, to and fro where it is short; see `mrs.kernels.update.mirror`."""
        emit = self._emit
        side = emit("Gather", self._sides, emit.constant(np.array(axis - 2, np.int64)))
        missing = emit("Mod", emit("Neg", side), emit.constant(np.array(multiple, np.int64)))
        zero, one, two = (emit.constant(np.array(number, np.int64)) for number in range(3))
        period = emit("Max", one, emit("Mul", two, emit("Sub", side, one)))
        place = emit("Mod", emit("Range", zero, emit("Add", side, missing), one), period)
        return emit("Gather", planes, emit("Min", place, emit("Sub", period, place)), axis=axis)
