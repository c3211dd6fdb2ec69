"""Solvers tried one after the other on the same pictures, with one compiled network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mrs.export.architectures import Architecture
from mrs.export.graph_variant import first_variant
from mrs.kernels.noise import normal
from mrs.kernels.table import Table
from mrs.runtime import backends
from mrs.runtime.backends import Backend
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.conditioner import conditioner_of
from mrs.runtime.cpu_chain import Condition, CpuChain
from mrs.runtime.errors import BackendError, InputError
from mrs.runtime.padding import padded_size
from mrs.runtime.plan import Plan
from mrs.runtime.system import machine

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class TimedNetwork:
    """A network that can be evaluated at other times than a plan's.

    Attributes:
        backend: the engine that compiles it.
        graph: the ONNX model in that engine's shape.
        modulation: gives the modulation of times, (len(times), M) float32.
        multiple: of the sides of pictures.
        condition: gives the context of pictures to a network that is told of them.
    """

    backend: Backend
    graph: bytes
    modulation: Callable[[Sequence[float]], F32]
    multiple: int
    condition: Condition | None = None


def of_network(arch: Architecture, net: nn.Module, condition: Condition | None = None) -> TimedNetwork:
    """A torch network on the first backend that runs here.

    Raises:
        BackendError: where none does.
    """
    engine = _on_cpu()
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    graph = arch.graph(state, first_variant(engine)).SerializeToString()
    return TimedNetwork(engine, graph, partial(arch.modulation, net), arch.multiple, condition)


def of_plan(plan: Plan) -> TimedNetwork:
    """A plan's network on the plan's backend, at whole times; of a plan for a GPU, on the CPU.

    Raises:
        BackendError: where that backend does not run here.
        InputError: for a plan without its network's modulation at all whole times, or for latents.
    """
    if plan.facts.latent is not None:
        raise InputError("solvers are not tuned on latents", hint="tune on a network for pictures")
    engine = backends.get(plan.facts.backend)
    if engine.device != "cpu":
        engine = _on_cpu()
    reason = engine.missing()
    if reason is not None:
        raise BackendError(f"the plan's backend cannot run here: {reason}")
    timetable = plan.timetable
    if timetable is None:
        raise InputError("the plan does not hold its network at other times", hint="give the checkpoint instead")

    def modulation(times: Sequence[float]) -> F32:
        if not all(float(time).is_integer() and 0 <= time < len(timetable) for time in times):
            raise InputError("a plan holds its network at whole times only", hint="give the checkpoint instead")
        return timetable[np.array(times, dtype=np.int64)]

    return TimedNetwork(
        engine,
        plan.graph,
        modulation,
        plan.facts.network.multiple,
        conditioner_of(plan, machine.threads()),
    )


def _on_cpu() -> Backend:
    """The first backend that runs here on the CPU, where states are compared and fitted."""
    usable = [entry for entry in backends.available() if entry.device == "cpu"]
    if not usable:
        raise BackendError("no backend can run here", hint="pip install openvino")
    return usable[0]


class Trial:
    """A network compiled once for pictures of one size.

    Args:
        network: from `of_network` or `of_plan`.
        pictures: degraded pictures, (N, H, W, C) uint8.
        precision: of the engine.
        threads: most threads to use.
        batch: pictures at once; the last batch may be smaller.

    Raises:
        BackendError: where the engine refuses the network.
    """

    def __init__(
        self, network: TimedNetwork, pictures: NDArray[np.uint8], precision: str, threads: int, batch: int = 1
    ) -> None:
        self.network = network
        self.pictures = np.ascontiguousarray(pictures)
        self._threads = threads
        count, height, width, channels = self.pictures.shape
        padded_height, padded_width = padded_size(height, width, network.multiple)
        self._parts = [slice(low, min(low + batch, count)) for low in range(0, count, batch)]
        self._modulations: dict[float, F32] = {}
        self._contexts: dict[int, F32] = {}
        unused = network.modulation([1.0])
        self._compiled = {
            size: network.backend.compile(
                network.graph,
                unused,
                (size, 2 * channels, padded_height, padded_width),
                precision,
                CompileSettings(threads),
            )
            for size in {part.stop - part.start for part in self._parts}
        }

    def start(self, sigma: float, seed: int = 0) -> tuple[F32, F32]:
        """mu and the state mu + sigma z from which `run` starts, (N, C, H, W) each."""
        mu = np.ascontiguousarray(self.pictures.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
        x = np.empty_like(mu)
        for index, part in enumerate(self._parts):
            x[part] = mu[part] + np.float32(sigma) * normal(seed + index, 0, mu[part].shape)
        return mu, x

    def predict(self, x: F32, mu: F32, t: float) -> F32:
        """The network's output at a time for the state of all pictures, (N, C, H, W)."""
        _, channels, height, width = x.shape
        output = np.empty_like(x)
        if t not in self._modulations:
            # A fit asks for the same few times hundreds of times.
            self._modulations[t] = self.network.modulation([t])
        for compiled in self._compiled.values():
            compiled.retime(self._modulations[t])
        for part in self._parts:
            compiled = self._compiled[part.stop - part.start]
            compiled.packed[:, :channels, :height, :width] = x[part] - mu[part]
            compiled.packed[:, channels:, :height, :width] = mu[part]
            if self.network.condition is not None:
                compiled.context[...] = self._context(part).reshape(compiled.context.shape)
            compiled.evaluate(0)
            output[part] = compiled.output[:, :, :height, :width]
        return output

    def _context(self, part: slice) -> F32:
        """Of the pictures of a batch; a fit asks for the same hundreds of times."""
        if part.start not in self._contexts:
            assert self.network.condition is not None
            self._contexts[part.start] = self.network.condition(self.pictures[part])
        return self._contexts[part.start]

    def run(self, table: Table, seed: int = 0) -> F32:
        """Restore all pictures with a table; each batch draws the noise of its own seed, counted up from `seed`.

        Returns:
            (N, H, W, C) float32 in [0, 1].
        """
        out = np.empty(self.pictures.shape, np.float32)
        modulation = self.network.modulation(table.times[:-1])
        chains = {}
        for size, compiled in self._compiled.items():
            compiled.retime(modulation)
            chains[size] = CpuChain(compiled, table, self._threads, self.network.condition)
        for index, part in enumerate(self._parts):
            chains[part.stop - part.start].restore_into(self.pictures[part], out[part], seed + index)
        return out
