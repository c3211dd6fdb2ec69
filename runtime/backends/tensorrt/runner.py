"""An engine at work: its context, its memory, and one enqueue per evaluation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mrs.runtime.backends.protocol import F32, Shape
from mrs.runtime.backends.tensorrt.messages import Messages, logger
from mrs.runtime.backends.typed_graph import HALVES
from mrs.runtime.errors import BackendError

if TYPE_CHECKING:
    import tensorrt as trt

CANNOT = "tensorrt cannot load its engine"
# Of `packed` and `output`, by the names of ONNX's types: torch's and TensorRT's.
DTYPES = {"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16"}
NAMES = frozenset({"packed", "modulation", "output"})
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

    def __init__(self, engine: bytes, modulation: F32, shape: Shape, precision: str, device: Any) -> None:
        import torch

        self._bytes, self._device = engine, device
        self._messages = Messages()
        # The context goes first, then the engine, then what it was made with.
        self._context: trt.IExecutionContext
        self._engine: trt.ICudaEngine
        with torch.inference_mode(False), device.on(device.current()):
            runtime, logging = self._runtime()
            self._engine = self._deserialized(runtime, shape, precision)
            self._runtime_kept = runtime, logging
            self._vectors = tuple(self._engine.get_tensor_shape("modulation"))[1]
            self._context = self._made(shape)
            count, halves, height, width = shape
            dtype = getattr(torch, DTYPES[HALVES[precision]])
            self.packed = self._tensor(shape, dtype)
            self.output = self._tensor((count, halves // 2, height, width), dtype)
            self._rows: Any = None
            self.retime(modulation)
            # For any size that the engine serves: TensorRT takes no less.
            size = max(self._engine.device_memory_size_v2, ALIGNMENT)
            self._memory = device.memory(size)
            self._context.set_device_memory(self._memory.data_ptr(), size)
            for name, tensor in (("packed", self.packed), ("output", self.output)):
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
        if self._rows is None or len(self._rows) != steps:
            # Every row begins where an address may begin.
            stride = -(-4 * size // ALIGNMENT) * ALIGNMENT
            memory = self._device.memory(steps * stride)
            self._rows = memory.view(torch.float32).view(steps, stride // 4)
        self._rows[:, :size].copy_(torch.from_numpy(modulation))

    def export(self) -> bytes | None:
        """See `protocol.Network`."""
        return self._bytes

    def _runtime(self) -> tuple[trt.Runtime, Any]:
        import tensorrt as trt

        kept = logger(self._messages)
        try:
            return trt.Runtime(kept), kept
        except TypeError as error:
            raise self._messages.error(CANNOT) from error

    def _deserialized(self, runtime: trt.Runtime, shape: Shape, precision: str) -> trt.ICudaEngine:
        import tensorrt as trt

        engine = runtime.deserialize_cuda_engine(self._bytes)
        if engine is None:
            raise self._messages.error(CANNOT)
        names = {engine.get_tensor_name(number) for number in range(engine.num_io_tensors)}
        if names != NAMES:
            raise BackendError(f"{CANNOT}: it has the inputs and outputs {', '.join(sorted(names))}")
        types = {"FLOAT": trt.DataType.FLOAT, "FLOAT16": trt.DataType.HALF, "BFLOAT16": trt.DataType.BF16}
        wanted = types[HALVES[precision]]
        if any(engine.get_tensor_dtype(name) != wanted for name in ("packed", "output")):
            raise BackendError(f"{CANNOT}: it is not for {precision}")
        # A side that is not fixed is -1.
        made_for = tuple(engine.get_tensor_shape("packed"))
        if len(made_for) != 4 or any(side not in (-1, given) for side, given in zip(made_for, shape, strict=True)):
            raise BackendError(f"{CANNOT}: it is for {made_for}, not for {shape}")
        return engine

    def _made(self, shape: Shape) -> trt.IExecutionContext:
        import tensorrt as trt

        context = self._engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise self._messages.error(CANNOT)
        # Without an effect where the engine is for this shape alone.
        if not context.set_input_shape("packed", tuple(shape)):
            raise BackendError(f"{CANNOT} for {shape}: it is for other sizes")
        return context

    def _tensor(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Zeros, as planes: engines read channels last of half precision only in multiples of 8 channels."""
        return self._device.memory(math.prod(shape) * dtype.itemsize).view(dtype).view(shape)

    def _bind(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise self._messages.error(f"tensorrt refuses the address of {name}")

    def _enqueue(self, step: int, stream: Any) -> None:
        if not self._context.execute_async_v3(self._device.handle(stream)):
            raise self._messages.error(f"tensorrt failed at step {step}")
