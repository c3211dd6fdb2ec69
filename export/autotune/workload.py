"""What is measured, and for what: the two records that every measurement of a build takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mrs.export.graph_variant import GraphVariant
from mrs.runtime import backends
from mrs.runtime.backends import mixed
from mrs.runtime.backends.settings import CompileSettings, EngineOptions
from mrs.runtime.chain import Loop
from mrs.runtime.errors import InputError
from mrs.runtime.system import machine

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8", "fp8")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Pair:
    """A calibration picture, (H, W, C) uint8, and its clean original where it is known."""

    degraded: NDArray[np.uint8]
    clean: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Target:
    """The engines that may be chosen, and how they compile.

    Args:
        backend: a backend's name, or `auto` for all that run here.
        precision: `fp32`, `bf16`, `fp16`, `int8`, `fp8`, `bf16-after-2` (two evaluations in float32, then bfloat16),
            or `auto` for all that the device has, and where one fails parity, with more and more evaluations in float32
            before it. One that is asked for by name is used even where it fails parity, and says so.
        device: `cpu`, `cuda` for an NVIDIA GPU, or `auto` for the backends of both.
        settings: threads, options of engines that are built ahead of time, and whom to tell of progress.

    Raises:
        InputError: for a name that is unknown, options that the backend does not have, or a backend that runs on
            another device.
    """

    backend: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    settings: CompileSettings = field(default_factory=lambda: CompileSettings(machine.threads()))

    def __post_init__(self) -> None:
        if mixed.split(self.precision)[0] not in PRECISIONS:
            raise InputError(f"precision {self.precision!r} is unknown", hint=f"use one of {', '.join(PRECISIONS)}")
        if self.device not in DEVICES:
            raise InputError(f"device {self.device!r} is unknown", hint=f"use one of {', '.join(DEVICES)}")
        if self.backend == "auto":
            return
        on = backends.get(self.backend).device
        if self.device not in ("auto", on):
            raise InputError(
                f"backend {self.backend} runs on {on}, not on {self.device}", hint="leave out --backend or --device"
            )

    def with_options(self, options: EngineOptions) -> Target:
        """The same with other options of engines that are built ahead of time."""
        return replace(self, settings=replace(self.settings, options=options))

    def report(self, line: str) -> None:
        """Tell a line of progress."""
        self.settings.report(line)


@dataclass(frozen=True)
class Workload:
    """A network, pictures and a size.

    Attributes:
        graphs: the network in every shape that a backend may ask for; `CalibratedGraphs` for int8 and fp8.
        pairs: calibration pictures.
        shape: (N, H, W) at which time is measured.
        reference: the solver at many steps, to which fewer are compared.
        conditioner: the graph that tells the network of the whole picture, if any.
    """

    graphs: Mapping[GraphVariant, bytes]
    pairs: Sequence[Pair]
    shape: tuple[int, int, int]
    reference: Loop
    conditioner: bytes | None = None

    @cached_property
    def picture(self) -> NDArray[np.uint8]:
        """Pictures of the shape, (N, H, W, C): repetitions of one, because denormal numbers would cost time."""
        count, height, width = self.shape
        source = self.pairs[0].degraded
        repeats = (count, -(-height // source.shape[0]), -(-width // source.shape[1]), 1)
        return np.ascontiguousarray(np.tile(source, repeats)[:, :height, :width])
