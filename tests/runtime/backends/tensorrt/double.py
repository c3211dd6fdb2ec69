"""A TensorRT that builds and runs on a CPU, generated from the bindings' facts: it refuses what the real one would.

Refused are members that the version has not, arguments of other types, calls in an order that the documentation rules
out, memory that is not the device's or too small or not aligned, and during a capture everything but an enqueue that
was made before. An engine is the typed graph with what it was built for; it is carried out by reference.py.

Here is what it looks like: its classes, methods, properties and values, each as the facts have it. How it behaves is
in `building` and `running`, what it keeps in `world`; README.md beside them tells how to use all this in a test.
"""

from __future__ import annotations

import enum
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tests.runtime.backends.tensorrt import building, facts, running
from tests.runtime.backends.tensorrt.gpu import Gpu
from tests.runtime.backends.tensorrt.signatures import Signature, is_plain
from tests.runtime.backends.tensorrt.world import World

# What the properties that are written take, which the bindings' descriptions say in words.
TAKES = {
    "builder_optimization_level": "int", "max_aux_streams": "int", "progress_monitor": "IProgressMonitor",
    "hardware_compatibility_level": "HardwareCompatibilityLevel",
}  # fmt: skip
# How each class behaves, by its name.
BEHAVIOURS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        building.Builder, building.Dims, building.IBuilderConfig, building.IHostMemory, building.ILogger,
        building.INetworkDefinition, building.IOptimizationProfile, building.IProgressMonitor, building.ITimingCache,
        building.OnnxParser, building.ParserError, running.ICudaEngine, running.IExecutionContext, running.Runtime,
    )
}  # fmt: skip


class TensorRtDouble(World):
    """The module `tensorrt`, of a version; see `World`."""

    def __init__(self, version: str, device: Gpu, gpu: str = "NVIDIA Double 9.0") -> None:
        super().__init__(version, device, gpu)
        self.module = ModuleType("tensorrt")
        self.module.__version__ = version
        # Who looks for the library, torch too, finds it.
        self.module.__spec__ = ModuleSpec("tensorrt", None)
        for name, members in facts.read(version).items():
            if name != "__version__":
                setattr(self.module, name, self._class(name, members))

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
