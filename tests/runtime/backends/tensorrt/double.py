"""A TensorRT that builds and runs on a CPU, generated from the bindings' facts: it refuses what the real one would.

Refused are members that the version has not, arguments of other types, calls in an order that the documentation rules
out, memory that is not the device's or too small or not aligned, and during a capture everything but an enqueue that
was made before. An engine is the typed graph with what it was built for; it is carried out by reference.py.
"""

from __future__ import annotations

import ctypes
import enum
import json
import weakref
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import torch

from tests.runtime.backends.tensorrt import facts, reference
from tests.runtime.backends.tensorrt.signatures import Signature, is_plain
from tests.runtime.cuda.behaviour import CAPTURING, FailureError, Stream
from tests.runtime.cuda.double import Double
from tests.runtime.cuda.references import References

NULL = "pybind11::init(): factory function returned nullptr"
ALIGNMENT = 256
# What the properties that are written take, which the bindings' descriptions say in words.
TAKES = {
    "builder_optimization_level": "int", "max_aux_streams": "int", "progress_monitor": "IProgressMonitor",
    "hardware_compatibility_level": "HardwareCompatibilityLevel",
}  # fmt: skip
TYPES = {onnx.TensorProto.FLOAT: "FLOAT", onnx.TensorProto.FLOAT16: "HALF", onnx.TensorProto.BFLOAT16: "BF16"}


class Gpu(Double):
    """The double of a GPU, which knows where its memory lies."""

    def __init__(self, limit: int = 1 << 30) -> None:
        super().__init__(limit)
        self._run = self._wide
        self._references = References()
        self.blocks: dict[int, int] = {}
        self._named: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()

    def handle(self, stream: Stream) -> int:
        number = super().handle(stream)
        self._named[number] = stream
        return number

    def _wide(self, launch: Any) -> None:
        """A kernel's reference, which NumPy has for no bfloat16, on float32 instead."""
        given = launch.arguments
        wide = [
            each.float() if isinstance(each, torch.Tensor) and each.dtype == torch.bfloat16 else each for each in given
        ]
        self._references.run(SimpleNamespace(name=launch.name, kernel=launch.kernel, arguments=wide))
        for own, other in zip(given, wide, strict=True):
            if own is not other:
                own.copy_(other)

    def stream_of(self, handle: int) -> Stream:
        return self._named[handle]

    def memory(self, size: int) -> torch.Tensor:
        tensor = super().memory(size)
        begin = tensor.data_ptr()
        self.blocks[begin] = size
        weakref.finalize(tensor.untyped_storage(), self.blocks.pop, begin, None)
        return tensor

    def holds(self, address: int, size: int) -> bool:
        """Whether so many bytes from an address are the device's."""
        return any(begin <= address and address + size <= begin + whole for begin, whole in self.blocks.items())


