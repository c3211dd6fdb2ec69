"""Engines at work: the network's, on buffers of its own, and those around it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mrs.runtime.backends.protocol import F32, Shape
from mrs.runtime.backends.tensorrt.engine import ALIGNMENT, CANNOT, Engine, names_of
from mrs.runtime.backends.typed_graph import HALVES
from mrs.runtime.device import Device
from mrs.runtime.errors import BackendError

if TYPE_CHECKING:
    import tensorrt as trt
    import torch
    from torch import Tensor

# Of `packed` and `output`, by the names of ONNX's types: torch's and TensorRT's.
DTYPES = {"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16"}
NAMES = frozenset({"packed", "modulation", "output"})
CONTEXT = "context"


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
        with torch.inference_mode(False), device.on(device.current()):
            self._engine = Engine(engine, device, lambda loaded: _checked(loaded, shape, precision))
            self._vectors = self._engine.shape("modulation")[1]
            count, halves, height, width = shape
            dtype = getattr(torch, DTYPES[HALVES[precision]])
            self.packed = _tensor(device, shape, dtype)
            self.output = _tensor(device, (count, halves // 2, height, width), dtype)
            self._rows = torch.empty(0)
            self.retime(modulation)
            length = self._engine.shape(CONTEXT)[1] if CONTEXT in self._engine.names else 0
            self.context = _tensor(device, (count, length, 1, 1), torch.float32) if length else None
            for name, tensor in (("packed", self.packed), ("output", self.output), (CONTEXT, self.context)):
                if tensor is not None:
                    self._engine.bind(name, tensor.data_ptr())

    def evaluate(self, step: int) -> None:
        """See `protocol.Network`."""
        if not 0 <= step < len(self._rows):
            raise BackendError(f"tensorrt failed at step {step}: it is out of range")
        # The address of a step is always the same: a captured graph keeps it.
        self._engine.bind("modulation", self._rows[step].data_ptr())
        self._engine.run(f"tensorrt failed at step {step}")

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


class TensorRtGraph:
    """An engine of any inputs and outputs, float32; see `protocol.KeptGraph`.

    Args:
        engine: as the builder gave it.
        inputs: tensors of the device by their names, dense.
        device: a `Cuda`.

    Raises:
        BackendError: for an engine of another version or GPU, or other inputs.
        DeviceMemoryError: where the GPU's memory does not suffice.
    """

    def __init__(self, engine: bytes, inputs: Mapping[str, Tensor], device: Device) -> None:
        import torch

        self._bytes, self._inputs = engine, dict(inputs)
        with torch.inference_mode(False), device.on(device.current()):
            self._engine = Engine(engine, device, lambda loaded: _fits(loaded, inputs))
            made = [name for name in self._engine.names if name not in inputs]
            self.outputs = {name: _tensor(device, self._engine.shape(name), torch.float32) for name in made}
            for name, tensor in (*inputs.items(), *self.outputs.items()):
                self._engine.bind(name, tensor.data_ptr())

    def evaluate(self) -> None:
        """See `protocol.Graph`."""
        self._engine.run("tensorrt failed around the network")

    def export(self) -> bytes:
        """See `protocol.KeptGraph`."""
        return self._bytes


def _tensor(device: Device, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros, as planes: engines read channels last of half precision only in multiples of 8 channels."""
    return device.memory(math.prod(shape) * dtype.itemsize).view(dtype).view(shape)


def _checked(engine: trt.ICudaEngine, shape: Shape, precision: str) -> dict[str, tuple[int, ...]]:
    """Refuse what is not the network's; shapes of inputs, where these are not fixed."""
    import tensorrt as trt

    names = names_of(engine)
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
    shapes: dict[str, tuple[int, ...]] = {"packed": tuple(shape)}
    if CONTEXT in names:
        shapes[CONTEXT] = (shape[0], tuple(engine.get_tensor_shape(CONTEXT))[1], 1, 1)
    return shapes


def _fits(engine: trt.ICudaEngine, inputs: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Refuse an engine of other inputs, or of other types."""
    import tensorrt as trt

    names = names_of(engine)
    shapes = {name: tuple(given.shape) for name, given in inputs.items()}
    if any(name not in names or tuple(engine.get_tensor_shape(name)) != sides for name, sides in shapes.items()):
        raise BackendError(f"{CANNOT}: it is not for inputs of {shapes}")
    if any(engine.get_tensor_dtype(name) != trt.DataType.FLOAT for name in names):
        raise BackendError(f"{CANNOT}: it is not for fp32")
    return shapes
