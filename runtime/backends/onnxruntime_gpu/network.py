"""A session of ONNX Runtime on buffers of ours, which replays a CUDA graph of its own.

Its `Run` cannot be captured by us: in 1.31 it launches its own graph, which CUDA does not allow into a capture, and
without one it frees memory of the host, which is not allowed either. So each evaluation is one launch of its graph.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from mrs.kernels.threads import Task, Threads, end
from mrs.runtime.backends.protocol import F32, Shape
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


class OnnxRuntimeGpuNetwork:
    """See `protocol.Network`.

    Args:
        name: of the backend.
        provider: that must run all of it.
        session: makes the session for a stream.
        device: a `Cuda`.
        modulation, shape: as of `protocol.Backend.compile`.

    Attributes:
        stream: that the session is bound to.
    """

    def __init__(
        self,
        name: str,
        provider: str,
        session: Callable[[Stream], OrtSession],
        device: Device,
        modulation: F32,
        shape: Shape,
    ) -> None:
        import torch

        from mrs.runtime.cuda.alone import alone

        onnxruntime = import_onnxruntime()
        self.name, self._device, self.stream = name, device, device.stream()
        self._ready = False
        # ONNX Runtime keeps a graph for each thread, and would capture another one wherever else it is called from.
        self._thread = Threads(1)
        self._session = self._on_thread(session, self.stream)
        if self._session.get_providers()[0] != provider:
            raise BackendError(f"{name} is not used by onnxruntime: it has no {provider}", hint="see mrs-trt doctor")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        kinds = {value.name: TYPES[value.type] for value in (*inputs, *outputs)}
        count, halves, height, width = shape
        half = getattr(torch, kinds["packed"][1])
        with torch.inference_mode(False), device.on(self.stream):
            self.packed = torch.zeros(shape, dtype=half, device=device.place)
            self.output = torch.zeros((count, halves // 2, height, width), dtype=half, device=device.place)
            # The graph reads one address, or one for each part of the row.
            self._row = torch.zeros((1, modulation.shape[1], 1, 1), device=device.place)
            told = next((value for value in inputs if value.name == "context"), None)
            self.context = None if told is None else torch.zeros(told.shape, device=device.place)
        self._binding = self._session.io_binding()
        parts = [value for value in inputs if value.name not in ("packed", "context")]
        rows = zip(parts, self._row.split([value.shape[1] for value in parts], 1), strict=True)
        for bind, name, tensor in (
            (self._binding.bind_input, "packed", self.packed),
            *([(self._binding.bind_input, "context", self.context)] if self.context is not None else []),
            *((self._binding.bind_input, value.name, part) for value, part in rows),
            (self._binding.bind_output, "output", self.output),
        ):
            place = device.place.type, device.place.index or 0
            bind(name, *place, kinds[name][0], list(tensor.shape), tensor.data_ptr())
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._rows: Tensor
        self.retime(modulation)
        # Its capture ends where anything else in the process begins one.
        with alone(), device.on(self.stream):
            for _ in range(RUNS):
                self.evaluate(0)
            self.output.zero_()
            device.wait(self.stream)
        self._ready = True

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

    def evaluate(self, step: int) -> None:
        device, caller = self._device, self._device.current()
        try:
            row = self._rows[step]
            # The engine works on its own stream alone.
            if caller != self.stream:
                device.follow(self.stream, caller)
            with device.on(self.stream):
                device.copy(self._row, row)
        except device.OutOfMemory:
            raise
        except (IndexError, device.Failure) as error:
            let_through(error)
            raise failed(f"{self.name} failed at step {step}", error, device) from error
        self._on_thread(self._run, step)
        if caller != self.stream:
            device.follow(caller, self.stream)

    def retime(self, modulation: F32) -> None:
        import torch

        rows = torch.from_numpy(modulation[:, None, :, None, None].copy())
        # Memory of this stream: the old rows may still be read on it, and nothing else gets them before.
        with torch.inference_mode(False), self._device.on(self.stream):
            self._rows = rows.to(self._row.device)

    def export(self) -> bytes | None:
        return None

    def _run(self, step: int) -> None:
        # Caught here, on the network's thread, where no signal's handler raises anything.
        try:
            with self._device.apart(), nullcontext() if self._ready else _capturing():
                self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:
            # ONNX Runtime's exceptions share no base class below Exception.
            raise failed(f"{self.name} failed at step {step}", error, self._device) from error

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
