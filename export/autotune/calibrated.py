"""Graphs for int8 and fp8, made of what the network is given in float32 restores of the calibration pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mrs.export.autotune.candidates import float32_backend
from mrs.export.autotune.timing import chain_of
from mrs.export.autotune.workload import Pair, Target
from mrs.export.graph_variant import GraphVariant, first_variant
from mrs.export.quantise import Feed, quantised
from mrs.runtime.backends import Backend
from mrs.runtime.backends.protocol import F32, QUANTISED, Network
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Loop
from mrs.runtime.errors import BackendError

if TYPE_CHECKING:
    from torch import Tensor


class CalibratedGraphs(Mapping[GraphVariant, bytes]):
    """The network in every shape, and for int8 and fp8 what is made of it when it is first asked for.

    Args:
        graphs: float32.
        pairs: calibration pictures.
        loop: the solver whose restores of these show the values to calibrate on.
        target: of its engines, the one for float32 runs these restores.
    """

    def __init__(self, graphs: Mapping[GraphVariant, bytes], pairs: Sequence[Pair], loop: Loop, target: Target) -> None:
        self._graphs, self._pairs, self._loop, self._target = graphs, pairs, loop, target
        self._feeds: list[Feed] | None = None
        self._made: dict[tuple[GraphVariant, str], bytes] = {}

    def __getitem__(self, shape: GraphVariant) -> bytes:
        return self._graphs[shape]

    def __iter__(self) -> Iterator[GraphVariant]:
        return iter(self._graphs)

    def __len__(self) -> int:
        return len(self._graphs)

    def quantised(self, shape: GraphVariant, precision: str) -> bytes:
        """The graph of a shape for int8 or fp8.

        Raises:
            BackendError: as of `quantise.quantised`, and where the engine fails.
        """
        if self._feeds is None:
            engine = float32_backend(self._target)
            self._target.report(f"values to calibrate on, {engine.name}")
            graph = self._graphs[first_variant(engine)]
            self._feeds = feeds_of(engine, graph, self._loop, self._pairs, self._target.settings)
        if (shape, precision) not in self._made:
            self._target.report(f"quantising {shape} for {precision}")
            self._made[shape, precision] = quantised(self._graphs[shape], precision, self._feeds)
        return self._made[shape, precision]


def graph_of(graphs: Mapping[GraphVariant, bytes], shape: GraphVariant, precision: str) -> bytes:
    """The graph that an engine compiles for a precision.

    Raises:
        BackendError: for int8 or fp8, where it cannot be quantised.
    """
    if precision not in QUANTISED:
        return graphs[shape]
    if not isinstance(graphs, CalibratedGraphs):
        raise BackendError(f"nothing was calibrated for {precision}")
    return graphs.quantised(shape, precision)


def feeds_of(engine: Backend, graph: bytes, loop: Loop, pairs: Sequence[Pair], settings: CompileSettings) -> list[Feed]:
    """What the network is given at every evaluation of every picture's float32 restore.

    Args:
        engine: that runs them, on a CPU or a GPU.
        graph: in a variant of that engine.
        loop: the solver.
        pairs: calibration pictures.
        settings: how the engine compiles.

    Raises:
        BackendError: where the engine fails.
    """
    feeds: list[Feed] = []
    for pair in pairs:
        picture = pair.degraded[None]
        recorded: list[Feed] = []
        chain = chain_of(
            engine, graph, "fp32", loop, picture.shape, settings, dtypes=("uint8", "float32"), graphs=False,
            wrap=partial(Recording, modulation=loop.modulation, feeds=recorded),
        )  # fmt: skip
        # A chain for a GPU evaluates while it is made, too.
        recorded.clear()
        chain.restore_into(picture, np.empty(picture.shape, np.float32), seed=0)
        feeds += recorded
    return feeds


class Recording:
    """A network that keeps what it is given.

    Args:
        network: that evaluates.
        modulation: (steps, M) float32.
        feeds: gets, for each evaluation, the values of the graph's inputs.
    """

    def __init__(self, network: Network, modulation: F32, feeds: list[Feed]) -> None:
        self._network, self._modulation, self._feeds = network, modulation, feeds
        self.packed, self.output, self.context = network.packed, network.output, network.context
        if hasattr(network, "stream"):
            self.stream = network.stream

    def evaluate(self, step: int) -> None:
        """See `protocol.Network`. On a GPU it waits for the device, so it must not be captured."""
        packed = _on_host(self.packed)
        feed = {"packed": packed.copy(), "modulation": self._modulation[step][None, :, None, None]}
        if self.context is not None:
            feed["context"] = _on_host(self.context).copy()
        self._feeds.append(feed)
        self._network.evaluate(step)

    def retime(self, modulation: F32) -> None:
        """See `protocol.Network`."""
        self._modulation = modulation
        self._network.retime(modulation)

    def export(self) -> bytes | None:
        """See `protocol.Network`."""
        return self._network.export()


def _on_host(values: Tensor | F32) -> F32:
    return values if isinstance(values, np.ndarray) else np.asarray(values.float().cpu().numpy())
