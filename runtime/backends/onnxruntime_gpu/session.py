"""A session of ONNX Runtime on buffers of ours, which replays a CUDA graph of its own.

Its `Run` cannot be captured by us: in 1.31 it launches its own graph, which CUDA does not allow into a capture, and
without one it frees memory of the host, which is not allowed either. So each evaluation is one launch of its graph.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from mrs.kernels.threads import Task, Threads, end
from mrs.runtime.device import Device, Stream
from mrs.runtime.errors import BackendError
from mrs.runtime.system.handlers import let_through
from mrs.runtime.system.libraries import OrtSession, import_onnxruntime

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

# What ONNX Runtime calls a type: its number in ONNX, and torch's name.
TYPES = {"tensor(float)": (1, "float32"), "tensor(float16)": (10, "float16"), "tensor(bfloat16)": (16, "bfloat16")}
# Two runs without a graph, in which it allocates, one that captures, one that replays.
RUNS = 4
# What it says where memory does not suffice; it has no class of errors for that.
MEMORY = re.compile(r"out of memory|failed to allocate|ALLOC_FAILED|OutOfMemory", re.IGNORECASE)
# Held while a session captures, which it does for all threads (CUDA's global mode), and while one is let go of: its
# graph cannot be destroyed during a capture, and its destructor ends the process then.
_CAPTURES = threading.Lock()
_AFTERWARDS = Threads(1)


class BoundSession:
    """A session with its thread and its stream.

    Args:
        name: of the backend.
        provider: that must run all of it.
        session: makes the session for a stream.
        device: a `Cuda`.

    Attributes:
        name: of the backend.
        stream: that the session is bound to.
        inputs, outputs: names, types and shapes.
    """

    def __init__(self, name: str, provider: str, session: Callable[[Stream], OrtSession], device: Device) -> None:
        onnxruntime = import_onnxruntime()
        self.name, self._device, self.stream = name, device, device.stream()
        self._ready = False
        # ONNX Runtime keeps a graph for each thread, and would capture another one wherever else it is called from.
        self._thread = Threads(1)
        self._session = self._on_thread(session, self.stream)
        if self._session.get_providers()[0] != provider:
            raise BackendError(f"{name} is not used by onnxruntime: it has no {provider}", hint="see mrs-trt doctor")
        self.inputs, self.outputs = self._session.get_inputs(), self._session.get_outputs()
        self._kinds = {value.name: TYPES[value.type] for value in (*self.inputs, *self.outputs)}
        self._binding = self._session.io_binding()
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def __del__(self) -> None:
        kept = [self.__dict__.pop(name, None) for name in ("_session", "_binding")]
        if _CAPTURES.acquire(blocking=False):
            try:
                kept.clear()
            finally:
                _CAPTURES.release()
        else:
            # Waiting here could be waiting for this very thread.
            _AFTERWARDS.submit(Task(_let_go, kept))

    def zeros(self, name: str, shape: Sequence[int]) -> Tensor:
        """A tensor of an input's or an output's type; call it on the session's stream."""
        import torch

        return torch.zeros(tuple(shape), dtype=getattr(torch, self._kinds[name][1]), device=self._device.place)

    def bind(self, name: str, tensor: Tensor) -> None:
        """Let an input or output lie there."""
        place, kind = self._device.place, self._kinds[name][0]
        inputs = {value.name for value in self.inputs}
        bind = self._binding.bind_input if name in inputs else self._binding.bind_output
        bind(name, place.type, place.index or 0, kind, list(tensor.shape), tensor.data_ptr())

    def prepare(self, evaluate: Callable[[], None]) -> None:
        """Evaluate until it replays."""
        from mrs.runtime.cuda.alone import alone

        # Its capture ends where anything else in the process begins one.
        with alone(), self._device.on(self.stream):
            for _ in range(RUNS):
                evaluate()
            self._device.wait(self.stream)
        self._ready = True

    def run(self, where: str, before: Callable[[], None] = lambda: None) -> None:
        """One evaluation, after what the current stream was given, and before what it is given next.

        Args:
            where: it is, for an error.
            before: done first, on the session's stream.
        """
        device, caller = self._device, self._device.current()
        try:
            # The engine works on its own stream alone.
            if caller != self.stream:
                device.follow(self.stream, caller)
            with device.on(self.stream):
                before()
        except device.OutOfMemory:
            raise
        except (IndexError, device.Failure) as error:
            let_through(error)
            raise failed(f"{self.name} failed {where}", error, device) from error
        self._on_thread(self._run, where)
        if caller != self.stream:
            device.follow(caller, self.stream)

    def _run(self, where: str) -> None:
        # Caught here, on the session's thread, where no signal's handler raises anything.
        try:
            with self._device.apart(), nullcontext() if self._ready else _capturing():
                self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:
            # ONNX Runtime's exceptions share no base class below Exception.
            raise failed(f"{self.name} failed {where}", error, self._device) from error

    def _on_thread(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        task = Task(function, *arguments)
        try:
            self._thread.submit(task)
            return task.result()
        except BaseException:
            # Nobody uses the buffers while the session still works on them.
            end([task])
            raise


@contextmanager
def _capturing() -> Iterator[None]:
    """Let nothing be destroyed meanwhile, neither another session nor what a collection of garbage finds."""
    from mrs.runtime.cuda.alone import no_collections

    with _CAPTURES, no_collections():
        yield


def _let_go(kept: list[object]) -> None:
    with _CAPTURES:
        kept.clear()


def failed(what: str, error: Exception, device: Device) -> Exception:
    """An error of ONNX Runtime as one that says what to do; a lack of memory as the device's own, for the chain."""
    # Without the kind of the error, which it says twice.
    said = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split())) or type(error).__name__
    if MEMORY.search(said):
        return device.OutOfMemory(said)
    if "assigned to the default CPU EP" in said or "have not been partitioned" in said:
        return BackendError(f"{what}: it would run some of it on the CPU", hint="mrs-trt doctor tells what is missing")
    return BackendError(f"{what}: {said[:300]}")
