"""A second, tiny network that only tests know: it comes in through the door of `mrs.export.architectures`.

Unlike the first it is told of the whole picture: a conditioner gives a vector that scales the channels in its middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from onnx import ModelProto
from torch import Tensor, nn

import mrs
from mrs.export import checkpoint
from mrs.export.architectures import Conditioner
from mrs.export.graph_variant import GraphVariant
from mrs.export.onnx_writer import F32, Emitter
from mrs.kernels.table import Table
from mrs.runtime.conditioner import scaled
from mrs.runtime.plan import Plan
from mrs.runtime.system import machine

CHANNELS, SIDE, LENGTH = 3, 8, 5


@dataclass(frozen=True)
class ToneNet:
    """See `mrs.export.architectures.protocol.Architecture`.

    Args:
        width: channels at full resolution.
    """

    condition: ClassVar[bool] = True
    in_variants: ClassVar[bool] = False
    calibration_side: ClassVar[int] = 256
    # Of its own conditioner's, not of an encoder's features.
    context: ClassVar[int] = 0
    latent: ClassVar[bool] = False
    lensed: ClassVar[bool] = False
    name: ClassVar[str] = "ToneNet"
    padding: ClassVar[Literal["zero", "reflect"]] = "zero"
    channels: ClassVar[int] = CHANNELS
    multiple: ClassVar[int] = 2

    width: int

    @property
    def bytes_per_pixel_on(self) -> dict[str, int]:
        return {}

    @property
    def bytes_per_pair(self) -> float:
        return 0.0

    @property
    def bytes_per_pixel(self) -> int:
        return 4 * 8 * self.width

    @property
    def summary(self) -> str:
        return f"width {self.width}"

    @classmethod
    def detect(cls, state: Mapping[str, Tensor], source: str) -> ToneNet | None:
        return cls(state["intro.weight"].shape[0]) if {"tone.weight", "intro.weight"} <= state.keys() else None

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        w = self.width
        convolutions = {
            "intro": (w, 2 * CHANNELS, 3, 3), "down": (2 * w, w, 2, 2), "tone": (2 * w, LENGTH, 1, 1),
            "up": (4 * w, 2 * w, 1, 1), "ending": (CHANNELS, w, 3, 3), "look": (LENGTH, CHANNELS, 3, 3),
        }  # fmt: skip
        shapes: dict[str, tuple[int, ...]] = {f"{key}.weight": shape for key, shape in convolutions.items()}
        shapes |= {f"{key}.bias": shape[:1] for key, shape in convolutions.items()}
        return {**shapes, "time.weight": (2 * w, 2), "time.bias": (2 * w,)}

    def module(self) -> Net:
        return Net(self)

    def modulation(self, net: Net, times: Sequence[float]) -> F32:
        with torch.no_grad():
            return net.shift(torch.tensor(times, dtype=torch.float32)).numpy()

    def graph(self, state: Mapping[str, F32], variant: GraphVariant) -> ModelProto:
        emit = Emitter(state)
        full = emit.conv("packed", "intro", pads=1)
        middle = emit("Mul", emit.conv(full, "down", strides=2), emit.conv("context", "tone"))
        up = emit.conv(emit("Add", middle, "modulation"), "up")
        y = emit("Add", full, emit("DepthToSpace", up, blocksize=2, mode="CRD"))
        emit.conv(y, "ending", pads=1, output="output")
        inputs = {
            "packed": ["batch", 2 * CHANNELS, "height", "width"],
            "modulation": [1, 2 * self.width, 1, 1],
            "context": ["batch", LENGTH, 1, 1],
        }
        return emit.model(self.name, inputs, ["batch", CHANNELS, "height", "width"])

    def conditioner(self, state: Mapping[str, F32], encoder: object = None) -> Conditioner:
        emit = Emitter(state)
        emit("GlobalAveragePool", emit.conv("packed", "look", pads=1), output="output")
        model = emit.model("look", {"packed": ["batch", CHANNELS, SIDE, SIDE]}, ["batch", LENGTH, 1, 1])
        return Conditioner(model, SIDE, LENGTH)

    def to_dict(self) -> dict[str, Any]:
        return {"width": self.width}


class Net(nn.Module):
    """The same in torch."""

    def __init__(self, arch: ToneNet) -> None:
        super().__init__()
        w = arch.width
        self.arch = arch
        self.intro, self.down = nn.Conv2d(2 * CHANNELS, w, 3, padding=1), nn.Conv2d(w, 2 * w, 2, stride=2)
        self.tone, self.up = nn.Conv2d(LENGTH, 2 * w, 1), nn.Conv2d(2 * w, 4 * w, 1)
        self.ending, self.look = nn.Conv2d(w, CHANNELS, 3, padding=1), nn.Conv2d(CHANNELS, LENGTH, 3, padding=1)
        self.time = nn.Linear(2, 2 * w)

    def shift(self, t: Tensor) -> Tensor:
        """(len(t), 2 w), which depends on time alone."""
        return self.time(torch.stack([torch.sin(t / 20), torch.cos(t / 20)], dim=1))

    def condition(self, pictures: Tensor) -> Tensor:
        """The context, (N, LENGTH), of pictures (N, C, SIDE, SIDE)."""
        with torch.no_grad():
            return self.look(pictures).mean(dim=(2, 3))

    def forward(self, x: Tensor, mu: Tensor, t: float, context: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        packed = F.pad(torch.cat([x - mu, mu], dim=1), (0, -width % 2, 0, -height % 2))
        full = self.intro(packed)
        middle = self.down(full) * self.tone(context[:, :, None, None])
        middle = middle + self.shift(torch.tensor([t]))[:, :, None, None]
        return self.ending(full + F.pixel_shuffle(self.up(middle), 2))[..., :height, :width]


def drawn() -> Net:
    """The network with random weights that give pictures."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        net = Net(ToneNet(4)).eval()
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
        # What the picture's tone does must be seen in the result.
        net.look.weight.mul_(4)
        net.ending.weight.mul_(0.2)
        net.ending.bias.fill_(0.5)
    return net


