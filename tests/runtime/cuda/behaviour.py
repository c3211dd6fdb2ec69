"""How a GPU behaves: work is done late and in its order, what CUDA refuses is refused. Its face is in `double`."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

ALIGNMENT = 256
POISON = 0xAB
CAPTURING = "operation not permitted when stream is capturing"
INVALIDATED = "operation failed due to a previous error during capture"
IMPLICIT = "operation would make the legacy stream depend on a capturing blocking stream"
# Operations that wait for a device, or read from it.
WAITING = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero", "aten::equal"}


class FailureError(RuntimeError):
    """What a GPU fails with."""


class OutOfMemoryError(FailureError):
    """Too little memory."""


class FatalError(FailureError):
    """After which every call fails."""


class Stream:
    """Work in its order, of which some is done."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: deque[Callable[[], None]] = deque()
        self.given = self.done = 0

    def add(self, call: Callable[[], None]) -> None:
        self.waiting.append(call)
        self.given += 1


class Graph:
    """What was captured, with its names: `calls` is carried out by each replay."""

    def __init__(self, device: Behaviour, stream: Stream) -> None:
        self.device, self.stream = device, stream
        self.calls: list[tuple[str, Callable[[], None]]] = []
        self.invalid = self.uploaded = self.ended = False

    def __del__(self) -> None:
        if self.ended:
            self.device.destroyed()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def replay(self) -> None:
        """Carry out what was captured, on the current stream; the first time it is uploaded before."""
        if not self.uploaded:
            self.device.give("upload of a graph")
            self.uploaded = True

        def again() -> None:
            # As networks are recorded; other tensors may be written so too.
            with torch.inference_mode():
                for name, call in self.calls:
                    self.device.carry_out(name, call)

        self.device.give("replay", again)


class Behaviour:
    """What a double of a GPU keeps and does, whatever it is asked through.

    Args:
        limit: bytes of memory.
        run: carries out a kernel's launch.
    """

    def __init__(self, limit: int, run: Callable[[Any], None]) -> None:
        self.limit, self.taken, self.captures, self.invalidated = limit, 0, 0, 0
        self.default = Stream("default")
        self.log: list[str] = []
        self.graphs: weakref.WeakSet[Graph] = weakref.WeakSet()
        self.owned: weakref.WeakSet[Stream] = weakref.WeakSet()
        self.fail: dict[str, Exception] = {}
        self.flaky, self.reason, self.captured_elsewhere = False, INVALIDATED, False
        self._run = run
        self._mine = threading.local()
        # What any thread captures.
        self._underway: list[Graph] = []
        self._lock = threading.RLock()
        self._dead: Exception | None = None
        self._streams = 0
        # By where they begin: on the device, or pinned on the host.
        self._memory: dict[int, str] = {}

    def destroyed(self) -> None:
        """A graph is: its memory goes back to the GPU, for which that waits as a whole."""
        self._invalidate(self._underway)

    @property
    def capturing(self) -> Graph | None:
        """What this thread captures."""
        graph: Graph | None = getattr(self._mine, "graph", None)
        return graph

    def give(self, name: str, call: Callable[[], Any] = lambda: None) -> None:
        """Work for the current stream."""
        stream, graph = self.current(), self.capturing
        self._check_alive()
        if graph is not None:
            self._check_valid(graph)
            self.check_captured(name)
            graph.calls.append((name, call))
            return
        self.log.append(f"{stream.name}: {name}")
        inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

        def later() -> None:
            # As if it were done when it was given.
            with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
                self.carry_out(name, call)

        with self._lock:
            stream.add(later)

    def check_captured(self, name: str) -> None:
        """Refuse work for a stream that is not the captured one."""
        assert self.capturing is not None
        if self.current() is self.default:
            raise FailureError(f"{CAPTURING}: {name} on the default stream")
        if self.current() is not self.capturing.stream:
            raise FailureError(f"{CAPTURING}: {name} on a stream that is not captured")

    def carry_out(self, name: str, call: Callable[[], Any]) -> None:
        """Do what was given, or fail."""
        for each in (name, name.split()[0]):
            if each in self.fail:
                error = self.fail[each]
                self._dead = error if isinstance(error, FatalError) else None
                if self.flaky:
                    self.fail.clear()
                raise error
        call()

    def catch_up(self, stream: Stream, until: int | None = None) -> None:
        """Let a stream do what it was given; what lies behind a failure is lost."""
        with self._lock, _disable_current_modes(), np.errstate(all="ignore"):
            last = stream.given if until is None else until
            while stream.done < last:
                call = stream.waiting.popleft()
                stream.done += 1
                try:
                    call()
                except Exception:
                    stream.waiting.clear()
                    stream.done = stream.given
                    raise

    def refuse(self, what: str, anybody: bool = True) -> None:
        """Fail where this thread captures, or, for what counts as unsafe, anybody in the global mode."""
        if self.capturing is not None:
            raise FailureError(f"{CAPTURING}: {what}")
        if anybody and self.captured_elsewhere and not getattr(self._mine, "local", False):
            self.invalidated += 1
            raise FailureError(f"{CAPTURING}: {what}, in a thread of the global mode")

    def _invalidate(self, graphs: Iterable[Graph]) -> None:
        for graph in list(graphs):
            self.invalidated += not graph.invalid
            graph.invalid = True

    def _chosen(self) -> list[Stream]:
        if not hasattr(self._mine, "streams"):
            self._mine.streams = []
        streams: list[Stream] = self._mine.streams
        return streams

    def _allocated(self, size: int, kind: str) -> torch.Tensor:
        self.refuse(f"memory of the {kind} kind is allocated")
        self._check_alive()
        if kind == "device":
            if self.taken + size > self.limit:
                raise OutOfMemoryError(f"out of memory: {size} bytes do not fit into {self.free_memory()}")
            self.taken += size
        # torch keeps the array as long as a view of it lives.
        array = np.zeros(size + ALIGNMENT, np.uint8)
        self._memory[array.ctypes.data] = kind
        weakref.finalize(array, self._freed, array.ctypes.data, size)
        begin = -array.ctypes.data % ALIGNMENT
        return torch.from_numpy(array)[begin : begin + size]

    def _freed(self, address: int, size: int) -> None:
        if self._memory.pop(address) == "device":
            self.taken -= size

    def _kind(self, tensor: torch.Tensor) -> str:
        storage = tensor.untyped_storage()
        # What torch allocates counts as the device's, such as the buffers of a network; what is NumPy's, as the host's.
        return self._memory.get(storage.data_ptr(), "device" if storage.resizable() else "pageable")

    def _check_valid(self, graph: Graph) -> None:
        if graph.invalid:
            raise FailureError(self.reason)

    def _check_alive(self) -> None:
        if self._dead is not None:
            raise self._dead
