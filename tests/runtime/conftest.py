"""A tiny network and its plan for the tests of the runtime, and a backend that needs no engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mrs.kernels.table import Table
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends import Backend
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer
from mrs.runtime.system import machine
from mrs.runtime.worker import Worker
from tests.runtime import evaluations
from tests.runtime.fake_backend import FakeBackend, FakeNetwork
from tests.runtime.fake_chains import PLENTY, FakeDevice, Made, worker_of
from tests.runtime.plan_files import MANIFEST

F32 = NDArray[np.float32]
SHAPE = (1, 16, 24)
MULTIPLE = 4


@dataclass(frozen=True)
class Tiny:
    """A tiny network that predicts clean pictures, and all that a plan needs of it.

    Attributes:
        net: the torch module.
        table: three steps of ODE-2.
        graph, modulation: as in a plan.
    """

    net: Any
    table: Table
    graph: bytes
    modulation: F32

    def denoise(self, x: F32, mu: F32, t: float) -> F32:
        """The network as `mrs.sample` calls it."""
        import torch

        with torch.no_grad():
            return self.net(torch.from_numpy(x), torch.from_numpy(mu), t).numpy()

    def plan(self, backend: str = "onnxruntime", engine: bytes | None = None, precision: str = "fp32") -> Plan:
        """A plan for this machine, with the fields that a restore reads."""
        version = backends.get(backend).version()
        return Plan(
            manifest_of(self.table, backend, machine.fingerprint(backend, version), precision),
            self.graph, self.modulation, engine,
        )  # fmt: skip


def manifest_of(table: Table, backend: str, fingerprint: dict[str, str], precision: str = "fp32") -> dict[str, Any]:
    return {
        "network": {"architecture": "ConditionalNAFNet", "channels": 3, "multiple": MULTIPLE, "bytes_per_pixel": 160},
        "table": {
            "times": list(table.times),
            "rows": [list(row) for row in table.rows],
            "start": table.start,
            "clamp": table.clamp,
        },
        "shape": list(SHAPE),
        "backend": backend,
        "precision": precision,
        "fingerprint": fingerprint,
    }


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    from mrs.export.architectures.nafnet import NAFNet
    from mrs.export.architectures.nafnet.modulation import modulation_table
    from tests.random_nafnet import nafnet_bytes, random_nafnet

    net = random_nafnet(NAFNet(4, (1, 1), 1, (1, 1)))
    table = tableau(Schedule(), Solver(steps=3), "data")
    return Tiny(net, table, nafnet_bytes(net), modulation_table(net, table.times[:-1]))


@pytest.fixture(scope="session")
def fake_network() -> type[FakeNetwork]:
    return FakeNetwork


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    """The fake backend, registered as `fake`."""
    backend = FakeBackend()
    monkeypatch.setitem(backends.BACKENDS, "fake", backend)
    return backend


@pytest.fixture
def fake_plan(fake: FakeBackend) -> Plan:
    """A stochastic plan for the fake backend, with an engine for SHAPE."""
    table = tableau(Schedule(), Solver(method="sde", steps=3), "data")
    manifest = manifest_of(table, "fake", machine.fingerprint("fake", "1.0"))
    return Plan(manifest, b"graph", np.zeros((3, 8), np.float32), b"engine")


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """(16, 24, 3), every level likely."""
    return np.random.default_rng(0).integers(0, 256, (*SHAPE[1:], 3), np.uint8)


@pytest.fixture(scope="module")
def tiny_restorer(tiny):
    """Of the tiny network's plan."""
    with Restorer(tiny.plan(), threads=1) as restorer:
        yield restorer


@pytest.fixture
def restorer(fake_plan: Plan):
    """Of the fake plan, with one worker."""
    with Restorer(fake_plan, threads=1) as restorer:
        yield restorer


@pytest.fixture
def pair(fake_plan: Plan):
    """A restorer of the fake plan with two workers."""
    with Restorer(fake_plan, threads=1, workers=2, queue=4) as restorer:
        yield restorer


@pytest.fixture(params=[*evaluations.CPU, "torch"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The backends for CPUs, and the one for GPUs on a CPU, where it computes the same."""
    return evaluations.CPU.get(request.param, evaluations.TORCH)


@pytest.fixture(scope="module")
def packed() -> np.ndarray[Any, Any]:
    """The input of a network."""
    return np.random.default_rng(0).standard_normal(evaluations.SHAPE, np.float32)


@pytest.fixture(scope="module")
def longer_modulation(tiny) -> np.ndarray[Any, Any]:
    """The modulation of five other times."""
    from mrs.export.architectures.nafnet.modulation import modulation_table

    return modulation_table(tiny.net, [97.0, 55.5, 30.0, 12.0, 3.0])


@pytest.fixture
def plan() -> Plan:
    """A plan of the smallest network, with an engine that is none and a timetable."""
    from tests.runtime.networks import smallest

    timetable = np.arange(20, dtype=np.float32).reshape(4, 5)
    return Plan(MANIFEST, smallest().SerializeToString(), timetable[[3, 1]], b"an engine", timetable)


@pytest.fixture
def plan_file(plan: Plan, tmp_path: Path) -> Path:
    """That plan, written."""
    path = tmp_path / "a.mrsplan"
    plan.save(path)
    return path


@pytest.fixture
def made_chains(monkeypatch: pytest.MonkeyPatch) -> Made:
    """The chains that a worker makes, which are fakes."""
    made = Made()
    monkeypatch.setattr("mrs.runtime.worker.make_chain", made.make)
    return made


@pytest.fixture
def fake_device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def gpu_worker(fake, fake_plan: Plan, made_chains: Made, fake_device: FakeDevice) -> Worker:
    """A worker of fake chains on a fake GPU."""
    return worker_of(fake_plan, fake, PLENTY, fake_device)
