"""All that a chain asks of CUDA, through torch. The tests have a double of it that refuses what CUDA refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import cast

import torch
import torch.utils.dlpack

from mrs.kernels.gpu.launch import Launch
from mrs.kernels.update import Pixels
from mrs.runtime.cuda.capture import captured
from mrs.runtime.cuda.streams import own_stream
from mrs.runtime.device import Graph, Stream
from mrs.runtime.system.nvidia_driver import apart_from_captures

# The number of CUDA in DLPack.
DLPACK_CUDA = 2


class Cuda:
    """One GPU.

    Args:
        index: its number; by default the current one.
    """

    # What torch raises where memory does not suffice, and where anything else fails.
    OutOfMemory: type[Exception] = torch.OutOfMemoryError
    Failure: type[Exception] = RuntimeError

    def __init__(self, index: int | None = None) -> None:
        self.place = torch.device("cuda", torch.cuda.current_device() if index is None else index)

    def stream(self) -> Stream:
        """A stream that nobody else has as long as this object lives, never the default one."""
        return own_stream(self.place)

    def current(self) -> Stream:
        """The stream on which the calling thread works."""
        return torch.cuda.current_stream(self.place)

    def is_capturing(self) -> bool:
        """Whether what the calling thread gives to its current stream is captured, not done."""
        return torch.cuda.is_current_stream_capturing()

    def handle(self, stream: Stream) -> int:
        """A stream as CUDA numbers it; 0 for the default one."""
        return int(_torch_stream(stream).cuda_stream)

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        """Let all that follows happen on a stream, `apart` too."""
        with self.apart(), torch.cuda.device(self.place), torch.cuda.stream(_torch_stream(stream)):
            yield

    def apart(self) -> AbstractContextManager[None]:
        """A context in which the calling thread waits and allocates whatever other threads capture."""
        return apart_from_captures()

    def memory(self, size: int) -> torch.Tensor:
        """Zeros, (size,) uint8, on the device."""
        return torch.zeros(size, dtype=torch.uint8, device=self.place)

    def host_memory(self, size: int) -> torch.Tensor:
        """Zeros, (size,) uint8, on the host, pinned: copies to and from it may be captured."""
        return torch.zeros(size, dtype=torch.uint8, pin_memory=True)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy on the current stream; the host does not wait."""
        target.copy_(source, non_blocking=True)

    def launch(self, launch: Launch) -> None:
        """Launch a kernel on the current stream."""
        launch.run()

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """A graph of what `work` does on a stream; `replay()` does it again on the current stream.

        Other threads do not disturb it unless they wait for the whole device, as `alone` says.
        """
        with self.on(stream):
            return captured(self.place, _torch_stream(stream), work)

    def wait(self, stream: Stream) -> None:
        """Wait on the host until a stream has done all that it was given."""
        _torch_stream(stream).synchronize()

    def follow(self, stream: Stream, other: Stream) -> None:
        """Let a stream wait for what another was given so far; the host does not wait."""
        _torch_stream(stream).wait_stream(_torch_stream(other))

    def tensor(self, image: object) -> torch.Tensor | None:
        """A picture as a tensor on this device, without a copy; None for what lies elsewhere.

        Args:
            image: a tensor, or whatever speaks DLPack.
        """
        if isinstance(image, torch.Tensor):
            return image if image.device == self.place else None
        if not hasattr(image, "__dlpack_device__") or image.__dlpack_device__() != (DLPACK_CUDA, self.place.index):
            return None
        tensor: torch.Tensor = torch.utils.dlpack.from_dlpack(image)
        return tensor

    def empty(self, shape: tuple[int, ...], kind: str) -> torch.Tensor:
        """A new tensor on the device, of a type named as NumPy names it."""
        return torch.empty(shape, dtype=getattr(torch, kind), device=self.place)

    def to_host(self, tensor: torch.Tensor) -> Pixels:
        """A copy as an array; the host waits for it."""
        array: Pixels = tensor.cpu().numpy()
        return array

    def from_host(self, target: torch.Tensor, source: Pixels) -> None:
        """Copy an array into a tensor."""
        target.copy_(torch.from_numpy(source))

    def keep(self, tensor: torch.Tensor, stream: Stream) -> None:
        """Let nobody get a tensor's memory before a stream has done what it was given so far."""
        tensor.record_stream(_torch_stream(stream))

    def reserved(self) -> int:
        """Bytes of the device's memory that this process holds."""
        return int(torch.cuda.memory_reserved(self.place))

    def free_memory(self) -> int:
        """Bytes of the device's memory that can still be had, what torch holds in reserve for anybody included."""
        free, _ = torch.cuda.mem_get_info(self.place)
        # What lies in the pool of a graph is for that graph alone.
        pools = sum(
            segment["total_size"] - segment["allocated_size"]
            for segment in torch.cuda.memory_snapshot()
            if segment["device"] == self.place.index and tuple(segment["segment_pool_id"]) != (0, 0)
        )
        return int(free) + self.reserved() - int(torch.cuda.memory_allocated(self.place)) - int(pools)

    def release(self) -> None:
        """Give back memory that is held in reserve."""
        torch.cuda.empty_cache()


def _torch_stream(stream: Stream) -> torch.cuda.Stream:
    """A stream that a `Cuda` gave."""
    return cast(torch.cuda.Stream, stream)
