"""What one thread at a time restores with: compiled networks and buffers, kept by padded shape of picture."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

from mrs.runtime import tracing
from mrs.runtime.chain import Chain, Loop, TensorChain, condition_of, make_chain
from mrs.runtime.codec import codec_of
from mrs.runtime.device import Device
from mrs.runtime.errors import BackendError, DeviceError, DeviceMemoryError
from mrs.runtime.networks import Networks
from mrs.runtime.padding import padded_size
from mrs.runtime.shared import Shared

if TYPE_CHECKING:
    from torch import Tensor

    from mrs.runtime.backends.protocol import Shape
    from mrs.runtime.cpu_chain import Condition

log = logging.getLogger("mrs")

# Chains kept at once: at least, whatever their networks take, and at most.
FEWEST, MOST = 4, 16
# Bytes of a compiled network, without activations: for its code, and times its graph. Measured: docs/runtime.md.
NETWORK_BYTES, GRAPH_TIMES = 32 << 20, 2
Size = tuple[int, int, int]
Dtypes = tuple[str, str]
# Chains of a process that this one was forked from, see `Worker.forget`.
_FORGOTTEN: list[object] = []


class Key(NamedTuple):
    """What tells the chains of a worker apart.

    Attributes:
        shape: (N, C, H, W) of the pictures, padded.
        captured: size of the pictures, and types of pictures and results, on a GPU.
        addresses: of bound tensors.
    """

    shape: Shape
    captured: tuple[Size, Dtypes] | None
    addresses: tuple[int, ...]


class Worker:
    """Chains of a plan on one backend.

    On a CPU a chain restores every size that is padded to its shape. On a GPU each size and type has a chain, for its
    addresses are captured; those of one shape share a network and its stream, and what makes latents of pictures.

    Args:
        networks: makes them.
        pixels: of all pictures together, padded, whose chains are kept.
        device: a `Cuda` where the backend runs on a GPU.
        graphs: whether restores on a GPU are captured.
    """

    def __init__(self, networks: Networks, pixels: int, device: Device | None = None, graphs: bool = True) -> None:
        self._networks, self.pixels, self.device, self.graphs = networks, pixels, device, graphs
        plan = networks.plan
        pictures = plan.facts.pictures
        self._channels, self._multiple = pictures.channels, pictures.multiple
        self._condition = condition_of(networks, device)
        mirrors = plan.facts.network.padding == "reflect"
        self._loop = Loop(plan.table, plan.modulation, None, mirrors, codec_of(plan))
        code = len(plan.graph) + len(plan.encoder or b"") + len(plan.decoder or b"")
        # As many bytes for networks as for activations.
        fitting = (
            pixels
            * plan.facts.bytes_on(networks.backend.name, networks.precision)
            // (NETWORK_BYTES + GRAPH_TIMES * code)
        )
        self._most = min(max(FEWEST, fitting), MOST)
        # What went wrong in a chain that is gone.
        self._late: BackendError | None = None
        # The latest used last. All that this worker has is in here: wherever an interrupt comes, nothing else is out of
        # step with it.
        self._chains: OrderedDict[Key, Chain] = OrderedDict()

    @property
    def condition(self) -> Condition | None:
        """Gives the context of whole pictures; None for a network that is not told of them."""
        if self._condition is None:
            self._condition = condition_of(self._networks, self.device)
        return self._condition

    def chain(self, size: Size, dtypes: Dtypes, bound: tuple[Tensor, Tensor] | None = None) -> Chain:
        """The chain for pictures of a size, made now or earlier.

        Args:
            size: (N, H, W).
            dtypes: types of pictures and results; on a CPU any chain serves all.
            bound: two tensors that the chain shall read and write, on a GPU.

        Raises:
            BackendError: where it cannot be made.
        """
        count, height, width = size
        shape = (count, self._channels, *padded_size(height, width, self._multiple))
        # The tensors are kept with their chain, so that no other has their addresses.
        addresses = tuple(tensor.data_ptr() for tensor in bound or ())
        key = Key(shape, (size, dtypes) if self.device is not None else None, addresses)
        self._drop_unfinished()
        if key in self._chains:
            self._chains.move_to_end(key)
            return self._chains[key]
        # Held meanwhile, for the chain that makes room may be the last with this network.
        sibling = self._sibling(shape)
        shared = None if sibling is None else sibling.shared
        sibling = None
        # Room first: the chains kept share the memory that one alone may take.
        while self._chains and (len(self._chains) >= self._most or self._kept_pixels() + _pixels(shape) > self.pixels):
            self._drop(next(iter(self._chains)))
        chain = None
        try:
            chain = self._make(shape, size, dtypes, bound, shared)
        except DeviceMemoryError:
            if not self._chains and shared is None:
                raise
        if chain is None:
            # Out here the error is gone, and with it what its traceback held.
            shared = None
            self.clear()
            chain = self._make(shape, size, dtypes, bound)
        self._chains[key] = chain
        return chain

    def tensor_chain(self, size: Size, dtypes: Dtypes, bound: tuple[Tensor, Tensor] | None = None) -> TensorChain:
        """`chain`, of a worker on a GPU, which has no others."""
        return cast(TensorChain, self.chain(size, dtypes, bound))

    @contextmanager
    def at_work(self) -> Iterator[Worker]:
        """A context for restores: lets go of what an error inside it may have spoilt."""
        recorder = tracing.active()
        if recorder is not None:
            recorder.enter(self)
        try:
            yield self
        except BackendError as error:
            self.failed(error)
            raise
        finally:
            if recorder is not None:
                recorder.leave()

    def check(self) -> None:
        """Wait for what a GPU was given, and complain about what went wrong since the last time.

        Raises:
            BackendError: where the device failed, or a result was not finite.
        """
        for chain in self._chains.values():
            try:
                chain.check()
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
            from mrs.runtime.cuda.alone import alone

            # To give memory back waits for the whole device. One that failed for good has none, and the error that was
            # raised counts.
            with alone(), self.device.apart(), suppress(self.device.Failure):
                # What a GPU that failed has spoilt is this, too.
                self._condition = None
                self.device.release()

    def forget(self) -> None:
        """Let go of all chains without a word to engine or device: for a process that was forked while they worked.

        They are not even freed, for that would wait for threads that this process does not have.
        """
        _FORGOTTEN.append(self._chains)
        self._chains, self._late = OrderedDict(), None

    def _drop_unfinished(self) -> None:
        """Let go of what an interrupt has left as it was, and of all that shares its network."""
        spoilt = {key.shape for key, chain in self._chains.items() if chain.unfinished}
        for key in [key for key in self._chains if key.shape in spoilt]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        chain = self._chains[key]
        # Where an interrupt comes in between, it is found and dropped again.
        chain.unfinished = True
        try:
            chain.check()
        except BackendError as error:
            # Of a restore of tensors, which nobody waited for.
            log.warning("%s", error)
            self._late = self._late or error
        chain.close()
        del self._chains[key]

    def _kept_pixels(self) -> int:
        return sum(_pixels(key.shape) for key in self._chains)

    def _sibling(self, shape: Shape) -> Chain | None:
        """A chain of this shape, whose network is that of all of them; None where there is none."""
        return next((chain for key, chain in self._chains.items() if key.shape == shape), None)

    def _make(
        self,
        shape: Shape,
        size: Size,
        dtypes: Dtypes,
        bound: tuple[Tensor, Tensor] | None,
        shared: Shared | None = None,
    ) -> Chain:
        """A new chain, on what it shares with others where there are such."""
        sibling = self._sibling(shape)
        if sibling is not None:
            # Their network is run meanwhile: where that does not end well, none of them is used again.
            sibling.unfinished = True
        count, height, width = size
        chain = make_chain(
            self.device,
            lambda: self._networks.make(self._loop.packed(shape)),
            replace(self._loop, condition=self.condition),
            (count, self._channels, height, width),
            self._networks.threads,
            dtypes=dtypes,
            graphs=self.graphs,
            bound=bound,
            shared=shared,
            around=self._networks.around,
        )
        if sibling is not None:
            sibling.unfinished = False
        return chain


def _pixels(shape: Shape) -> int:
    return shape[0] * shape[2] * shape[3]
