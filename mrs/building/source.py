"""A checkpoint as it will be used: its network, and the process that it was trained on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from onnx import ModelProto
from torch import nn

from mrs import degradations, presets
from mrs.building.made_for import (
    MadeFor,
    check_autoencoder,
    check_encoder,
    check_kind,
    noise_of,
    told_of_lenses,
    upscale_of,
)
from mrs.export.architectures import Architecture, Conditioner, detect, network_keys, network_of
from mrs.export.architectures.clip import EncoderWeights, normalised, read_encoder
from mrs.export.architectures.latent_unet import AutoencoderWeights, read_autoencoder
from mrs.export.checkpoint import Checkpoint, read_checkpoint
from mrs.export.graph_variant import GraphVariant, variants_of
from mrs.export.onnx_writer import F32
from mrs.kernels.update import Pixels
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import OUTPUTS, Solver
from mrs.runtime import backends
from mrs.runtime.codec import Codec
from mrs.runtime.conditioner import Conditioner as CompiledConditioner
from mrs.runtime.conditioner import scaled
from mrs.runtime.errors import CheckpointError
from mrs.runtime.padding import padded_size
from mrs.runtime.system import machine
from mrs.runtime.system.inputs import path_of

# Channels of a picture.
WEIGHTS = Path(__file__).parents[1] / "weights"
# Of a schedule, what belongs to the training. Its convention and its interpolation are a sampler's own habits: on the
# shipped weights both conventions restore equally well.
PROCESS = ("kind", "max_sigma", "eps", "T")


class Conditioned(Protocol):
    """The module of a network with a conditioner of its own, see `Architecture.module`."""

    def condition(self, pictures: torch.Tensor) -> torch.Tensor: ...


class Told(Protocol):
    """The module of a network that is told an encoder's features: what its conditioner makes of these."""

    def context(self, degradation: torch.Tensor, image: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Source:
    """A checkpoint with the process that holds for it.

    Attributes:
        path: of the file.
        checkpoint: what it holds.
        arch: the network that its weights are of.
        schedule: the process that the network was trained on.
        output: what the network predicts: `noise`, `data` or `velocity`.
        encoder: what gives the features of a picture that the network is told; None for networks that are told none.
        noise_sigma: of the pictures, in 0..255 units, for a network that takes noise away.
        preset: the published setting that it has its process from.
        upscale: by what pictures are enlarged before the process begins.
        autoencoder: what makes latents of pictures and back; None where the network restores pictures themselves.
    """

    path: Path
    checkpoint: Checkpoint
    arch: Architecture
    schedule: Schedule
    output: str
    encoder: EncoderWeights | None = None
    noise_sigma: float | None = None
    preset: str | None = None
    upscale: int = 1
    autoencoder: AutoencoderWeights | None = None

    @property
    def channels(self) -> int:
        """Of pictures."""
        return self.arch.channels if self.autoencoder is None else self.autoencoder.arch.channels

    @property
    def multiple(self) -> int:
        """To which the sides of pictures are padded."""
        return self.arch.multiple if self.autoencoder is None else self.autoencoder.arch.multiple

    @property
    def bytes_per_pixel(self) -> int:
        """Memory for one pixel of a picture."""
        if self.autoencoder is None:
            return self.arch.bytes_per_pixel
        coder = self.autoencoder.arch
        return coder.bytes_per_pixel + ceil(self.arch.bytes_per_pixel / coder.scale**2)

    @cached_property
    def codec(self) -> Codec | None:
        """What makes latents of pictures and back; None where the network restores pictures themselves."""
        if self.autoencoder is None:
            return None
        coder = self.autoencoder.arch
        return Codec(*self.autoencoder.graphs(), coder.multiple, coder.scale, coder.latent, self.arch.multiple)

    @cached_property
    def network(self) -> nn.Module:
        """The network with its weights, in evaluation mode.

        Raises:
            CheckpointError: where the weights do not fit.
        """
        return network_of(self.arch, self.checkpoint)

    @property
    def degradation(self) -> str | None:
        """What the network was trained against, by a name of `mrs.degradations`; None where that is not said."""
        recipe = self.checkpoint.metadata.get("recipe")
        name = recipe.get("degradation") if isinstance(recipe, dict) else None
        return name if isinstance(name, str) and name in degradations.DEGRADATIONS else None

    def evaluate(self, x: F32, mu: F32, time: float, picture: Pixels) -> F32:
        """One evaluation by torch, as the published code calls its network.

        Args:
            x, mu: (1, C, H, W); latents, where those are restored.
            time: in forward steps.
            picture: the whole degraded picture, (H, W, C), uint8, or float32 in [0, 1].
        """
        state = torch.from_numpy(x)
        with torch.no_grad():
            if not self.arch.condition:
                return np.asarray(self.network(state, time).numpy())
            return np.asarray(self.network(state, torch.from_numpy(mu), time, *self._told(picture)).numpy())

    def context(self, picture: Pixels) -> F32:
        """What the conditioner gives for a picture as of `evaluate`, (1, length), by torch."""
        with torch.no_grad():
            told = self._told(picture)
            return np.asarray((told[0] if self.encoder is None else cast(Told, self.network).context(*told)).numpy())

    @cached_property
    def _encoder(self) -> nn.Module:
        """The encoder in torch, of a network that is told features: made once."""
        return cast(EncoderWeights, self.encoder).module()

    def _told(self, picture: Pixels) -> tuple[torch.Tensor, ...]:
        """What torch's network takes of the whole picture, in its order."""
        if self.conditioner is None:
            return ()
        small = torch.from_numpy(scaled(picture, self.conditioner.side, self.conditioner.resize)[None])
        if self.encoder is None:
            return (cast(Conditioned, self.network).condition(small),)
        image, degradation = self._encoder(normalised(small))
        return degradation, image

    def started(self, solver: Solver) -> Solver:
        """The solver from the time at which the pictures' own noise is the process's, where it takes noise away."""
        if self.noise_sigma is None or solver.start_time is not None:
            return solver
        return replace(solver, start_time=self.schedule.time_of_noise(self.noise_sigma))

    def modulation(self, times: Sequence[float]) -> F32:
        """All of the network that depends on time alone, (len(times), M) float32."""
        return self.arch.modulation(self.network, times)

    def graphs(self) -> dict[GraphVariant, bytes]:
        """The network in each form that an engine of this machine asks for, any size and batch."""
        variants = variants_of(backends.available())
        if not self.arch.in_variants:
            return dict.fromkeys(variants, self.graph(GraphVariant()).SerializeToString())
        return {variant: self.graph(variant).SerializeToString() for variant in variants}

    def graph(self, variant: GraphVariant) -> ModelProto:
        """The network in one form, any size and batch."""
        # Weights out of all proportion are told of in one line, there or by `check_graphs`.
        with np.errstate(over="ignore", invalid="ignore"):
            return self.arch.graph(self._weights(), variant)

    @cached_property
    def conditioner(self) -> Conditioner | None:
        """What the network is told of the whole picture, if anything."""
        return self.arch.conditioner(self._weights(), self.encoder)

    @cached_property
    def conditioner_graph(self) -> bytes | None:
        """Its ONNX model."""
        return None if self.conditioner is None else bytes(self.conditioner.graph.SerializeToString())

    @cached_property
    def condition(self) -> CompiledConditioner | None:
        """The same, compiled for this machine's CPU.

        Raises:
            BackendError: where that cannot be done.
        """
        if self.conditioner is None or self.conditioner_graph is None:
            return None
        made = self.conditioner
        return CompiledConditioner(
            self.conditioner_graph, self.arch.channels, made.side, machine.threads(), made.resize
        )

    def _weights(self) -> dict[str, F32]:
        return {key: value.numpy() for key, value in self.network.state_dict().items()}

    def padded(self, size: tuple[int, int], batch: int = 1) -> tuple[int, int]:
        """The size of pictures that the network takes instead of `size`, (H, W).

        Raises:
            InputError: where one of these needs more memory than the machine has.
        """
        machine.check_memory(
            f"size {size[0]}x{size[1]} at batch {batch}", self.bytes_per_pixel * size[0] * size[1] * batch,
            hint="build for a smaller size"
            + (": larger pictures are restored in tiles" if self.autoencoder is None else ""),
        )  # fmt: skip
        return padded_size(*size, self.multiple)

    def claims(self) -> dict[str, tuple[object, object]]:
        """What the checkpoint says of its training, each beside what is used instead; empty for those of others."""
        own = _own_schedule(self.checkpoint, self.path)
        claims = {} if own is None else {name: (getattr(own, name), getattr(self.schedule, name)) for name in PROCESS}
        # An unknown output is refused as such, later.
        if "output" in self.checkpoint.metadata and self.output in OUTPUTS:
            claims["network output"] = str(self.checkpoint.metadata["output"]), self.output
        return claims

    @property
    def says_its_process(self) -> bool:
        """Whether the checkpoint itself says the whole process that is used."""
        claims = self.claims()
        return len(claims) == len(PROCESS) + 1 and all(own == used for own, used in claims.values())

    def check_process(self) -> None:
        """Refuse a process that contradicts what the checkpoint says of its training: it would restore nothing.

        Raises:
            CheckpointError: naming what is said and what was given.
        """
        wrong = {name: pair for name, pair in self.claims().items() if pair[0] != pair[1]}
        if wrong:
            raise CheckpointError(
                f"{self.path} says {', '.join(f'{name} {pair[0]}' for name, pair in wrong.items())}; "
                f"given {'is' if len(wrong) == 1 else 'are'} {', '.join(str(pair[1]) for pair in wrong.values())}",
                hint="leave that out, or pass --override-checkpoint (override_checkpoint=True) where it says wrong",
            )


def read_source(
    checkpoint: str | Path,
    schedule: Schedule | None = None,
    output: str | None = None,
    override: bool = False,
    made_for: MadeFor | None = None,
) -> Source:
    """Read a checkpoint for colour pictures.

    Args:
        checkpoint: a path, or the name of shipped weights.
        schedule, output: what the caller says; else what the preset or the checkpoint says, else Refusion's and
            `noise`.
        override: whether the caller may contradict the checkpoint.
        made_for: what else the caller says of it.

    Raises:
        CheckpointError: for a checkpoint that cannot be read, is for other pictures, is contradicted, or is of another
            network than its preset's.
        InputError: for a preset or an architecture that is unknown, or a companion, a noise or an upscale that does not
            belong.
    """
    said = made_for or MadeFor()
    preset = None if said.preset is None else presets.get(said.preset)
    path = _find(checkpoint)
    # The small files first: where one of them is wrong, gigabytes need not be read.
    encoder = None if said.encoder is None else read_encoder(said.encoder, said.encoder_heads)
    autoencoder = None if said.autoencoder is None else read_autoencoder(said.autoencoder)
    read = read_checkpoint(path, network_keys)
    arch = detect(read.state, str(path), said.architecture)
    if preset is not None:
        preset.check(str(said.preset), arch, str(path))
    check_autoencoder(arch, autoencoder, path)
    arch = told_of_lenses(arch, said, path)
    check_encoder(arch, said, path)
    own = _own_schedule(read, path)
    process = schedule or (own if preset is None else preset.schedule) or Schedule()
    sigma = preset.noise_sigma if preset is not None and said.noise_sigma is None else said.noise_sigma
    upscale = said.upscale if said.upscale is not None else 1 if preset is None else preset.upscale
    check_kind(arch, process, path)
    source = Source(
        path,
        read,
        arch,
        process,
        output or str(read.metadata.get("output", "noise")),
        encoder,
        noise_of(process, sigma),
        said.preset,
        upscale_of(process, upscale),
        autoencoder,
    )
    if not override:
        source.check_process()
    return source


def _find(checkpoint: str | Path) -> Path:
    path = path_of("checkpoint", checkpoint)
    shipped = WEIGHTS / f"{checkpoint}.safetensors"
    return shipped if not os.path.exists(path) and path.name == str(checkpoint) and shipped.is_file() else path


def _own_schedule(checkpoint: Checkpoint, path: Path) -> Schedule | None:
    """What a checkpoint says of its training; None where it says nothing."""
    said = checkpoint.metadata.get("schedule")
    if said is None:
        return None
    try:
        return Schedule(**said)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} carries a schedule that is not understood: {error}") from None
