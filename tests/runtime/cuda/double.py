"""A GPU of CPU memory, which does what it is told late, and refuses what CUDA refuses.

A stream holds its work back until somebody waits for it, or for one that follows it: what is read too early is read as
it was. During a capture, work for the default stream or for any other that is not captured, allocation, waiting and
copies of memory that is not pinned are refused, in the thread that captures alone. What is captured is not carried out;
a replay carries it out, on the memory it was captured with. Kernels run as their references, or through Triton's
interpreter. torch's own operations take their turn wherever a stream was chosen with `on`.

How it behaves is in `behaviour`, torch's own operations in `operations`, kernels in `references`; README.md beside
them tells how to use all this in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import _disable_current_modes

from tests.runtime.cuda.behaviour import (
    CAPTURING,
    POISON,
    Behaviour,
    FailureError,
    Graph,
    OutOfMemoryError,
    Stream,
)
from tests.runtime.cuda.operations import InTurn, Recorder
from tests.runtime.cuda.references import References, arguments_of, interpret


class Double(Behaviour):
    """See `mrs.runtime.cuda.device.Cuda`.

    Args:
        limit: bytes of memory.
        interpreted: run kernels through Triton's interpreter, a hundred times slower, instead of as references.

    Attributes:
        log: what was asked, in order: `stream 1: replay`, `stream 1 follows default`, `wait for stream 1`.
        fail: errors by what they happen in: a name as in the log (`step_pixels 1`), the first word of one, or
            `capture`. A `FatalError` leaves nothing that works.
        flaky: what fails, fails only once.
        captures: how many graphs were made. `graphs` are those that still live, and so with streams, `owned`.
        invalidated: how many captures were disturbed, and `reason` is what CUDA says of one.
        captured_elsewhere: whether a library captures in CUDA's global mode, in a thread of its own: what might disturb
            that is refused in every thread that keeps CUDA's default mode, and ends it.
        taken: bytes of memory in use.
    """

    OutOfMemory: type[Exception] = OutOfMemoryError
    Failure: type[Exception] = RuntimeError

    def __init__(self, limit: int = 1 << 30, *, interpreted: bool = False) -> None:
        super().__init__(limit, interpret if interpreted else References().run)
        self.place = torch.device("cpu")

    # What a chain asks for

    def stream(self) -> Stream:
        self._streams += 1
        stream = Stream(f"stream {self._streams}")
        self.owned.add(stream)
        return stream

    def current(self) -> Stream:
        streams = self._chosen()
        return streams[-1] if streams else self.default

    def is_capturing(self) -> bool:
        return self.capturing is not None

    def handle(self, stream: Stream) -> int:
        return 0 if stream is self.default else id(stream)

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        self._chosen().append(stream)
        try:
            with self.apart(), InTurn(self):
                yield
        finally:
            self._chosen().pop()

    @contextmanager
    def apart(self) -> Iterator[None]:
        before, self._mine.local = getattr(self._mine, "local", False), True
        try:
            yield
        finally:
            self._mine.local = before

    def memory(self, size: int) -> torch.Tensor:
        return self._allocated(size, "device")

    def host_memory(self, size: int) -> torch.Tensor:
        return self._allocated(size, "pinned")

    def empty(self, shape: tuple[int, ...], kind: str) -> torch.Tensor:
        dtype = getattr(torch, kind)
        size = int(np.prod(shape)) * dtype.itemsize
        return self.memory(size).fill_(POISON).view(dtype).view(shape)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        kinds = self._kind(target), self._kind(source)
        if self.capturing and "pageable" in kinds:
            raise FailureError(f"{CAPTURING}: a copy of memory that is not pinned")
        # What is not pinned is copied aside at once.
        with _disable_current_modes():
            given = source.clone() if kinds[1] == "pageable" else source
        name = {("device", "pinned"): "copy up", ("pinned", "device"): "copy down"}.get(kinds, "copy")
        self.give(name, lambda: target.copy_(given))

    def launch(self, launch: Any) -> None:
        given = arguments_of(launch)
        name = f"{launch.name} {given['index']}" if "index" in given else launch.name
        self.give(name, lambda: self._run(launch))

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        self.log.append(f"capture on {stream.name}")
        self._check_alive()
        if "capture" in self.fail:
            raise self.fail["capture"]
        if stream is self.default:
            raise FailureError("the default stream cannot be captured")
        # As torch begins one.
        self.synchronize()
        graph = Graph(self, stream)
        self._mine.graph = graph
        self._underway.append(graph)
        try:
            with self.on(stream), Recorder(self, graph):
                work()
                self._check_valid(graph)
        finally:
            self._mine.graph = None
            self._underway.remove(graph)
        self.captures += 1
        self.graphs.add(graph)
        graph.ended = True
        return graph

    def wait(self, stream: Stream) -> None:
        self.refuse("the host waits")
        self.log.append(f"wait for {stream.name}")
        self._check_alive()
        self.catch_up(stream)

    def follow(self, stream: Stream, other: Stream) -> None:
        self.refuse("a stream follows one that is not captured", anybody=False)
        self.log.append(f"{stream.name} follows {other.name}")
        self._check_alive()
        until = other.given
        with self._lock:
            stream.add(lambda: self.catch_up(other, until))

    def tensor(self, image: object) -> torch.Tensor | None:
        if isinstance(image, torch.Tensor):
            return None if self._kind(image) == "pageable" else image
        if not hasattr(image, "__dlpack_device__"):
            return None
        tensor: torch.Tensor = torch.from_dlpack(image)
        self._memory[tensor.untyped_storage().data_ptr()] = "device"
        return tensor

    def to_host(self, tensor: torch.Tensor) -> NDArray[Any]:
        self.wait(self.current())
        # A view would make NumPy's of what is the device's.
        return tensor.clone().numpy()

    def from_host(self, target: torch.Tensor, source: NDArray[Any]) -> None:
        self.wait(self.current())
        target.copy_(torch.from_numpy(source))

    def keep(self, tensor: torch.Tensor, stream: Stream) -> None:
        self._check_alive()
        self.log.append(f"keep for {stream.name}")

    def reserved(self) -> int:
        return self.taken

    def free_memory(self) -> int:
        return self.limit - self.taken

    def release(self) -> None:
        self._check_alive()
        self.log.append("release")
        # cudaFree waits for the whole device.
        self.synchronize()

    # What else a test asks for

    def synchronize(self) -> None:
        """Wait for the whole device, as compilers do that choose by timing: what any thread captures is lost."""
        self.refuse("the host waits for the device")
        self._invalidate(self._underway)

    def upload(self, array: NDArray[Any]) -> torch.Tensor:
        """A copy of an array on the device."""
        tensor = self.empty(array.shape, str(array.dtype))
        tensor.numpy()[...] = array
        return tensor

    def taken_log(self) -> list[str]:
        """The log so far, which begins anew."""
        log, self.log = self.log, []
        return log
