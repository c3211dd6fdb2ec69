"""How TensorRT's double runs: where an engine is refused, what a context must be given, what a capture refuses."""

from __future__ import annotations

import ctypes
import json
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch

from tests.runtime.backends.tensorrt import reference
from tests.runtime.backends.tensorrt.building import sides_of
from tests.runtime.backends.tensorrt.world import NULL, World, alive, new
from tests.runtime.cuda.behaviour import CAPTURING, FailureError

ALIGNMENT = 256
TYPES = {onnx.TensorProto.FLOAT: "FLOAT", onnx.TensorProto.FLOAT16: "HALF", onnx.TensorProto.BFLOAT16: "BF16"}


class Runtime:
    _world: World
    logger_kept: Any

    def __init__(self, logger: Any) -> None:
        self._world.hold(self, logger)
        self.logger_kept = weakref.ref(logger)
        if self._world.fails("runtime"):
            raise TypeError(NULL)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        world = self._world
        refuse_capture(world, "an engine is loaded")
        if world.loads:
            world.during(0)
        if world.fails("deserialize"):
            return None
        text, _, model = serialized_engine.partition(b"\n")
        head, reason = json.loads(text), ""
        if head["version"] != world.version:
            reason = (
                "The engine plan file is not compatible with this version of TensorRT, expecting library version "
                f"{world.version} got {head['version']}, please rebuild."
            )
        elif head["gpu"] != world.gpu and not head["compatible"]:
            reason = (
                "The engine plan file is generated on an incompatible device, expecting compute 9.0 got compute 8.0, "
                "please rebuild."
            )
        if reason:
            world.log(f"IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error ({reason})")
            return None
        read = onnx.load_from_string(model)
        program = reference.Program.of(read)
        return new(world, "ICudaEngine", runtime=self, head=head, model=read, program=program, logger=self.logger_kept)


class ICudaEngine:
    _world: World
    head: dict[str, Any]
    model: Any
    program: reference.Program
    logger: Any

    def read_num_io_tensors(self) -> int:
        return len(self.model.graph.input) + len(self.model.graph.output)

    def get_tensor_name(self, index: int) -> str:
        return [value.name for value in (*self.model.graph.input, *self.model.graph.output)][index]

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self._world.module.DataType, TYPES[self._value(name).type.tensor_type.elem_type])

    def get_tensor_shape(self, name: str) -> Any:
        return self._world.module.Dims(sides_of(self._value(name)))

    def read_device_memory_size_v2(self) -> int:
        largest = self.head["profile"][2] if self.head["profile"] else self.head["shape"]
        return int(np.prod(largest)) * 8

    def create_execution_context(self, strategy: Any = None, runtime_config: Any = None) -> Any:
        refuse_capture(self._world, "a context is made")
        assert strategy is self._world.module.ExecutionContextAllocationStrategy.USER_MANAGED, "it allocates by itself"
        if self._world.fails("context"):
            return None
        # What is fixed needs no word.
        given = {value.name: tuple(sides_of(value)) for value in self.model.graph.input if -1 not in sides_of(value)}
        return new(
            self._world, "IExecutionContext", engine_kept=self, shapes=given, addresses={}, memory=None, ran=False
        )

    def _value(self, name: str) -> Any:
        return next(each for each in (*self.model.graph.input, *self.model.graph.output) if each.name == name)


class IExecutionContext:
    _world: World
    engine_kept: Any
    shapes: dict[str, tuple[int, ...]]
    addresses: dict[str, int]
    memory: Any
    ran: bool

    def set_input_shape(self, name: str, shape: Any) -> bool:
        refuse_capture(self._world, "a shape is set")
        ranges, sides = self.engine_kept.head["ranges"], tuple(shape)
        if name not in ranges:
            return False
        low, _, high = ranges[name]
        if not all(a <= side <= b for a, side, b in zip(low, sides, high, strict=True)):
            return False
        self.shapes[name], self.ran = sides, False
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        refuse_capture(self._world, "memory is set")
        assert memory % ALIGNMENT == 0
        assert size >= self.engine_kept.device_memory_size_v2, "too little memory"
        assert self._world.device.holds(memory, size), "not the device's memory"
        self.memory = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory % ALIGNMENT == 0, f"the address of {name} is not aligned"
        if self._world.fails("address") or name not in self._names():
            return False
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        world = self._world
        assert stream_handle != 0, "the default stream"
        assert set(self.shapes) == set(self.engine_kept.head["ranges"]), "no shape was set"
        assert len({sides[0] for name, sides in self.shapes.items() if name != "modulation"}) == 1, "another batch"
        assert set(self.addresses) == self._names(), "an address is missing"
        assert self.memory is not None, "no memory was set"
        assert world.device.holds(*self.memory), "its memory was freed"
        if world.device.capturing is not None and not self.ran:
            raise FailureError(f"{CAPTURING}: the first enqueue after a shape was set")
        alive(self.engine_kept, "logger")
        if world.fails("execute"):
            return False
        self.ran = True
        work = self._work()
        with world.device.on(world.device.stream_of(stream_handle)):
            world.device.give("network", work)
        return True

    def _work(self) -> Callable[[], None]:
        """An evaluation with the addresses as they are now."""
        model, device, program = self.engine_kept.model, self._world.device, self.engine_kept.program
        outputs = {value.name: tuple(sides_of(value)) for value in model.graph.output}
        if -1 in outputs.get("output", ()):
            # The network's, of a range of sizes.
            count, halves, height, width = self.shapes["packed"]
            outputs = {"output": (count, halves // 2, height, width)}
        shapes = {**self.shapes, **outputs}
        kinds = {
            value.name: reference.TYPES[value.type.tensor_type.elem_type]
            for value in (*model.graph.input, *model.graph.output)
        }
        addresses = dict(self.addresses)

        def at(name: str) -> torch.Tensor:
            size = int(np.prod(shapes[name])) * kinds[name].itemsize
            assert device.holds(addresses[name], size), f"{name} is not the device's memory, or was freed"
            content = (ctypes.c_uint8 * size).from_address(addresses[name])
            return torch.from_numpy(np.ctypeslib.as_array(content)).view(kinds[name]).view(shapes[name])

        def work() -> None:
            for name, made in reference.evaluated(program, {name: at(name) for name in self.shapes}).items():
                at(name).copy_(made)

        return work

    def _names(self) -> set[str]:
        """Of inputs and outputs."""
        model = self.engine_kept.model
        return {value.name for value in (*model.graph.input, *model.graph.output)}


def refuse_capture(world: World, what: str) -> None:
    if world.device.capturing is not None:
        raise FailureError(f"{CAPTURING}: {what}")
