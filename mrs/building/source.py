"""A checkpoint as it will be used: its network, and the process that it was trained on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from onnx import ModelProto
from torch import nn

from mrs import degradations
from mrs.export.architectures import Architecture, Conditioner, detect, network_of
from mrs.export.checkpoint import Checkpoint, read_checkpoint
from mrs.export.graph_variant import GraphVariant, variants_of
from mrs.export.onnx_writer import F32
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import OUTPUTS
from mrs.runtime import backends
from mrs.runtime.conditioner import Conditioner as CompiledConditioner
from mrs.runtime.errors import CheckpointError
from mrs.runtime.padding import padded_size
from mrs.runtime.system import machine

WEIGHTS = Path(__file__).parents[1] / "weights"
# Of a schedule, what belongs to the training. Its convention and its interpolation are a sampler's own habits: on the
# shipped weights both conventions restore equally well.
PROCESS = ("kind", "max_sigma", "eps", "T")


@dataclass(frozen=True)
class Source:
    """A checkpoint with the process that holds for it.

    Attributes:
        path: of the file.
        checkpoint: what it holds.
        arch: the network that its weights are of.
        schedule: the process that the network was trained on.
        output: what the network predicts: `noise`, `data` or `velocity`.
    """

    path: Path
    checkpoint: Checkpoint
    arch: Architecture
    schedule: Schedule
    output: str

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

    def modulation(self, times: Sequence[float]) -> F32:
        """All of the network that depends on time alone, (len(times), M) float32."""
        return self.arch.modulation(self.network, times)

    def graphs(self) -> dict[GraphVariant, bytes]:
        """The network in each form that an engine of this machine asks for, any size and batch."""
        variants = variants_of(backends.available())
        return {variant: self.graph(variant).SerializeToString() for variant in variants}

    def graph(self, variant: GraphVariant) -> ModelProto:
        """The network in one form, any size and batch."""
        return self.arch.graph(self._weights(), variant)

    @cached_property
    def conditioner(self) -> Conditioner | None:
        """What the network is told of the whole picture, if anything."""
        return self.arch.conditioner(self._weights())

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
        side = self.conditioner.side
        return CompiledConditioner(self.conditioner_graph, self.arch.channels, side, machine.threads())

    def _weights(self) -> dict[str, F32]:
        return {key: value.numpy() for key, value in self.network.state_dict().items()}

    def padded(self, size: tuple[int, int], batch: int = 1) -> tuple[int, int]:
        """The size of pictures that the network takes instead of `size`, (H, W).

        Raises:
            InputError: where one of these needs more memory than the machine has.
        """
        machine.check_memory(
            f"size {size[0]}x{size[1]} at batch {batch}", self.arch.bytes_per_pixel * size[0] * size[1] * batch,
            hint="build for a smaller size: larger pictures are restored in tiles",
        )  # fmt: skip
        return padded_size(*size, self.arch.multiple)

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
    checkpoint: str | Path, schedule: Schedule | None = None, output: str | None = None, override: bool = False
) -> Source:
    """Read a checkpoint for colour pictures.

    Args:
        checkpoint: a path, or the name of shipped weights.
        schedule, output: what the caller says; else what the checkpoint says, else Refusion's and `noise`.
        override: whether the caller may contradict the checkpoint.

    Raises:
        CheckpointError: for a checkpoint that cannot be read, is for other pictures, or is contradicted.
    """
    path = _find(checkpoint)
    read = read_checkpoint(path)
    arch = detect(read.state, str(path))
    if arch.channels != 3:
        raise CheckpointError(f"{path} is for pictures of {arch.channels} channels", hint="3 are supported")
    own = _own_schedule(read, path)
    source = Source(
        path, read, arch, schedule or own or Schedule(), output or str(read.metadata.get("output", "noise"))
    )
    if not override:
        source.check_process()
    return source


def _find(checkpoint: str | Path) -> Path:
    path = Path(checkpoint)
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