class TensorRtDouble:
    """The module `tensorrt`, of a version.

    Args:
        version: whose facts lie beside this file.
        device: on which engines run.
        gpu: its name and compute capability.

    Attributes:
        module: to be put in place of the real one.
        used: (class, member) of all that was called.
        builds: what was built, with which settings.
        says: lines that a failing call gives to the logger, by the call: `build`, `deserialize`, `context`, `execute`,
            `runtime`, `builder`, `parse`, `address`.
        refused: errors of a parser, from `refuse`.
        steps: of the build's one phase; `during` is called after each, and with 0 while an engine is loaded, when
            `loads` is set.
    """

    def __init__(self, version: str, device: Gpu, gpu: str = "NVIDIA Double 9.0") -> None:
        self.version, self.device, self.gpu = version, device, gpu
        self.used: set[tuple[str, str]] = set()
        self.builds: list[dict[str, Any]] = []
        self.refused: list[Any] = []
        self.says: dict[str, list[str]] = {}
        self.steps = 3
        self.during: Callable[[int], None] = lambda step: None
        self.loads = False
        # The library has one logger: the first one, as long as any builder or runtime lives, whatever others get.
        self._logger: Any = None
        self._holders: weakref.WeakSet[Any] = weakref.WeakSet()
        self.module: Any = ModuleType("tensorrt")
        self.module.__version__ = version
        # Who looks for the library, torch too, finds it.
        self.module.__spec__ = ModuleSpec("tensorrt", None)
        for name, members in facts.read(version).items():
            if name != "__version__":
                setattr(self.module, name, self._class(name, members))

    def hold(self, owner: Any, logger: Any) -> None:
        """A builder or runtime gets a logger."""
        assert logger.made
        if not self._holders:
            self._logger = weakref.ref(logger)
        self._holders.add(owner)

    def log(self, line: str) -> None:
        """Say an error, to the logger that counts."""
        logger = self._logger()
        assert logger is not None, "the logger that was given first is gone"
        logger.log(self.module.ILogger.Severity.ERROR, line)

    def fails(self, what: str) -> bool:
        """Whether a call shall fail; its reasons are in the log then."""
        for line in self.says.get(what, ()):
            self.log(line)
        return what in self.says

    def refuse(self, code: str, operator: str, text: str) -> None:
        """Let the parser refuse the graph."""
        self.refused.append(_new(self, "ParserError", said=(getattr(self.module.ErrorCode, code), operator, text)))

    # Classes from facts

    def _class(self, name: str, members: dict[str, Any]) -> Any:
        values = [member for member, kind in members.items() if kind == "enum"]
        if values and name not in ("ILogger", "Dims"):
            return _enumeration(name, values)
        behaviour = BEHAVIOURS.get(name, type(name, (), {}))
        content: dict[str, Any] = {"_world": self, "_kind": name}
        for member, kind in members.items():
            if isinstance(kind, list):
                content[member] = self._method(name, member, [Signature.parse(text) for text in kind], behaviour)
            elif kind in ("read", "write"):
                content[member] = self._property(name, member, kind, behaviour)
        if name not in ("ILogger", "IProgressMonitor"):
            # A mistyped property would be a new attribute of ours.
            known = {member for member, kind in members.items() if kind == "write"} | set(behaviour.__annotations__)
            content["__setattr__"] = _only(known)
        made = type(name, (behaviour,), content)
        if name == "ILogger":
            made.Severity = _enumeration("Severity", values)  # type: ignore[attr-defined]
            for value in values:
                setattr(made, value, getattr(made.Severity, value, None))  # type: ignore[attr-defined]
        return made

    def _method(self, name: str, member: str, signatures: list[Signature], behaviour: type) -> Any:
        own = getattr(behaviour, member, None)

        def call(this: Any, *given: Any, **named: Any) -> Any:
            fitting = next((each for each in signatures if each.fits(given, named, self.is_a)), None)
            if fitting is None:
                raise TypeError(f"{name}.{member}(): incompatible function arguments: {given} {named}")
            assert own is not None, f"the double does not know what {name}.{member} does"
            self.used.add((name, member))
            return own(this, **(fitting.bound(given, named) or {}))

        return call

    def _property(self, name: str, member: str, kind: str, behaviour: type) -> Any:
        own = getattr(behaviour, f"read_{member}", None)

        def read(this: Any) -> Any:
            assert own is not None, f"the double does not know what {name}.{member} is"
            self.used.add((name, member))
            return own(this)

        def write(this: Any, value: Any) -> None:
            if not self.is_a(value, TAKES[member]):
                raise TypeError(f"{name}.{member} = {value!r}")
            self.used.add((name, member))
            this.written[member] = value

        return property(read, write if kind == "write" else None)

    def is_a(self, value: Any, kind: str) -> bool:
        plain = is_plain(value, kind)
        return isinstance(value, getattr(self.module, kind.split(".")[0])) if plain is None else plain


def _only(known: set[str]) -> Any:
    def assign(this: Any, name: str, value: Any) -> None:
        if name not in known:
            raise AttributeError(f"{type(this).__name__} has no {name} to be set")
        object.__setattr__(this, name, value)

    return assign


def _enumeration(name: str, values: list[str]) -> Any:
    made = enum.Enum(name, {value: number for number, value in enumerate(values)})  # type: ignore[misc]
    made.__int__ = lambda self: self.value  # type: ignore[attr-defined]
    return made


class ILogger:
    def __init__(self) -> None:
        self.made = True

    def log(self, severity: Any, msg: str) -> None:
        raise AssertionError("a logger says nothing itself")


class IProgressMonitor:
    def __init__(self) -> None:
        self.made = True


class Dims:
    sides: tuple[int, ...]

    def __init__(self, shape: Any = ()) -> None:
        self.sides = tuple(shape)

    def __iter__(self) -> Any:
        return iter(self.sides)


class IHostMemory:
    content: bytes

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __bytes__(self) -> bytes:
        return self.content


def _host(world: TensorRtDouble, content: bytes) -> Any:
    made = object.__new__(world.module.IHostMemory)
    IHostMemory.__init__(made, content)
    return made


def _new(world: TensorRtDouble, name: str, **state: Any) -> Any:
    """An object that only other objects make."""
    made = object.__new__(getattr(world.module, name))
    made.__dict__.update(state)
    return made


def _alive(this: Any, name: str) -> Any:
    """What must live as long as what was made with it."""
    found = this.__dict__[name]()
    assert found is not None, f"the {name} is gone"
    return found


