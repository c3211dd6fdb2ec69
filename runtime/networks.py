"""Where compiled networks come from: the plan's engines, what this machine compiled before, or the plan's graph."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from mrs.runtime.backends import Backend, Network, mixed
from mrs.runtime.backends.protocol import GraphCompiler, GraphKeeper
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError, DeviceError, DeviceMemoryError
from mrs.runtime.network_cache import NetworkCache, key_of
from mrs.runtime.plan import Plan
from mrs.runtime.system import machine

if TYPE_CHECKING:
    from torch import Tensor

    from mrs.runtime.backends.protocol import Graph, Shape

log = logging.getLogger("mrs")


# Most bytes of an engine, times its graph: weights that the graph keeps in half precision are float32 there, and those
# of convolutions may be kept transformed.
ENGINE_TIMES = 4


def cache_of(plan: Plan) -> NetworkCache:
    """Of networks that are compiled for a plan, whatever the largest of them takes."""
    graphs = (plan.graph, plan.conditioner, plan.encoder, plan.decoder)
    return NetworkCache(largest=ENGINE_TIMES * max(len(graph or b"") for graph in graphs))


class Networks:
    """Compiled networks of a plan on one backend, for workers that may ask at the same time.

    Args:
        plan: what to restore with.
        backend, precision: what to run it on.
        threads: most threads of a network on a CPU.
        settled: whether this precision was asked for by name; otherwise float32 takes its place where it turns out
            that it cannot be compiled.
        engine: whether engines of the plan, which are native code, are used.
        cache: what this machine compiled before; None to compile anew.

    Attributes:
        precision: in use.
    """

    def __init__(
        self,
        plan: Plan,
        backend: Backend,
        precision: str,
        threads: int,
        *,
        settled: bool = False,
        engine: bool = True,
        cache: NetworkCache | None = None,
    ) -> None:
        self.plan, self.backend, self.precision, self.threads = plan, backend, precision, threads
        self._settled, self._engine, self._cache = settled, engine, cache
        self._options = plan.facts.engine_options
        self._settings = CompileSettings(threads, self._options)
        self._digests: dict[bytes, str] = {}

    def make(self, shape: Shape) -> Network:
        """A network for one shape of `packed`, (N, 2C, H, W).

        Raises:
            BackendError: where it cannot be made.
        """
        precision = self.precision
        try:
            return self._at(precision, shape)
        except (DeviceError, DeviceMemoryError):
            raise
        except BackendError as error:
            if precision == "fp32" or self._settled:
                raise
            # Without what its traceback holds.
            refused = error.with_traceback(None)
        try:
            network = self._at("fp32", shape)
        except (DeviceError, DeviceMemoryError):
            raise
        except BackendError:
            # Then it is no fault of the precision.
            raise refused from None
        if self.precision == precision:
            self.precision = "fp32"
            log.warning("%s cannot run %s here, using fp32: %s", self.backend.name, precision, refused.message)
        return network

    def around(self, graph: bytes, inputs: Mapping[str, Tensor], sides: Mapping[str, int]) -> Graph:
        """A graph around the network on a GPU, for what it is to read there; see `protocol.GraphCompiler`.

        Raises:
            BackendError: where it cannot be made.
        """
        if not isinstance(self.backend, GraphKeeper):
            return cast(GraphCompiler, self.backend).compile_graph(graph, inputs, sides, self._settings)
        if self._cache is None:
            return self.backend.compile_graph(graph, inputs, sides, self._settings)
        key = self._key(graph, "around", [list(tensor.shape) for tensor in inputs.values()])
        kept = self._cache.read(key)
        if kept is not None:
            try:
                return self.backend.restore_graph(kept, inputs)
            except DeviceMemoryError:
                raise
            except BackendError as error:
                log.info("a graph around the network that was kept does not load, compiling it anew: %s", error)
                self._cache.remove(key)
        made = self.backend.compile_graph(graph, inputs, sides, self._settings)
        self._cache.write(key, made.export())
        return made

    def _at(self, precision: str, shape: Shape) -> Network:
        backend, arguments = self.backend, (self.plan.modulation, shape, precision, self._settings)
        engine = self._planned(precision, shape)
        if engine is not None:
            try:
                return mixed.restore_network(backend, engine, *arguments)
            except DeviceMemoryError:
                raise
            except BackendError as error:
                log.warning("the plan's engine does not load, compiling from its graph: %s", error)
        graph = self.plan.graph_for(precision)
        if self._cache is None:
            return self._compiled(graph, precision, shape)
        key = self._key(graph, precision, shape)
        kept = self._cache.read(key)
        if kept is not None:
            try:
                return mixed.restore_network(backend, kept, *arguments)
            except DeviceMemoryError:
                raise
            except BackendError as error:
                log.info("a network that was kept does not load, compiling it anew: %s", error)
                self._cache.remove(key)
        network = self._compiled(graph, precision, shape)
        # An engine without a form that can be kept is none the worse.
        with suppress(RuntimeError):
            made = network.export()
            if made is not None:
                self._cache.write(key, made)
        return network

    def _compiled(self, graph: bytes, precision: str, shape: Shape) -> Network:
        return mixed.compile_network(self.backend, graph, self.plan.modulation, shape, precision, self._settings)

    def _planned(self, precision: str, shape: Shape) -> bytes | None:
        """The plan's engine that was compiled for this shape on such a machine."""
        facts, backend, size = self.plan.facts, self.backend, (shape[0], *shape[2:])
        if not self._engine or (facts.backend, facts.precision) != (backend.name, precision):
            return None
        if not machine.serves(facts.fingerprint, self._here()):
            return None
        engines = self.plan.engines
        if size in engines:
            return engines[size]
        covered = self._options.covers(size) and self._options.covers(facts.shape)
        return engines.get(facts.shape) if covered else None

    def _here(self) -> dict[str, str]:
        return machine.fingerprint(self.backend.name, self.backend.version(), self.backend.device)

    def _key(self, graph: bytes, precision: str, shape: Sequence[object]) -> str:
        if graph not in self._digests:
            self._digests[graph] = hashlib.sha256(graph).hexdigest()
        return key_of(
            graph=self._digests[graph],
            modulation=self.plan.modulation.shape[1],
            shape=shape,
            precision=precision,
            threads=self.threads,
            processors=machine.threads(),
            machine=self._here(),
            options=self._options.to_dict(),
            environment={name: os.environ.get(name, "") for name in machine.INSTRUCTION_LIMITS},
        )
