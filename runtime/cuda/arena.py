"""The memory of a chain: one block on the device, cut into arrays, and two pinned ones on the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from mrs.runtime.device import Device

# Every array begins where the widest access of any GPU may begin, as memory from the allocator does.
ALIGNMENT = 256


@dataclass(frozen=True)
class Spec:
    """Shape and type of an array; `dtype` is a type of torch."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Block:
    """Arrays that follow one another in one piece of memory.

    Args:
        memory: makes zeros of so many bytes, (size,) uint8.
        specs: the arrays by name, in their order.

    Attributes:
        all: the whole memory.
    """

    def __init__(self, memory: Callable[[int], torch.Tensor], specs: Mapping[str, Spec]) -> None:
        begins, end = {}, 0
        for name, spec in specs.items():
            begins[name] = end
            end += -(-spec.size // ALIGNMENT) * ALIGNMENT
        self.all: torch.Tensor = memory(end)
        self._arrays = {
            name: self.all[begin : begin + specs[name].size].view(specs[name].dtype).view(specs[name].shape)
            for name, begin in begins.items()
        }

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._arrays[name]


class Arena:
    """All arrays of a chain but the network's.

    What goes to the device at each restore lies together, and so does what comes from it: one copy each.

    Args:
        device: a `Cuda`.
        up: arrays that the host writes.
        down: arrays that the host reads.
        here: arrays that stay on the device.

    Attributes:
        up, down: on the device.
        host_up, host_down: the same on the host, pinned.
        here: on the device.
    """

    def __init__(
        self, device: Device, up: Mapping[str, Spec], down: Mapping[str, Spec], here: Mapping[str, Spec]
    ) -> None:
        self.up, self.down = Block(device.memory, up), Block(device.memory, down)
        self.host_up, self.host_down = Block(device.host_memory, up), Block(device.host_memory, down)
        self.here = Block(device.memory, here)

    @property
    def size(self) -> int:
        """Bytes on the device."""
        return sum(block.all.numel() for block in (self.up, self.down, self.here))
