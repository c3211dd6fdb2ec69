"""An engine at work: its context, its memory, and one enqueue per evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from mrs.kernels.threads import Task, Threads, end
from mrs.runtime.backends.protocol import F32, Shape
from mrs.runtime.backends.tensorrt.messages import Messages, collected, logger
from mrs.runtime.backends.typed_graph import HALVES
from mrs.runtime.device import Device, Stream
from mrs.runtime.errors import BackendError

if TYPE_CHECKING:
    import tensorrt as trt
    import torch
    from torch import Tensor

T = TypeVar("T")

CANNOT = "tensorrt cannot load its engine"
# Of `packed` and `output`, by the names of ONNX's types: torch's and TensorRT's.
DTYPES = {"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16"}
NAMES = frozenset({"packed", "modulation", "output"})
CONTEXT = "context"
# What TensorRT asks of an address.
ALIGNMENT = 256


class TensorRtNetwork:
    """An engine with buffers of its own; see `protocol.Network`.

    All memory of a run is made here, by the device that the chain works on: an evaluation allocates nothing, so that it
    can be captured.

    Args:
        engine: as the builder gave it. It is native code: its digest was checked when the plan was read.
        modulation: (steps, M) float32.
        shape: (N, 2C, H, W).
        precision: of the engine.
        device: a `Cuda`.

    Raises:
        BackendError: for an engine of another version, GPU, shape or precision.
        DeviceMemoryError: where the GPU's memory does not suffice.
    """

    def __init__(self, engine: bytes, modulation: F32, shape: Shape, precision: str, device: Device) -> None:
        import torch

        self._bytes, self._device = engine, device
        self._context: trt.IExecutionContext
        self._engine: trt.ICudaEngine
        # The context goes first, then the engine, then what it was made with.
        with torch.inference_mode(False), device.on(device.current()):
            self._context, self._engine, self._runtime = _apart(device, lambda: _loaded(engine, shape, precision))
            self._vectors = tuple(self._engine.get_tensor_shape("modulation"))[1]
            count, halves, height, width = shape
            dtype = getattr(torch, DTYPES[HALVES[precision]])
            self.packed = self._tensor(shape, dtype)
            self.output = self._tensor((count, halves // 2, height, width), dtype)
            self._rows = torch.empty(0)
            self.retime(modulation)
            # For any size that the engine serves: TensorRT takes no less.
            size = max(self._engine.device_memory_size_v2, ALIGNMENT)
            self._memory = device.memory(size)
            self._context.set_device_memory(self._memory.data_ptr(), size)
            length = _context_length(self._engine)
            self.context = self._tensor((count, length, 1, 1), torch.float32) if length else None
            for name, tensor in (("packed", self.packed), ("output", self.output), (CONTEXT, self.context)):
                if tensor is not None:
                    self._bind(name, tensor.data_ptr())
            # For whoever works on the default stream, on which TensorRT would wait for the whole device.
            self._own = device.stream()

    def evaluate(self, step: int) -> None:
        """See `protocol.Network`."""
        if not 0 <= step < len(self._rows):
            raise BackendError(f"tensorrt failed at step {step}: it is out of range")
        # The address of a step is always the same: a captured graph keeps it.
        self._bind("modulation", self._rows[step].data_ptr())
        current = self._device.current()
        if self._device.handle(current):
            self._enqueue(step, current)
            return
        self._device.follow(self._own, current)
        self._enqueue(step, self._own)
        self._device.follow(current, self._own)

    def retime(self, modulation: F32) -> None:
        """See `protocol.Network`."""
        import torch

        steps, size = modulation.shape
        if size != self._vectors:
            raise BackendError(
                f"tensorrt has an engine for {self._vectors} time-dependent values, {size} are given",
                hint="build the plan again",
            )
        if len(self._rows) != steps:
            # Every row begins where an address may begin.
            stride = -(-4 * size // ALIGNMENT) * ALIGNMENT
            memory = self._device.memory(steps * stride)
            self._rows = memory.view(torch.float32).view(steps, stride // 4)
        self._rows[:, :size].copy_(torch.from_numpy(modulation))

    def export(self) -> bytes | None:
        """See `protocol.Network`."""
        return self._bytes

    def _tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Zeros, as planes: engines read channels last of half precision only in multiples of 8 channels."""
        return self._device.memory(math.prod(shape) * dtype.itemsize).view(dtype).view(shape)

    def _bind(self, name: str, address: int) -> None:
        with collected() as messages:
            if not self._context.set_tensor_address(name, address):
                raise messages.error(f"tensorrt refuses the address of {name}")

    def _enqueue(self, step: int, stream: Stream) -> None:
        with collected() as messages:
            if not self._context.execute_async_v3(self._device.handle(stream)):
                raise messages.error(f"tensorrt failed at step {step}")


