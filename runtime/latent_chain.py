"""One restore in a latent: encode, the sampler's loop on the latent, decode with what the encoder saw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mrs.kernels import cpu
from mrs.kernels.update import Pixels
from mrs.runtime.backends.protocol import F32, Network
from mrs.runtime.codec import Coder
from mrs.runtime.cpu_chain import CpuChain, check_finite
from mrs.runtime.tracing import timed


class LatentChain:
    """A chain on a CPU for whole pictures, see `chain.Chain`; never for tiles, for an encoder sees all of a picture.

    Args:
        inner: the network and the sampler's buffers, for latents.
        coder: compiled for the size of the pictures, padded.
        shape: (N, C, H, W) of these pictures.
    """

    def __init__(self, inner: CpuChain, coder: Coder, shape: tuple[int, int, int, int]) -> None:
        self._inner, self._coder, self._shape = inner, coder, shape
        self.shared = None

    @property
    def network(self) -> Network:
        """Compiled."""
        return self._inner.network

    @property
    def unfinished(self) -> bool:
        """See `chain.Chain`. One store tells of the loop, the encoder and the decoder alike."""
        return self._inner.unfinished

    @unfinished.setter
    def unfinished(self, unfinished: bool) -> None:
        self._inner.unfinished = unfinished

    def warm_up(self, tensors: bool) -> None:
        """Restore an empty picture: the first restore is slower than the others. There are no tensors on a CPU."""
        count, channels, height, width = self._shape
        self.restore_into(np.zeros((count, height, width, channels), np.uint8), None, 0)

    def evaluate_all(self) -> None:
        """The network's part of a restore alone, without encoder and decoder; to be timed."""
        self._inner.evaluate_all()

    def restore_into(
        self,
        picture: Pixels,
        out: Pixels | None,
        seed: int,
        origin: tuple[int, int] = (0, 0),
        context: F32 | None = None,
        before: Callable[[], None] | None = None,
    ) -> Pixels:
        """Restore pictures, see `CpuChain.restore_into`: whole ones. The noise is the latent's. `before` is called
        before the latent is decoded, too."""
        self.unfinished = True
        latents = np.ascontiguousarray(timed("encode", self._coder.encode)(picture).transpose(0, 2, 3, 1))
        x = self._inner.solve(latents, seed, origin, context, before)
        if before is not None:
            self._inner.before_evaluation(before)
        restored = timed("decode", self._coder.decode)(x, (picture.shape[1], picture.shape[2]))
        # Every part has ended, whatever it gave.
        self.unfinished = False
        check_finite(restored)
        result = np.empty_like(picture) if out is None else out
        self.unfinished = True
        timed("finish", cpu.finish)(restored, result, threads=self._inner.threads)
        self.unfinished = False
        return result

    def check(self) -> None:
        """Nothing: whatever went wrong was raised by the restore."""

    def close(self) -> None:
        """Nothing: buffers and engines go with this object."""
