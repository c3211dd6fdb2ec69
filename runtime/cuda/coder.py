"""Pictures as latents and back on a GPU: the graphs around a network that restores latents, as a part of its list."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mrs.kernels.gpu import records
from mrs.kernels.gpu.finish import launch as finish_launch
from mrs.kernels.gpu.mirror import launch as mirror_launch
from mrs.kernels.gpu.start import launch as start_launch
from mrs.kernels.gpu.tables import FIELDS
from mrs.kernels.table import Row, Table
from mrs.runtime.backends.protocol import Network
from mrs.runtime.codec import Codec, Compile
from mrs.runtime.cuda.arena import Block, Spec
from mrs.runtime.cuda.nodes import Arrays, Node, audit_of, copy_of, kernel_of, nodes_of
from mrs.runtime.device import Device
from mrs.runtime.padding import padded_size

# A start without noise makes planes of a picture, a row that keeps the state makes a picture of planes.
KEEPS = Table((1.0, 0.0), (Row(*(float(name == "ax") for name in Row._fields)),), 0.0, "none")


class CudaCoder:
    """Encoder and decoder, compiled for one padded size, with the arrays around them.

    All chains of that size share it, on one stream. What it encoded last it decodes: hidden states stay where they are.

    Args:
        device: a `Cuda`.
        codec: the graphs.
        compiled: compiles them for tensors of the device, on the current stream.
        shape: (N, C, H, W) of pictures; all that are padded to the same size are taken.

    Raises:
        BackendError: where the engine takes no such graph.
    """

    def __init__(self, device: Device, codec: Codec, compiled: Compile, shape: tuple[int, int, int, int]) -> None:
        count, channels, *size = shape
        sides = padded_size(size[0], size[1], codec.multiple)
        planes = (count, channels, *sides)
        self._device = device
        with torch.inference_mode(False):
            around = Block(device.memory, {
                "planes": Spec(planes, torch.float32),
                "state": Spec(planes, torch.float32),
                # What a first network would read: nobody does.
                "packed": Spec((count, 2 * channels, *sides), torch.float16),
                "records": Spec((2, FIELDS), torch.float32),
            })  # fmt: skip
            self._planes, self._state, self._packed, self._records = (
                around[name] for name in ("planes", "state", "packed", "records")
            )
            device.copy(self._records, torch.from_numpy(records(KEEPS)))
            lengths = codec.sides(planes)
            self._encoder = compiled(codec.encoder, {"picture": self._planes}, lengths)
            made: Mapping[str, Tensor] = self._encoder.outputs
            self._encoded = made["latent"]
            height, width = self._encoded.shape[2:]
            between = Block(device.memory, {
                "latents": Spec((count, height, width, codec.latent), torch.float32),
                "latent": Spec((count, codec.latent, height, width), torch.float32),
            })  # fmt: skip
            self._latents, self._latent = between["latents"], between["latent"]
            self._decoder = compiled(codec.decoder, {**made, "latent": self._latent}, lengths)
            self._decoded: Tensor = self._decoder.outputs["output"]
            # Engines may have streams of their own, and chains work on theirs.
            device.wait(device.current())

    def nodes(self, network: Network, arrays: Arrays) -> list[Node]:
        """A restore from `source` to `result` by way of latents, as of `nodes_of`.

        Args:
            network: restores the latents.
            arrays: of which mu, x and history are latents, padded for the network.
        """
        device, a = self._device, arrays
        _, _, height, width = self._encoded.shape
        start = start_launch(a.source, self._planes, self._state, self._packed, self._records, a.key)
        mirror = mirror_launch(self._planes, (a.source.shape[1], a.source.shape[2]))
        # Everything but the decoder's planes counts nothing here, and is finite.
        finish = finish_launch(
            self._decoded, self._planes, self._state, self._state[None][:0], a.result, self._records, a.key, None, 0
        )
        return [
            kernel_of(device, "planes", -1, start),
            *([] if mirror is None else [kernel_of(device, "mirror", -1, mirror)]),
            Node("encoder", -1, self._encoder.evaluate, made=self._encoded),
            copy_of(device, "latent", self._latents, self._encoded.permute(0, 2, 3, 1)),
            *nodes_of(device, network, a, self._latents),
            copy_of(device, "latent", self._latent, a.x[:, :, :height, :width]),
            Node("decoder", -1, self._decoder.evaluate, made=self._decoded),
            audit_of(device, self._decoded, a.status, -1),
            kernel_of(device, "picture", -1, finish),
        ]
