"""Pictures as latents and back: the two graphs around a network that restores latents, compiled for one size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from mrs.kernels.update import Pixels, mirror
from mrs.runtime import backends
from mrs.runtime.backends.protocol import F32, Graph, GraphCompiler
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.conditioner import ENGINES
from mrs.runtime.errors import BackendError
from mrs.runtime.padding import padded_size
from mrs.runtime.plan import Plan

Shape = tuple[int, int, int, int]
# From an ONNX model, its inputs by name and the lengths of the sides that it leaves open; see `protocol.GraphCompiler`.
Compile = Callable[[bytes, Mapping[str, Any], Mapping[str, int]], Graph]


@dataclass(frozen=True)
class Codec:
    """An encoder from pictures to latents, and the decoder back.

    Attributes:
        encoder: an ONNX model from `picture`, (N, C, H, W) float32, to `latent` and the hidden states.
        decoder: an ONNX model from these to `output`, (N, C, H, W).
        multiple: of H and W; pictures are mirrored up to it.
        scale: by which sides of latents are smaller.
        latent: channels of latents.
        network_multiple: of the sides that the network takes, which latents are padded to.
    """

    encoder: bytes
    decoder: bytes
    multiple: int
    scale: int
    latent: int
    network_multiple: int

    def packed(self, shape: Shape) -> Shape:
        """Of `packed`, the network's input, for pictures (N, C, H, W) of any size."""
        height, width = padded_size(*shape[2:], self.multiple)
        sides = padded_size(height // self.scale, width // self.scale, self.network_multiple)
        return (shape[0], 2 * self.latent, *sides)

    def sides(self, planes: Shape) -> dict[str, int]:
        """The sides that the graphs leave open, by their names, for pictures (N, C, H, W), padded."""
        sides = {"batch": planes[0], "height": planes[2], "width": planes[3]}
        for by in (2**level for level in range(1, self.scale.bit_length())):
            sides |= {f"height_{by}": planes[2] // by, f"width_{by}": planes[3] // by}
        return sides

    def compile(self, shape: Shape, threads: int) -> Coder:
        """On a CPU, for all pictures (N, C, H, W) that are padded to one size.

        Raises:
            BackendError: where no engine for CPUs takes the graphs.
        """
        return Coder(self, shape, threads)


def codec_of(plan: Plan) -> Codec | None:
    """A plan's; None where its network restores pictures themselves."""
    said, network = plan.facts.latent, plan.facts.network
    if said is None or plan.encoder is None or plan.decoder is None:
        return None
    return Codec(plan.encoder, plan.decoder, said.multiple, said.scale, network.channels, network.multiple)


class Coder:
    """The compiled pair, with buffers of its own. What it encoded last it decodes: the hidden states stay where they
    are. One thread at a time.

    Args:
        codec: the graphs.
        shape: (N, C, H, W) of pictures; all that are padded to the same size are taken.
        threads: most threads to use.
    """

    def __init__(self, codec: Codec, shape: Shape, threads: int) -> None:
        found = next((backends.get(name) for name in ENGINES if backends.get(name).missing() is None), None)
        if found is None:
            raise BackendError(f"{' and '.join(ENGINES)} are not there", hint="pip install openvino")
        engine = cast(GraphCompiler, found)
        planes = (*shape[:2], *padded_size(*shape[2:], codec.multiple))
        self._picture, sides, settings = np.zeros(planes, np.float32), codec.sides(planes), CompileSettings(threads)
        self._encoder = engine.compile_graph(codec.encoder, {"picture": self._picture}, sides, settings)
        made = dict(self._encoder.outputs)
        self._latent = np.zeros_like(made.pop("latent"))
        self._decoder = engine.compile_graph(codec.decoder, {"latent": self._latent, **made}, sides, settings)

    def encode(self, pictures: Pixels) -> F32:
        """The latents, (N, latent, H', W'), valid until the next call.

        Args:
            pictures: (N, H, W, C), uint8, or float32 in [0, 1].
        """
        height, width = pictures.shape[1:3]
        planes = pictures.transpose(0, 3, 1, 2)
        inside = self._picture[:, :, :height, :width]
        np.divide(planes, np.float32(255 if pictures.dtype == np.uint8 else 1), out=inside, dtype=np.float32)
        mirror(self._picture, (height, width))
        self._encoder.evaluate()
        return self._encoder.outputs["latent"]

    def decode(self, latents: F32, size: tuple[int, int]) -> F32:
        """The pictures, (N, C, H, W), of latents and of what the encoder saw of the degraded pictures.

        Args:
            latents: (N, latent, H', W').
            size: (H, W).
        """
        self._latent[...] = latents
        self._decoder.evaluate()
        return np.ascontiguousarray(self._decoder.outputs["output"][:, :, : size[0], : size[1]])
