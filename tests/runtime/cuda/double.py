"""A GPU of CPU memory, which does what it is told late, and refuses what CUDA refuses.

A stream holds its work back until somebody waits for it, or for one that follows it: what is read too early is read as
it was. During a capture, work for the default stream or for any other that is not captured, allocation, waiting and
copies of memory that is not pinned are refused, in the thread that captures alone. What is captured is not carried out;
a replay carries it out, on the memory it was captured with. Kernels run as their references, or through Triton's
interpreter. torch's own operations take their turn wherever a stream was chosen with `on`.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

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

    def __init__(self, device: Double, stream: Stream) -> None:
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


class Double:
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
        self.place = torch.device("cpu")
        self.limit, self.taken, self.captures, self.invalidated = limit, 0, 0, 0
        self.default = Stream("default")
        self.log: list[str] = []
        self.graphs: weakref.WeakSet[Graph] = weakref.WeakSet()
        self.owned: weakref.WeakSet[Stream] = weakref.WeakSet()
        self.fail: dict[str, Exception] = {}
        self.flaky, self.reason, self.captured_elsewhere = False, INVALIDATED, False
        self._run = _interpret if interpreted else References().run
        self._mine = threading.local()
        # What any thread captures.
        self._underway: list[Graph] = []
        self._lock = threading.RLock()
        self._dead: Exception | None = None
        self._streams = 0
        # By where they begin: on the device, or pinned on the host.
        self._memory: dict[int, str] = {}

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
            with self.apart(), _InTurn(self):
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
            with self.on(stream), _Recorder(self, graph):
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
        return tensor.numpy().copy()

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

    def destroyed(self) -> None:
        """A graph is: its memory goes back to the GPU, for which that waits as a whole."""
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


class _Plain(TorchDispatchMode):
    """A mode without torch's wrapper against its own compiler: nothing is compiled here, and it loads all of that."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class _InTurn(_Plain):
    """Lets torch's operations, which happen at once, come after what their stream was given."""

    def __init__(self, device: Double) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.device.capturing is None and (not _may_be_view(func) or _may_copy(func)):
            self.device.catch_up(self.device.current())
        return func(*args, **(kwargs or {}))


class _Recorder(_Plain):
    """Records torch's operations during a capture, whose results lie in memory of the graph's own."""

    def __init__(self, device: Double, graph: Graph) -> None:
        super().__init__()
        self.device, self.graph = device, graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if name in WAITING:
            raise FailureError(f"{CAPTURING}: {name}")
        if _may_be_view(func):
            result = func(*args, **kwargs)
            if not _may_copy(func) or _is_of(result, args):
                return result
        self.device.check_captured(name)
        if func._schema.is_mutable:
            # What is written keeps its values until the first replay.
            assert name.endswith("_"), name
            self.graph.calls.append((name, lambda: func(*args, **kwargs)))
            return args[0]
        # Carried out once for the shapes of its results.
        result = func(*args, **kwargs)

        def again() -> None:
            for old, new in zip(_tensors(result), _tensors(func(*args, **kwargs)), strict=True):
                old.copy_(new)

        self.graph.calls.append((name, again))
        return result


def _may_be_view(func: Any) -> bool:
    schema = func._schema
    return not schema.is_mutable and any(alias.alias_info is not None for alias in schema.returns)


def _may_copy(func: Any) -> bool:
    """Whether an operation is a view where it can be one, and a copy otherwise, such as `reshape`."""
    return bool(func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd))


def _is_of(result: Any, given: Any) -> bool:
    """Whether a result is memory of what was given."""
    addresses = {tensor.untyped_storage().data_ptr() for tensor in _tensors(list(given))}
    return all(tensor.untyped_storage().data_ptr() in addresses for tensor in _tensors(result))


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for entry in value for tensor in _tensors(entry)] if isinstance(value, (list, tuple)) else []


def arguments_of(launch: Any) -> dict[str, Any]:
    """A kernel's arguments by their names."""
    return dict(zip(inspect.signature(launch.kernel.fn).parameters, launch.arguments, strict=False))


def _interpret(launch: Any) -> None:
    launch.run()


class References:
    """Kernels as their references, on the same memory. A threshold is computed when it is chosen."""

    def __init__(self) -> None:
        self._counted: dict[int, list[Any]] = {}

    def run(self, launch: Any) -> None:
        from mrs.kernels.gpu import reference

        given = {
            name: value.detach().numpy() if isinstance(value, torch.Tensor) else value
            for name, value in arguments_of(launch).items()
        }
        size = (given.get("height"), given.get("width"))
        kind = launch.name.split("_")[0]
        state = [given.get(name) for name in ("x", "mu", "output")]
        tables = [given.get(name) for name in ("records", "key", "bounds", "index")]
        if kind == "start":
            reference.start(*(given[name] for name in ("picture", "mu", "x", "packed", "records", "key")))
        elif kind == "step":
            reference.step(*state, given["history"], given["packed"], *tables, size)
        elif kind == "finish":
            reference.finish(*state, given["history"], given["picture"], *tables)
        elif kind == "audit":
            reference.audit(given["values"], given["status"])
        elif kind == "count":
            self._counted[launch.arguments[4].data_ptr()] = [*state, given["records"], given["index"], size]
        elif kind == "choose":
            x, mu, output, records, index, shape = self._counted.pop(launch.arguments[0].data_ptr())
            reference.threshold(x, mu, output, records, given["counts"], given["bounds"], index, shape)
        else:
            assert kind == "find", launch.name
