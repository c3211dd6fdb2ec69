"""What one thread at a time restores with: compiled networks and buffers, kept by size of picture."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mrs.runtime import machine
from mrs.runtime.backends import Backend, Network, engine_options, mixed
from mrs.runtime.chain import Chain
from mrs.runtime.chains import Loop, make_chain
from mrs.runtime.errors import BackendError, DeviceError, DeviceMemoryError
from mrs.runtime.plan import Plan

if TYPE_CHECKING:
    from mrs.runtime.cuda.chain import CudaChain

log = logging.getLogger("mrs")

# Compiled sizes kept at once; the least recently used one goes first.
CHAINS_KEPT = 4
Size = tuple[int, int, int]
# Chains of a process that this one was forked from, see `Worker.forget`.
_FORGOTTEN: list[object] = []


class Worker:
    """Chains of a plan on one backend.

    Args:
        plan: what to restore with.
        backend, precision: what to run it on.
        threads: most threads to use on a CPU.
        pixels: of all pictures together whose chains are kept.
        device: a `Cuda` where the backend runs on a GPU.
        graphs: whether restores on a GPU are captured.
    """

    def __init__(
        self,
        plan: Plan,
        backend: Backend,
        precision: str,
        threads: int,
        pixels: int,
        device: Any = None,
        graphs: bool = True,
    ) -> None:
        self.plan, self.backend, self.precision = plan, backend, precision
        self.threads, self.pixels, self.device, self.graphs = threads, pixels, device, graphs
        table = plan.manifest["table"]
        self._loop = Loop(plan.rows, float(table["start"]), str(table["clamp"]), plan.modulation)
        # What went wrong in a chain that is gone.
        self._late: BackendError | None = None
        self._chains: OrderedDict[tuple[Any, ...], Chain | CudaChain] = OrderedDict()

    def chain(self, size: Size, kinds: tuple[str, str], bound: Any = None) -> Any:
        """The chain for pictures of a size, made now or earlier.

        Args:
            size: (N, H, W).
            kinds: types of pictures and results; on a CPU any chain serves all.
            bound: two tensors that the chain shall read and write, on a GPU.

        Raises:
            BackendError: where it cannot be made.
        """
        # The tensors are kept with their chain, so that no other has their addresses.
        key = (size, *(kinds if self.device else ()), *(tensor.data_ptr() for tensor in bound or ()))
        if key in self._chains:
            self._chains.move_to_end(key)
            return self._chains[key]
        # Room first: the sizes kept share the memory that one alone may take.
        while self._chains and (
            len(self._chains) >= CHAINS_KEPT or self._kept_pixels() + math.prod(size) > self.pixels
        ):
            self._drop(next(iter(self._chains)))
        chain = None
        try:
            chain = self._make(size, kinds, bound)
        except DeviceMemoryError:
            if not self._chains:
                raise
        if chain is None:
            # Out here the error is gone, and with it what its traceback held.
            self.clear()
            chain = self._make(size, kinds, bound)
        self._chains[key] = chain
        return chain

    def check(self) -> None:
        """Wait for what a GPU was given, and complain about what went wrong since the last time.

        Raises:
            BackendError: where the device failed, or a result was not finite.
        """
        for chain in self._chains.values() if self.device is not None else ():
            try:
                chain.check()  # type: ignore[union-attr]
            except BackendError as error:
                # The others are waited for all the same; one error is enough.
                self._late = self._late or error
        if self._late is not None:
            late, self._late = self._late, None
            raise late

    def failed(self, error: BackendError) -> None:
        """After an error of a restore: let go of what may be unusable."""
        if isinstance(error, (DeviceError, DeviceMemoryError)):
            self.clear()

    def clear(self) -> None:
        """Let go of all chains."""
        while self._chains:
            self._drop(next(iter(self._chains)))
        if self.device is not None:
            # One that failed for good has nothing to give back, and the error that was raised counts.
            with suppress(self.device.Failure):
                self.device.release()

    def forget(self) -> None:
        """Let go of all chains without a word to engine or device: for a process that was forked while they worked.

        They are not even freed, for that would wait for threads that this process does not have.
        """
        _FORGOTTEN.append(self._chains)
        self._chains, self._late = OrderedDict(), None

    def _drop(self, key: tuple[Any, ...]) -> None:
        chain = self._chains.pop(key)
        if self.device is None:
            return
        try:
            chain.check()  # type: ignore[union-attr]
        except BackendError as error:
            # Of a restore of tensors, which nobody waited for.
            log.warning("%s", error)
            self._late = self._late or error
        chain.close()  # type: ignore[union-attr]

    def _kept_pixels(self) -> int:
        return sum(math.prod(key[0]) for key in self._chains)

    def _make(self, size: Size, kinds: tuple[str, str], bound: Any) -> Chain | CudaChain:
        manifest = self.plan.manifest
        channels, multiple = manifest["network"]["channels"], manifest["network"]["multiple"]
        count, height, width = size
        high, wide = (-(-side // multiple) * multiple for side in (height, width))
        return make_chain(
            self.device,
            lambda: self._network((count, 2 * channels, high, wide)),
            self._loop,
            (count, channels, height, width),
            self.threads,
            kinds=kinds,
            graphs=self.graphs,
            bound=bound,
        )

    def _network(self, shape: tuple[int, int, int, int]) -> Network:
        """The plan's engine where it was compiled for this shape on such a machine, else compiled now."""
        manifest, backend = self.plan.manifest, self.backend
        engine_shape = (manifest["shape"][0], shape[1], *manifest["shape"][1:])
        options = engine_options.EngineOptions.from_dict(manifest.get("engine_options", {}))
        fits = shape == engine_shape or (
            options.covers((shape[0], *shape[2:])) and options.covers((engine_shape[0], *engine_shape[2:]))
        )
        here = machine.fingerprint(backend.name, backend.version(), backend.device)
        same = (manifest["backend"], manifest["precision"]) == (backend.name, self.precision)
        arguments = (self.plan.modulation, shape, self.precision, self.threads)
        if self.plan.engine is not None and fits and same and machine.serves(manifest["fingerprint"], here):
            try:
                return mixed.restore_network(backend, self.plan.engine, *arguments)
            except DeviceMemoryError:
                raise
            except BackendError as error:
                log.warning("the plan's engine does not load, compiling from its graph: %s", error)
        with engine_options.building(options):
            return mixed.compile_network(backend, self.plan.graph_for(self.precision), *arguments)