class Builder:
    _world: TensorRtDouble
    logger_kept: Any

    def __init__(self, logger: Any) -> None:
        self._world.hold(self, logger)
        self.logger_kept = weakref.ref(logger)
        if self._world.fails("builder"):
            raise TypeError(NULL)

    def create_network(self, flags: int = 0) -> Any:
        strong = 1 << int(self._world.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        # 11 knows no other networks, and warns of the flag.
        assert flags == (0 if self._world.version.startswith("11.") else strong)
        return _new(self._world, "INetworkDefinition", model=None)

    def create_builder_config(self) -> Any:
        return _new(self._world, "IBuilderConfig", written={}, cleared=set(), pools={}, profiles=[], cache=None)

    def create_optimization_profile(self) -> Any:
        return _new(self._world, "IOptimizationProfile", shapes={})

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        world = self._world
        _alive(self, "logger_kept")
        assert network.model is not None, "nothing was parsed"
        monitor = config.written["progress_monitor"]
        assert monitor.made
        inputs = {value.name: _sides(value) for value in network.model.graph.input}
        shape, dynamic = inputs["packed"], {name for name, sides in inputs.items() if -1 in sides}
        shapes = config.profiles[0].shapes if config.profiles else {}
        assert dynamic == set(shapes), "a profile is for sizes that are not fixed, and for all of them"
        for name, (low, best, high) in shapes.items():
            for sides in (low, best, high):
                assert all(own in (-1, side) for own, side in zip(inputs[name], sides, strict=True))
            assert all(a <= b <= c for a, b, c in zip(low, best, high, strict=True))
        assert world.device.current() is not world.device.default, "a thread has chosen no stream of its device"
        monitor.phase_start("Building", None, world.steps)
        for step in range(world.steps):
            world.during(step)
            if not monitor.step_complete("Building", step):
                monitor.phase_finish("Building")
                return None
        monitor.phase_finish("Building")
        if world.fails("build"):
            return None
        settings = {name: value for name, value in config.written.items() if name != "progress_monitor"}
        compatible = settings.get("hardware_compatibility_level")
        world.builds.append({**settings, "cleared": config.cleared, "pools": config.pools, "shape": shape})
        assert "TF32" in config.cleared
        if config.cache is not None:
            config.cache.entries.add(f"kernel {len(config.cache.entries)} of {shape}")
        head = {
            "version": world.version,
            "gpu": world.gpu,
            "compatible": compatible.name if compatible else "",
            "shape": shape,
            "profile": [list(sides) for sides in shapes["packed"]] if dynamic else None,
            # What every input may have.
            "ranges": {name: shapes.get(name, [sides] * 3) for name, sides in inputs.items()},
        }
        return _host(world, json.dumps(head).encode() + b"\n" + network.model.SerializeToString())


class INetworkDefinition:
    model: Any


class OnnxParser:
    _world: TensorRtDouble
    network: Any
    logger_kept: Any
    errors: list[Any]

    def __init__(self, network: Any, logger: Any) -> None:
        self.network, self.logger_kept, self.errors = network, weakref.ref(logger), list(self._world.refused)

    def parse(self, model: bytes, path: str | None = None) -> bool:
        if self._world.fails("parse"):
            return False
        read = onnx.load_from_string(model)
        # Types that do not fit are refused, as by a strongly typed network.
        onnx.checker.check_model(read, full_check=True)
        self.network.model = read
        return not self.errors

    def read_num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index: int) -> Any:
        return self.errors[index]


class ParserError:
    said: tuple[Any, str, str]

    def code(self) -> Any:
        return self.said[0]

    def node_operator(self) -> str:
        return self.said[1]

    def desc(self) -> str:
        return self.said[2]


class IBuilderConfig:
    _world: TensorRtDouble
    cleared: set[str]
    pools: dict[str, int]
    profiles: list[Any]
    cache: Any

    def clear_flag(self, flag: Any) -> None:
        self.cleared.add(flag.name)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self.pools[pool.name] = pool_size

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        head = {"version": self._world.version, "gpu": self._world.gpu, "entries": []}
        try:
            head = json.loads(serialized_timing_cache) if serialized_timing_cache else head
        except ValueError:
            self._world.log("Error Code 4: Internal Error (a bad cache)")
            return None
        return _new(self._world, "ITimingCache", head=head, entries=set(head["entries"]))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if (cache.head["version"], cache.head["gpu"]) != (self._world.version, self._world.gpu):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


