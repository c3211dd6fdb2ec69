"""A network and a backend that need no engine: pixels by a formula."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError

F32 = NDArray[np.float32]


class FakeNetwork:
    """A network that sees one pixel at a time: what it gives for a tile is exactly what it gives for the whole.

    Attributes:
        exported: of every network.
    """

    exported: bytes | None = None

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        count, halves, height, width = shape
        self.packed = np.zeros(shape, np.float32)
        self.context = None
        self.output = np.full((count, halves // 2, height, width), np.nan, np.float32)
        self.context = None
        self.evaluated: list[int] = []

    def evaluate(self, step: int) -> None:
        self.evaluated.append(step)
        half = self.output.shape[1]
        self.output[...] = self.predict(self.packed[:, :half], self.packed[:, half:], step)

    @staticmethod
    def predict(difference: F32, mu: F32, step: int) -> F32:
        """What it gives for x - mu, mu and the number of the step."""
        return np.float32(0.5 + 0.02 * step) + np.float32(0.45) * np.sin(4 * mu) + np.float32(0.25) * difference

    def retime(self, modulation: F32) -> None:
        """Steps are told apart by their numbers alone."""

    def export(self) -> bytes | None:
        return self.exported


class FakeBackend:
    """A backend of FakeNetworks that counts what it is asked for.

    Attributes:
        compiled, restored: shapes, in order.
        refuses: the engine is refused.
        networks: every network made.
    """

    name = "fake"
    device = "cpu"
    variants: tuple[tuple[str, str], ...] = (("moments", "weights"),)

    def __init__(self) -> None:
        self.compiled: list[tuple[int, ...]] = []
        self.restored: list[tuple[int, ...]] = []
        self.networks: list[FakeNetwork] = []
        self.refuses = False
        self.native: tuple[str, ...] = ("fp32",)
        self.reason: str | None = None
        # A class of its own, which tests may change.
        self.make: type[FakeNetwork] = type("Network", (FakeNetwork,), {})

    def missing(self) -> str | None:
        return self.reason

    def version(self) -> str:
        return "1.0"

    def precisions(self) -> tuple[str, ...]:
        return self.native

    def compile(
        self, graph: bytes, modulation: F32, shape: Any, precision: str, settings: CompileSettings
    ) -> FakeNetwork:
        self.compiled.append(shape)
        self.networks.append(self.make(shape))
        return self.networks[-1]

    def restore(
        self, engine: bytes, modulation: F32, shape: Any, precision: str, settings: CompileSettings
    ) -> FakeNetwork:
        self.restored.append(shape)
        if self.refuses:
            raise BackendError("fake refuses its engine")
        self.networks.append(self.make(shape))
        return self.networks[-1]
