"""The sampler's own work at 256x256, compiled against its NumPy reference."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mrs.kernels import cpu, update
from mrs.kernels.noise import Draw
from mrs.kernels.table import Row
from mrs.runtime.system import machine

SHAPE = (1, 3, 256, 256)
ODE = Row(1.0, 0.1, -0.2, 0.5, 0.3, 0.3, -0.1)
SDE = ODE._replace(n=0.05)


@pytest.mark.parametrize("kind", ["start", "ode step", "sde step", "finish"])
@pytest.mark.parametrize("code", ["compiled", "numpy"])
def test_kernel(benchmark: BenchmarkFixture, record: Callable[..., None], kind: str, code: str) -> None:
    if code == "compiled" and not cpu.compiled():
        pytest.skip("no compiled kernels installed")
    rng = np.random.default_rng(0)
    x, mu, output, q = (rng.random(SHAPE, dtype=np.float32) for _ in range(4))
    packed = np.zeros((1, 6, *SHAPE[2:]), np.float32)
    picture = rng.integers(0, 256, (1, *SHAPE[2:], 3), dtype=np.uint8)
    functions: ModuleType = cpu if code == "compiled" else update
    extra = {"threads": machine.threads()} if code == "compiled" else {}
    row = SDE if kind == "sde step" else ODE
    call: Callable[[], None] = {
        "start": lambda: functions.start(picture, 0.2, Draw(0, 0), mu, x, packed, **extra),
        "finish": lambda: functions.finish(x, picture, **extra),
    }.get(kind, lambda: functions.step(x, mu, output, (q, q, q), q, row, "none", Draw(0, 1), packed, **extra))
    benchmark.group = f"{kind} at 256x256"
    benchmark.pedantic(call, rounds=100, warmup_rounds=5)
    stats = benchmark.stats.stats
    record(
        f"kernel {kind} {code}",
        {"shape": SHAPE, "rounds": 100},
        {"median_ms": 1e3 * stats.median, "q1_ms": 1e3 * stats.q1, "q3_ms": 1e3 * stats.q3},
    )