class ITimingCache:
    _world: TensorRtDouble
    head: dict[str, Any]
    entries: set[str]

    def serialize(self) -> Any:
        return _host(self._world, json.dumps({**self.head, "entries": sorted(self.entries)}).encode())

    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        self.entries |= input_cache.entries
        return True


class IOptimizationProfile:
    shapes: dict[str, tuple[Any, ...]]

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = tuple(tuple(sides) for sides in (min, opt, max))


class Runtime:
    _world: TensorRtDouble
    logger_kept: Any

    def __init__(self, logger: Any) -> None:
        self._world.hold(self, logger)
        self.logger_kept = weakref.ref(logger)
        if self._world.fails("runtime"):
            raise TypeError(NULL)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        world = self._world
        _refuse(world, "an engine is loaded")
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
        return _new(world, "ICudaEngine", runtime=self, head=head, model=read, program=program, logger=self.logger_kept)


class ICudaEngine:
    _world: TensorRtDouble
    head: dict[str, Any]
    model: Any
    program: reference.Program
    logger: Any

    def read_num_io_tensors(self) -> int:
        return len(self.model.graph.input) + 1

    def get_tensor_name(self, index: int) -> str:
        return [value.name for value in (*self.model.graph.input, *self.model.graph.output)][index]

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self._world.module.DataType, TYPES[self._value(name).type.tensor_type.elem_type])

    def get_tensor_shape(self, name: str) -> Any:
        return self._world.module.Dims(_sides(self._value(name)))

    def read_device_memory_size_v2(self) -> int:
        largest = self.head["profile"][2] if self.head["profile"] else self.head["shape"]
        return int(np.prod(largest)) * 8

    def create_execution_context(self, strategy: Any = None, runtime_config: Any = None) -> Any:
        _refuse(self._world, "a context is made")
        assert strategy is self._world.module.ExecutionContextAllocationStrategy.USER_MANAGED, "it allocates by itself"
        if self._world.fails("context"):
            return None
        # What is fixed needs no word.
        given = {value.name: tuple(_sides(value)) for value in self.model.graph.input if -1 not in _sides(value)}
        return _new(
            self._world, "IExecutionContext", engine_kept=self, shapes=given, addresses={}, memory=None, ran=False
        )

    def _value(self, name: str) -> Any:
        return next(each for each in (*self.model.graph.input, *self.model.graph.output) if each.name == name)


class IExecutionContext:
    _world: TensorRtDouble
    engine_kept: Any
    shapes: dict[str, tuple[int, ...]]
    addresses: dict[str, int]
    memory: Any
    ran: bool

    def set_input_shape(self, name: str, shape: Any) -> bool:
        _refuse(self._world, "a shape is set")
        ranges, sides = self.engine_kept.head["ranges"], tuple(shape)
        if name not in ranges:
            return False
        low, _, high = ranges[name]
        if not all(a <= side <= b for a, side, b in zip(low, sides, high, strict=True)):
            return False
        self.shapes[name], self.ran = sides, False
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        _refuse(self._world, "memory is set")
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
        assert {*self.shapes, "output"} == self._names(), "no shape was set"
        assert len({sides[0] for name, sides in self.shapes.items() if name != "modulation"}) == 1, "another batch"
        assert set(self.addresses) == self._names(), "an address is missing"
        assert self.memory is not None, "no memory was set"
        assert world.device.holds(*self.memory), "its memory was freed"
        if world.device.capturing is not None and not self.ran:
            raise FailureError(f"{CAPTURING}: the first enqueue after a shape was set")
        _alive(self.engine_kept, "logger")
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
        count, halves, height, width = self.shapes["packed"]
        shapes = {**self.shapes, "output": (count, halves // 2, height, width)}
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
            told = at("context") if "context" in shapes else None
            at("output").copy_(reference.evaluate(program, at("packed"), at("modulation"), context=told))

        return work

    def _names(self) -> set[str]:
        """Of inputs and outputs."""
        return {*self.engine_kept.head["ranges"], "output"}


def _sides(value: onnx.ValueInfoProto) -> list[int]:
    """Of an input or output; -1 where one is not fixed."""
    return [side.dim_value if side.HasField("dim_value") else -1 for side in value.type.tensor_type.shape.dim]


def _refuse(world: TensorRtDouble, what: str) -> None:
    if world.device.capturing is not None:
        raise FailureError(f"{CAPTURING}: {what}")


BEHAVIOURS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Builder, Dims, IBuilderConfig, ICudaEngine, IExecutionContext, IHostMemory, ILogger, INetworkDefinition,
        IOptimizationProfile, IProgressMonitor, ITimingCache, OnnxParser, ParserError, Runtime,
    )
}  # fmt: skip
