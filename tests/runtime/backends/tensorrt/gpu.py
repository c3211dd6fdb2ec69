"""The double of a GPU, as an engine of TensorRT needs it."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any

import torch

from tests.runtime.cuda.behaviour import Stream
from tests.runtime.cuda.double import Double
from tests.runtime.cuda.references import References


class Gpu(Double):
    """The double of a GPU, which knows where its memory lies."""

    def __init__(self, limit: int = 1 << 30) -> None:
        super().__init__(limit)
        self._run = self._wide
        self._references = References()
        self.blocks: dict[int, int] = {}
        self._named: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()

    def handle(self, stream: Stream) -> int:
        number = super().handle(stream)
        self._named[number] = stream
        return number

    def _wide(self, launch: Any) -> None:
        """A kernel's reference, which NumPy has for no bfloat16, on float32 instead."""
        given = launch.arguments
        wide = [
            each.float() if isinstance(each, torch.Tensor) and each.dtype == torch.bfloat16 else each for each in given
        ]
        self._references.run(SimpleNamespace(name=launch.name, kernel=launch.kernel, arguments=wide))
        for own, other in zip(given, wide, strict=True):
            if own is not other:
                own.copy_(other)

    def stream_of(self, handle: int) -> Stream:
        return self._named[handle]

    def memory(self, size: int) -> torch.Tensor:
        tensor = super().memory(size)
        begin = tensor.data_ptr()
        self.blocks[begin] = size
        weakref.finalize(tensor.untyped_storage(), self.blocks.pop, begin, None)
        return tensor

    def holds(self, address: int, size: int) -> bool:
        """Whether so many bytes from an address are the device's."""
        return any(begin <= address and address + size <= begin + whole for begin, whole in self.blocks.items())
