"""What TensorRT's double keeps, whatever it is asked through: whose logger counts, what fails, what was built."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from tests.runtime.backends.tensorrt.gpu import Gpu

NULL = "pybind11::init(): factory function returned nullptr"


class World:
    """A library of a version on a device; its classes are in `building` and `running`, its face in `double`.

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

    module: Any

    def __init__(self, version: str, device: Gpu, gpu: str) -> None:
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
        self.refused.append(new(self, "ParserError", said=(getattr(self.module.ErrorCode, code), operator, text)))


def new(world: World, name: str, **state: Any) -> Any:
    """An object that only other objects make."""
    made = object.__new__(getattr(world.module, name))
    made.__dict__.update(state)
    return made


def alive(this: Any, name: str) -> Any:
    """What must live as long as what was made with it."""
    found = this.__dict__[name]()
    assert found is not None, f"the {name} is gone"
    return found
