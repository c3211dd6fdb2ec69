"""How TensorRT's double builds: what is parsed, with which settings, timings and profiles, into which bytes."""

from __future__ import annotations

import json
import weakref
from typing import Any

import onnx

from tests.runtime.backends.tensorrt.world import NULL, World, alive, new


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


def host_memory(world: World, content: bytes) -> Any:
    made = object.__new__(world.module.IHostMemory)
    IHostMemory.__init__(made, content)
    return made


class Builder:
    _world: World
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
        return new(self._world, "INetworkDefinition", model=None)

    def create_builder_config(self) -> Any:
        return new(self._world, "IBuilderConfig", written={}, cleared=set(), pools={}, profiles=[], cache=None)

    def create_optimization_profile(self) -> Any:
        return new(self._world, "IOptimizationProfile", shapes={})

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        world = self._world
        alive(self, "logger_kept")
        assert network.model is not None, "nothing was parsed"
        monitor = config.written["progress_monitor"]
        assert monitor.made
        inputs = {value.name: sides_of(value) for value in network.model.graph.input}
        shape, dynamic = next(iter(inputs.values())), {name for name, sides in inputs.items() if -1 in sides}
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
        return host_memory(world, json.dumps(head).encode() + b"\n" + network.model.SerializeToString())


class INetworkDefinition:
    model: Any


class OnnxParser:
    _world: World
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
    _world: World
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
        return new(self._world, "ITimingCache", head=head, entries=set(head["entries"]))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if (cache.head["version"], cache.head["gpu"]) != (self._world.version, self._world.gpu):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


class ITimingCache:
    _world: World
    head: dict[str, Any]
    entries: set[str]

    def serialize(self) -> Any:
        return host_memory(self._world, json.dumps({**self.head, "entries": sorted(self.entries)}).encode())

    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        self.entries |= input_cache.entries
        return True


class IOptimizationProfile:
    shapes: dict[str, tuple[Any, ...]]

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = tuple(tuple(sides) for sides in (min, opt, max))


def sides_of(value: onnx.ValueInfoProto) -> list[int]:
    """Of an input or output; -1 where one is not fixed."""
    return [side.dim_value if side.HasField("dim_value") else -1 for side in value.type.tensor_type.shape.dim]
