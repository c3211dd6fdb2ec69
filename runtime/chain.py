"""One restore on a CPU: start, then network and update by turns, then finish, on buffers made once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.kernels import cpu
from mrs.kernels.row import Row
from mrs.runtime.backends.protocol import Network
from mrs.runtime.errors import BackendError


class Chain:
    """A network and the sampler's buffers for one size of picture.

    Args:
        network: compiled for at least this size; its buffers are written here.
        rows: the solver's table.
        start: standard deviation of x_T - mu.
        clamp: what is done to each data prediction, see `mrs.kernels.update.step`.
        shape: (N, C, H, W) of the pictures.
        threads: most threads of an update.
    """

    def __init__(
        self,
        network: Network,
        rows: Sequence[Row],
        start: float,
        clamp: str,
        shape: tuple[int, int, int, int],
        threads: int,
    ) -> None:
        self.network = network
        self.rows = rows
        self.start = start
        self.clamp = clamp
        self.threads = threads
        self.shape = shape
        self._mu = np.empty(shape, np.float32)
        self._x = np.empty(shape, np.float32)
        # A step overwrites its oldest prediction with its newest, so that there are as many as a row looks back on.
        depth = max(1, *(row.history for row in rows))
        self._predictions = [np.zeros(shape, np.float32) for _ in range(depth)]

    def warm_up(self, tensors: bool) -> None:
        """Restore an empty picture: the first restore is slower than the others. There are no tensors on a CPU."""
        count, channels, height, width = self.shape
        self.restore_into(np.zeros((count, height, width, channels), np.uint8), None, 0)

    def evaluate_all(self) -> None:
        """The network's part of a restore alone, on whatever its input holds; to be timed."""
        for step in range(len(self.rows)):
            self.network.evaluate(step)

    def restore_into(
        self, picture: NDArray[Any], out: NDArray[Any] | None, seed: int, origin: tuple[int, int] = (0, 0)
    ) -> NDArray[Any]:
        """Restore dense pictures (N, H, W, C), uint8 or float32 in [0, 1], into `out` of the same shape.

        Args:
            picture: the degraded pictures.
            out: uint8 or float32, dense, written; None for a new array of the picture's type.
            seed: of the noise.
            origin: (y, x) of these pictures in the whole pictures whose noise they share.

        Returns:
            `out`, or the new array.

        Raises:
            BackendError: where the engine fails, or the state ends with infinities or NaN (a clamp hides infinities).
        """
        x, mu, network = self._x, self._mu, self.network
        cpu.start(picture, self.start, seed, mu, x, network.packed, origin=origin, threads=self.threads)
        last = len(self.rows) - 1
        for i, row in enumerate(self.rows):
            network.evaluate(i)
            kept = self._predictions[-1]
            q1, q2, q3 = (self._predictions + [kept] * 2)[:3]
            packed = network.packed if i < last else None
            cpu.step(
                x, mu, network.output, q1, q2, q3, kept, row, self.clamp, seed, i + 1, packed,
                origin=origin, threads=self.threads,
            )  # fmt: skip
            self._predictions.insert(0, self._predictions.pop())
        # The sum is not finite where an element is not, and costs one pass. Infinities of both signs would warn.
        with np.errstate(invalid="ignore"):
            total = x.sum(dtype=np.float64)
        if not np.isfinite(total):
            raise BackendError(
                "the network gave infinities or NaN", hint="build the plan with --precision fp32, or check its weights"
            )
        result = np.empty_like(picture) if out is None else out
        cpu.finish(x, result, threads=self.threads)
        return result