def _apart(device: Device, load: Callable[[], T]) -> T:
    """Call something on a thread of its own, on the current stream.

    Python runs the handlers of signals in the main thread, in whatever code of Python comes next. While an engine is
    loaded that is our logger, and TensorRT's bindings drop what is raised in there: Ctrl-C would be lost.
    """
    stream = device.current()

    def work() -> T:
        with device.on(stream):
            return load()

    threads, task = Threads(1), Task(work)
    try:
        threads.submit(task)
        return task.result()
    except BaseException:
        end([task])
        raise


def _loaded(content: bytes, shape: Shape, precision: str) -> tuple[trt.IExecutionContext, trt.ICudaEngine, trt.Runtime]:
    with collected() as messages:
        runtime = _runtime(messages)
        engine = _deserialized(runtime, content, messages)
        _check(engine, shape, precision)
        return _made(engine, shape, messages), engine, runtime


def _runtime(messages: Messages) -> trt.Runtime:
    import tensorrt as trt

    try:
        return trt.Runtime(logger())
    except TypeError as error:
        # Its factory gave nothing.
        raise messages.error(CANNOT) from error


def _deserialized(runtime: trt.Runtime, content: bytes, messages: Messages) -> trt.ICudaEngine:
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise messages.error(CANNOT)
    return engine


def _check(engine: trt.ICudaEngine, shape: Shape, precision: str) -> None:
    import tensorrt as trt

    names = _names(engine)
    if names - {CONTEXT} != NAMES:
        raise BackendError(f"{CANNOT}: it has the inputs and outputs {', '.join(sorted(names))}")
    types = {"FLOAT": trt.DataType.FLOAT, "FLOAT16": trt.DataType.HALF, "BFLOAT16": trt.DataType.BF16}
    wanted = types[HALVES[precision]]
    if any(engine.get_tensor_dtype(name) != wanted for name in ("packed", "output")):
        raise BackendError(f"{CANNOT}: it is not for {precision}")
    if CONTEXT in names and engine.get_tensor_dtype(CONTEXT) != trt.DataType.FLOAT:
        raise BackendError(f"{CANNOT}: its context is not float32")
    # A side that is not fixed is -1.
    made_for = tuple(engine.get_tensor_shape("packed"))
    if len(made_for) != 4 or any(side not in (-1, given) for side, given in zip(made_for, shape, strict=True)):
        raise BackendError(f"{CANNOT}: it is for {made_for}, not for {shape}")


def _made(engine: trt.ICudaEngine, shape: Shape, messages: Messages) -> trt.IExecutionContext:
    import tensorrt as trt

    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    if context is None:
        raise messages.error(CANNOT)
    # Without an effect where the engine is for this shape alone.
    shapes = {"packed": tuple(shape)}
    if length := _context_length(engine):
        shapes[CONTEXT] = (shape[0], length, 1, 1)
    if not all(context.set_input_shape(name, sides) for name, sides in shapes.items()):
        raise BackendError(f"{CANNOT} for {shape}: it is for other sizes")
    return context


def _names(engine: trt.ICudaEngine) -> set[str]:
    """Of inputs and outputs."""
    return {engine.get_tensor_name(number) for number in range(engine.num_io_tensors)}


def _context_length(engine: trt.ICudaEngine) -> int:
    """Length of what the network is told of the whole picture; 0 where that is nothing."""
    return int(tuple(engine.get_tensor_shape(CONTEXT))[1]) if CONTEXT in _names(engine) else 0