def write(path: Path, metadata: Mapping[str, Any]) -> Net:
    """A checkpoint of it; returns the network."""
    net = drawn()
    checkpoint.save(path, net.state_dict(), metadata)
    return net


def graph_of(net: Net) -> bytes:
    """The network as ONNX."""
    return net.arch.graph(_weights(net), GraphVariant("layernorm", "split")).SerializeToString()


def plan_of(net: Net, table: Table, backend: str, shape: tuple[int, int, int]) -> Plan:
    """A plan in float32 without an engine, with the fields that a restore reads; the shape is (N, H, W), padded."""
    arch, conditioner = net.arch, net.arch.conditioner(_weights(net))
    manifest = {
        "network": {
            "architecture": arch.name, "channels": CHANNELS, "multiple": arch.multiple,
            "bytes_per_pixel": arch.bytes_per_pixel,
        },
        "conditioner": {"side": SIDE, "length": LENGTH},
        "table": {
            "times": list(table.times), "rows": [list(row) for row in table.rows], "start": table.start,
            "clamp": table.clamp,
        },
        "shape": list(shape), "backend": backend, "precision": "fp32",
        "fingerprint": machine.fingerprint(backend, "none"),
    }  # fmt: skip
    modulation = arch.modulation(net, table.times[:-1])
    return Plan(manifest, graph_of(net), modulation, conditioner=conditioner.graph.SerializeToString())


def by_reference(net: Net, table: Table, picture: np.ndarray[Any, Any], context: Any = None, seed: int = 0) -> Any:
    """(N, H, W, C) or (H, W, C) in [0, 1], restored by torch and the reference loop; `context` of others, if given."""
    pictures = picture.reshape(-1, *picture.shape[-3:])
    told = torch.cat([context_of(net, each) for each in pictures]) if context is None else context
    mu = pictures.transpose(0, 3, 1, 2)

    def denoise(x: Any, mu: Any, t: float) -> Any:
        with torch.no_grad():
            return net(torch.from_numpy(x), torch.from_numpy(mu), t, told).numpy()

    return mrs.sample(denoise, np.ascontiguousarray(mu), table, seed=seed).transpose(0, 2, 3, 1).reshape(picture.shape)


def _weights(net: Net) -> dict[str, F32]:
    return {key: value.numpy() for key, value in net.state_dict().items()}


def context_of(net: Net, picture: np.ndarray[Any, Any]) -> Tensor:
    """The context of a picture (H, W, C) in [0, 1] by torch."""
    return net.condition(torch.from_numpy(scaled(picture, SIDE)[None]))
