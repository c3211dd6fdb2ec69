"""A GPU's double, a network that works on it, and plans and chains for both.

Where there is no GPU some kernels run through Triton's interpreter, which must be chosen before triton is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mrs.kernels.table import Table
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer
from mrs.runtime.system import machine
from tests import interpreter
from tests.runtime.cuda.double import Double
from tests.runtime.left_out import lacking, left_out

MISSING = lacking("torch", "triton", "onnx")
if not MISSING:
    import torch

    interpreter.choose()
    from tests.runtime.cuda.double import Double

SHAPE = (1, 16, 16)
MULTIPLE = 4


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module | None:
    return left_out(MISSING, module_path, parent)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """The arrays are tiny."""


@pytest.fixture(scope="session", autouse=True)
def _hastened() -> None:
    interpreter.hasten()


class PixelNetwork:
    """A network on the double that sees one pixel at a time, as `FakeNetwork` does, and gives the same numbers.

    Attributes:
        spoilt: what it gives instead, by step.
        trouble: what else it does in each evaluation.
    """

    def __init__(
        self, device: Double, shape: tuple[int, ...], predict: Callable[..., Any], channels_last: bool = True
    ) -> None:
        count, halves, height, width = shape
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.device, self.predict = device, predict
        self.context = None
        self.packed = torch.zeros(shape).contiguous(memory_format=layout)
        self.output = torch.zeros((count, halves // 2, height, width)).contiguous(memory_format=layout)
        self.context = None
        self.spoilt: dict[int, float] = {}
        self.trouble: Callable[[PixelNetwork, int], object] = lambda network, step: None

    def evaluate(self, step: int) -> None:
        self.trouble(self, step)
        self.device.give(f"network {step}", lambda: self._work(step))

    def _work(self, step: int) -> None:
        packed, output = self.packed.numpy(), self.output.numpy()
        half = output.shape[1]
        output[...] = self.predict(packed[:, :half], packed[:, half:], step)
        if step in self.spoilt:
            output[0, 0, 0, 0] = self.spoilt[step]

    def retime(self, modulation: Any) -> None:
        """Steps are told apart by their numbers alone."""

    def export(self) -> None:
        return None


@dataclass
class PixelBackend:
    """A backend of PixelNetworks.

    Attributes:
        compiled: shapes, in order.
        networks: all that were made.
        most: pixels of a batch beyond which there is no memory for a network.
        trouble: of each network.
    """

    device: Double
    predict: Callable[..., Any]
    name: str = "double"
    norm: str = "layernorm"
    gate: str = "split"
    most: float = float("inf")
    compiled: list[tuple[int, ...]] = field(default_factory=list)
    networks: list[PixelNetwork] = field(default_factory=list)
    trouble: Callable[[PixelNetwork, int], object] = lambda network, step: None

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return "1.0"

    def precisions(self) -> tuple[str, ...]:
        return ("fp32",)

    def compile(
        self, graph: bytes, modulation: Any, shape: Any, precision: str, settings: CompileSettings
    ) -> PixelNetwork:
        self.compiled.append(shape)
        assert self.device.current() is not self.device.default, (
            "a network on the GPU and stream that a thread begins on"
        )
        if shape[0] * shape[2] * shape[3] > self.most:
            raise self.device.OutOfMemory("CUDA out of memory\nTried to allocate 20 MiB")
        self.networks.append(PixelNetwork(self.device, shape, self.predict))
        self.networks[-1].trouble = self.trouble
        return self.networks[-1]

    def restore(self, engine: bytes, *rest: Any) -> PixelNetwork:
        raise AssertionError("there are no engines")


def table_of(method: str = "sde", order: int = 2, steps: int = 3) -> Table:
    return tableau(Schedule(), Solver(method, order, steps=steps), "data")


@pytest.fixture
def device() -> Double:
    return Double()


@dataclass
class Gpu:
    """The double with its backend, which is registered."""

    device: Double
    backend: PixelBackend

    def plan(self, table: Table | None = None, clamp: str = "none", shape: tuple[int, int, int] = SHAPE) -> Plan:
        """Of a stochastic solver by default."""
        table = table or table_of()
        manifest = {
            "network": {
                "architecture": "ConditionalNAFNet",
                "channels": 3,
                "multiple": MULTIPLE,
                "bytes_per_pixel": 160,
            },
            "table": {
                "times": list(table.times),
                "rows": [list(row) for row in table.rows],
                "start": table.start,
                "clamp": clamp,
            },
            "shape": list(shape),
            "backend": "double",
            "precision": "fp32",
            "fingerprint": machine.fingerprint("double", "1.0"),
        }
        return Plan(manifest, b"graph", np.zeros((len(table.rows), 8), np.float32))

    def load(self, plan: Plan | None = None, **more: Any) -> Any:
        """A restorer."""
        from mrs.runtime.session import Restorer

        return Restorer(plan or self.plan(), device=self.device, **more)


@pytest.fixture
def gpu(device: Double, fake_network: Any, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    backend = PixelBackend(device, fake_network.predict)
    monkeypatch.setitem(backends.BACKENDS, "double", backend)
    return Gpu(device, backend)


@pytest.fixture
def restorer(gpu: Gpu) -> Iterator[Any]:
    """A restorer on the double, with one worker; what it did to load is not in the log."""
    with gpu.load() as loaded:
        gpu.device.taken_log()
        yield loaded


@pytest.fixture
def make_chain(device: Double, fake_network: Any) -> Callable[..., Any]:
    """A chain on the double: (table, shape of the pictures, ...) -> chain."""

    def make(
        table: Table | None = None,
        shape: tuple[int, int, int] = SHAPE,
        clamp: str = "none",
        *,
        on: Double = device,
        channels_last: bool = True,
        trouble: Any = None,
        **more: Any,
    ) -> Any:
        from mrs.runtime.cuda.chain import CudaChain
        from mrs.runtime.shared import Shared

        table = table or table_of()
        count, height, width = shape
        padded = [-(-side // MULTIPLE) * MULTIPLE for side in (height, width)]
        network = PixelNetwork(on, (count, 6, *padded), fake_network.predict, channels_last)
        network.trouble = trouble or network.trouble
        return CudaChain(on, Shared(network), replace(table, clamp=clamp), (count, 3, height, width), **more)

    return make


def pictures_of(shape: tuple[int, ...], kind: str = "uint8", seed: int = 0) -> NDArray[Any]:
    """(N, H, W, 3) for the shape of pictures (N, H, W)."""
    levels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    return levels if kind == "uint8" else (levels / 255).astype(kind)


@pytest.fixture(scope="session")
def pictures() -> Callable[..., NDArray[Any]]:
    return pictures_of


@pytest.fixture(scope="session")
def table() -> Callable[..., Table]:
    return table_of


@pytest.fixture
def on_cpu(fake, gpu, table):
    """The CPU runtime with the same network."""
    manifest = {**gpu.plan().manifest, "backend": "fake"}
    with Restorer(replace(gpu.plan(), manifest=manifest), backend="fake", threads=1) as restorer:
        yield restorer
