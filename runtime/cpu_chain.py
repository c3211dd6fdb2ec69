"""One restore on a CPU: start, then network and update in turn, then finish, on buffers made once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mrs.kernels import cpu
from mrs.kernels.noise import Draw
from mrs.kernels.table import Table
from mrs.kernels.update import Pixels, mirror
from mrs.runtime.backends.protocol import F32, Network
from mrs.runtime.errors import BackendError, MrsError
from mrs.runtime.tracing import timed

# Pictures (N, H, W, C), uint8 or float32 in [0, 1], to their context (N, K).
Condition = Callable[[Pixels], F32]


class CpuChain:
    """A network and the sampler's buffers for all pictures that fit it.

    Args:
        network: compiled for at least the size of each picture; its buffers are written here.
        table: the solver.
        threads: most threads of an update.
        condition: gives the context of pictures to a network that is told of the whole picture.
        mirrors: whether the network's padding is the picture's reflection, not zeros.

    Attributes:
        unfinished: whether something was begun and neither ended nor failed in a way that leaves the chain of use: an
            interrupt came in between. Threads of the engine may still be at work then; who finds it makes a new chain.
        shared: None: a chain serves all sizes that its network does.
    """

    def __init__(
        self,
        network: Network,
        table: Table,
        threads: int,
        condition: Condition | None = None,
        mirrors: bool = False,
    ) -> None:
        self.network = network
        self.table = table
        self.threads = threads
        self.condition = condition
        self.mirrors = mirrors
        self.unfinished = False
        self.shared = None
        # A step overwrites its oldest prediction with its newest, so that there are as many as a row looks back on.
        depth = max(1, table.history)
        # x, mu and the predictions, for the largest picture; smaller ones take the beginnings.
        self._buffers = np.empty((2 + depth, network.output.size), np.float32)
        # (H, W) outside of which the network's input is zero; None where that is not known.
        self._packed_size: tuple[int, int] | None = None

    def warm_up(self, tensors: bool) -> None:
        """Restore an empty picture: the first restore is slower than the others. There are no tensors on a CPU."""
        count, channels, height, width = self.network.output.shape
        self.restore_into(np.zeros((count, height, width, channels), np.uint8), None, 0)

    def evaluate_all(self) -> None:
        """The network's part of a restore alone, on whatever its input holds; to be timed."""
        self.unfinished = True
        for step in range(len(self.table.rows)):
            self.network.evaluate(step)
        self.unfinished = False

    def restore_into(
        self,
        picture: Pixels,
        out: Pixels | None,
        seed: int,
        origin: tuple[int, int] = (0, 0),
        context: F32 | None = None,
        before: Callable[[], None] | None = None,
    ) -> Pixels:
        """Restore dense pictures (N, H, W, C), uint8 or float32 in [0, 1], into `out` of the same shape.

        Args:
            picture: the degraded pictures; N and C are the network's, H and W at most.
            out: uint8 or float32, dense, written; None for a new array of the picture's type.
            seed: of the noise.
            origin: (y, x) of these pictures in the whole pictures whose noise they share.
            context: of the whole pictures, (N, K), where these are parts of them; otherwise it is made of these.
            before: called before each evaluation; what it raises ends the restore there, with `out` as it was.

        Returns:
            `out`, or the new array.

        Raises:
            BackendError: where the engine fails, or the state ends with infinities or NaN (a clamp hides infinities).
        """
        x = self.solve(picture, seed, origin, context, before)
        result = np.empty_like(picture) if out is None else out
        timed("finish", cpu.finish)(x, result, threads=self.threads)
        self.unfinished = False
        return result

    def solve(
        self,
        picture: Pixels,
        seed: int,
        origin: tuple[int, int],
        context: F32 | None = None,
        before: Callable[[], None] | None = None,
    ) -> F32:
        """The last state, (N, C, H, W), in this chain's own memory; see `restore_into`. The caller has the last word:
        `unfinished` is left set."""
        count, height, width, channels = picture.shape
        network, shape = self.network, (count, channels, height, width)
        x, mu, *predictions = (each[: math.prod(shape)].reshape(shape) for each in self._buffers)
        # One store before the first write, one after the last: wherever an interrupt comes, this tells.
        self.unfinished = True
        if self.condition is not None:
            given = timed("conditioner", self.condition)(picture) if context is None else context
            network.context[...] = given.reshape(network.context.shape)
        self._clear_padding(height, width)
        draw = Draw(seed, 0, origin)
        timed("start", cpu.start)(picture, self.table.start, draw, mu, x, network.packed, threads=self.threads)
        last, depth = len(self.table.rows) - 1, len(predictions)
        evaluate, update = timed("network", network.evaluate), timed("step", cpu.step)
        for i, row in enumerate(self.table.rows):
            if before is not None:
                self.before_evaluation(before)
            if self.mirrors:
                mirror(network.packed, (height, width))
            evaluate(i)
            # The latest prediction first. A ring, turned by the step's number alone: nothing is left half turned.
            latest = [predictions[(k - i) % depth] for k in range(depth)]
            kept = latest[-1]
            q1, q2, q3 = (latest + [kept] * 2)[:3]
            packed = network.packed if i < last else None
            update(
                x, mu, network.output, (q1, q2, q3), kept, row, self.table.clamp, draw._replace(number=i + 1), packed,
                threads=self.threads,
            )  # fmt: skip
        # Whatever the network gave, the next picture's start overwrites it.
        self.unfinished = False
        check_finite(x)
        self.unfinished = True
        return x

    def before_evaluation(self, before: Callable[[], None]) -> None:
        """Call what may end a restore, between two evaluations: then nothing is at work, and the chain stays of use."""
        try:
            before()
        except MrsError:
            self.unfinished = False
            raise

    def check(self) -> None:
        """Nothing: whatever went wrong was raised by the restore."""

    def close(self) -> None:
        """Nothing: buffers and engine go with this object."""

    def _clear_padding(self, height: int, width: int) -> None:
        """Zeros where a picture of another size was: its margin is not seen, but averaged over."""
        if self._packed_size != (height, width):
            self._packed_size = None
            self.network.packed.fill(0)
            self._packed_size = height, width


def check_finite(state: F32) -> None:
    """Refuse what a network has made infinities or NaN of.

    Raises:
        BackendError: where an element is not finite.
    """
    # The sum is not finite where an element is not, and costs one pass. Infinities of both signs would warn.
    with np.errstate(invalid="ignore"):
        total = state.sum(dtype=np.float64)
    if not np.isfinite(total):
        raise BackendError(
            "the network gave infinities or NaN", hint="build the plan with --precision fp32, or check its weights"
        )
