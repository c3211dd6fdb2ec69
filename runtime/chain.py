"""A chain for any backend: a loop on a CPU, a graph on a GPU. Nothing else differs between the two runtimes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mrs.kernels.table import Table
from mrs.kernels.update import Pixels
from mrs.runtime.backends.protocol import F32, Backend, Graph, Network
from mrs.runtime.codec import Codec, Compile
from mrs.runtime.conditioner import conditioner_of
from mrs.runtime.cpu_chain import Condition, CpuChain
from mrs.runtime.device import Device, Stream
from mrs.runtime.errors import BackendError, DeviceError
from mrs.runtime.latent_chain import LatentChain
from mrs.runtime.shared import Shared

if TYPE_CHECKING:
    from torch import Tensor

    from mrs.runtime.cuda.coder import CudaCoder
    from mrs.runtime.networks import Networks

log = logging.getLogger("mrs")


class Chain(Protocol):
    """What one restore runs on: a network with the sampler's buffers; `CpuChain` and `CudaChain` say what each does.

    Attributes:
        unfinished: whether something was begun that neither ended nor failed in a way that leaves the chain of use.
        network: compiled.
        shared: what further chains of the same padded size take over, on a GPU; None on a CPU.
    """

    unfinished: bool

    @property
    def network(self) -> Network: ...
    @property
    def shared(self) -> Shared | None: ...
    def warm_up(self, tensors: bool) -> None: ...
    def evaluate_all(self) -> None: ...
    def restore_into(
        self,
        picture: Pixels,
        out: Pixels | None,
        seed: int,
        origin: tuple[int, int] = (0, 0),
        context: F32 | None = None,
        before: Callable[[], None] | None = None,
    ) -> Pixels: ...
    def check(self) -> None: ...
    def close(self) -> None: ...


class TensorChain(Chain, Protocol):
    """A chain on a GPU, which restores tensors too."""

    def restore_tensor(self, picture: Tensor, out: Tensor | None, seed: int, caller: Stream) -> Tensor: ...
    def returned(self, caller: Stream) -> None: ...


@dataclass(frozen=True)
class Loop:
    """A solver's table with the network's time-dependent vectors: all that a chain needs besides an engine.

    Attributes:
        table: the solver.
        modulation: (steps, M) float32.
        condition: gives the context of pictures (N, H, W, C), (N, K) float32, to a network that is told of the whole
            picture; None for all others.
        mirrors: whether the network's padding is the picture's reflection, not zeros.
        codec: makes latents of pictures and back, where the network restores latents; None where it restores pictures.
    """

    table: Table
    modulation: F32
    condition: Condition | None = None
    mirrors: bool = False
    codec: Codec | None = None

    def packed(self, shape: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Shape of the network's input for pictures (N, C, H, W), padded."""
        if self.codec is not None:
            return self.codec.packed(shape)
        return (shape[0], 2 * shape[1], *shape[2:])


def device_of(backend: Backend) -> Device | None:
    """The GPU that a backend runs on, a `Cuda`; None for a CPU."""
    if backend.device == "cpu":
        return None
    from mrs.runtime.cuda.device import Cuda

    return Cuda()


def condition_of(networks: Networks, device: Device | None) -> Condition | None:
    """What gives a plan's network its context: on a GPU the backend itself, as part of a restore, unless it cannot.

    Args:
        networks: of the plan.
        device: a `Cuda`; None for a CPU.

    Raises:
        BackendError: where neither can.
    """
    plan, said, graph = networks.plan, networks.plan.facts.conditioner, networks.plan.conditioner
    if device is not None and said is not None and graph is not None:
        from mrs.runtime.cuda.conditioner import CudaConditioner

        def compiled(picture: Tensor) -> Graph:
            return networks.around(graph, {"packed": picture}, {"batch": 1})

        try:
            return CudaConditioner(device, compiled, plan.facts.network.channels, said.side, said.resize)
        except DeviceError:
            raise
        except BackendError as error:
            log.warning("what tells the network of the whole picture runs on the CPU, and slows it: %s", error.message)
    return conditioner_of(plan, networks.threads)


def make_chain(
    device: Device | None,
    network: Callable[[], Network],
    loop: Loop,
    shape: tuple[int, int, int, int],
    threads: int,
    *,
    dtypes: tuple[str, str] = ("uint8", "uint8"),
    graphs: bool = True,
    bound: tuple[Tensor, Tensor] | None = None,
    shared: Shared | None = None,
    around: Compile | None = None,
) -> Chain:
    """A chain.

    Args:
        device: where, from `device_of`.
        network: gives the compiled network; called once, unless something is shared.
        loop: the solver.
        shape: (N, C, H, W) of the pictures; on a CPU a chain serves all sizes that are padded to the same.
        threads: most threads of an update on a CPU.
        dtypes: types of pictures and results; on a CPU any chain serves all.
        graphs, bound, shared: on a GPU, see `CudaChain`.
        around: on a GPU, compiles the graphs around a network that restores latents.

    Raises:
        BackendError: where it cannot be made.
    """
    if device is None:
        chain = CpuChain(network(), loop.table, threads, loop.condition, loop.mirrors)
        if loop.codec is None:
            return chain
        return LatentChain(chain, loop.codec.compile(shape, threads), shape)
    from mrs.runtime.cuda.alone import alone
    from mrs.runtime.cuda.chain import CudaChain
    from mrs.runtime.cuda.failures import translate_errors

    with alone():
        with translate_errors(device, shape, "while the network is compiled"):
            if shared is None:
                stream = device.stream()
                # The calling thread may be on another GPU.
                with device.on(stream):
                    shared = Shared(network(), stream, _coder_of(device, loop.codec, around, shape))
        # A worker takes it for one.
        made: TensorChain = CudaChain(
            device, shared, loop.table, shape,
            dtypes=dtypes, graphs=graphs, bound=bound, condition=loop.condition, mirrors=loop.mirrors,
        )  # fmt: skip
        return made


def _coder_of(
    device: Device, codec: Codec | None, around: Compile | None, shape: tuple[int, int, int, int]
) -> CudaCoder | None:
    if codec is None:
        return None
    from mrs.runtime.cuda.coder import CudaCoder

    assert around is not None
    return CudaCoder(device, codec, around, shape)
