"""What tells a network of the whole picture, on the GPU that the network runs on: the picture never leaves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mrs.kernels.gpu.launch import Launch
from mrs.kernels.gpu.scale import Tables, launches
from mrs.kernels.scaling import fit_of
from mrs.kernels.update import Pixels
from mrs.runtime.backends.protocol import F32, Graph
from mrs.runtime.conditioner import scaled
from mrs.runtime.cuda.alone import alone
from mrs.runtime.cuda.failures import translate_errors
from mrs.runtime.cuda.nodes import Node
from mrs.runtime.device import Device, Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHEN = "while it looked at the whole picture"
# The first run compiles and fills caches; the second shows that it has done so.
WARM_UPS = 2


class CudaConditioner:
    """A compiled graph from one picture to its context, with buffers of its own, for all chains of a worker.

    Chains work on streams of their own, and the host does not wait for restores of tensors: whoever uses it `takes` it
    first.

    Args:
        device: a `Cuda`.
        compiled: gives the graph of what reads a picture there, (1, C, side, side) float32 in [0, 1], and writes
            `output`, (1, length, 1, 1); called once.
        channels: C.
        side: to which pictures are scaled.
        resize: how; see `mrs.kernels.scaling`.

    Raises:
        DeviceMemoryError: where the GPU's memory does not suffice.
        BackendError: where the engine takes no such graph.
    """

    def __init__(
        self, device: Device, compiled: Callable[[Tensor], Graph], channels: int, side: int, resize: str
    ) -> None:
        self._device, self._side, self._resize = device, side, resize
        shape = (1, channels, side, side)
        with alone(), translate_errors(device, shape, WHEN), torch.inference_mode(False):
            self._stream = self._last = device.stream()
            with device.on(self._stream):
                self._picture = device.memory(4 * channels * side * side).view(torch.float32).view(shape)
                self._graph = compiled(self._picture)
                self._context = self._graph.outputs["output"].view(-1)
                for _ in range(WARM_UPS):
                    self._graph.evaluate()
                device.wait(self._stream)

    def take(self, stream: Stream) -> None:
        """Let a stream use this: after whichever did so last."""
        if stream is not self._last:
            self._device.follow(stream, self._last)
            # Where an interrupt comes in between, nothing was given yet, and the one before is followed once more.
            self._last = stream

    def nodes(self, pictures: Tensor, contexts: Tensor) -> Iterator[Node]:
        """What makes the contexts of pictures, one after the other, on memory made now; every address is fixed here.

        Args:
            pictures: (N, H, W, C) of the device, dense, uint8, or float32 in [0, 1].
            contexts: (N, length, 1, 1) float32, dense, written.
        """
        count, height, width, channels = pictures.shape
        fit = fit_of(height, width, self._side, self._resize)
        arrays = (each for taps in (fit.columns, fit.rows) for each in taps)
        tables = Tables(*(self._uploaded(each) for each in arrays))
        kind = torch.uint8 if fit.levels else torch.float32
        size = channels * fit.height * fit.side
        lines = self._device.memory(size * kind.itemsize).view(kind).view(channels, fit.height, fit.side)
        for number in range(count):
            for launch in launches(pictures, number, fit, tables, lines, self._picture):
                yield self._kernel(launch)
            yield Node("condition", -1, self._graph.evaluate)
            yield self._copy(contexts[number].view(-1))

    def __call__(self, pictures: Pixels) -> F32:
        """The contexts of pictures of the host, (N, length): of those that are too large to be restored at once.

        They are scaled there, so that the GPU's memory need not hold them.

        Args:
            pictures: (N, H, W, C), uint8, or float32 in [0, 1].

        Raises:
            BackendError: where the device or the engine fails.
        """
        device, made = self._device, []
        shape = (len(pictures), pictures.shape[3], *pictures.shape[1:3])
        with translate_errors(device, shape, WHEN), torch.inference_mode(), device.on(self._stream):
            self.take(self._stream)
            for picture in pictures:
                device.copy(self._picture, torch.from_numpy(scaled(picture, self._side, self._resize)[None]))
                self._graph.evaluate()
                made.append(device.to_host(self._context))
        return np.stack(made)

    def _uploaded(self, array: NDArray[np.generic]) -> Tensor:
        given = torch.from_numpy(array)
        target = self._device.memory(array.nbytes).view(given.dtype).view(array.shape)
        self._device.copy(target, given)
        return target

    # Not through self where it is not needed: what refers to itself is not freed before the next garbage collection.

    def _kernel(self, launch: Launch) -> Node:
        device = self._device
        return Node("fit", -1, lambda: device.launch(launch), launch)

    def _copy(self, target: Tensor) -> Node:
        device, context = self._device, self._context
        return Node("context", -1, lambda: device.copy(target, context))
