"""A whole restore with the published network against a plain torch loop, and what the sampler itself costs.

Both run in one process, interleaved, so that a machine that changes its speed changes it for both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import mrs
from benchmarks.networks import REFUSION, write_checkpoint
from mrs.kernels.noise import normal
from mrs.runtime.backends import openvino
from mrs.runtime.plan import Plan
from mrs.runtime.system import machine

SIZE = (256, 256)
STEPS = 10
ROUNDS = 7
SOLVER = mrs.Solver(method="ode", order=2, steps=STEPS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(REFUSION, tmp_path_factory.mktemp("refusion") / "refusion")


def built(checkpoint: Path, folder: Path, precision: str, backend: str = "auto") -> Plan:
    """`refusion.mrsplan` in a folder; the case is skipped where the processor lacks its precision."""
    path = folder / "refusion.mrsplan"
    plan = mrs.build(checkpoint, path, size=SIZE, solver=SOLVER, backend=backend, precision=precision)
    if plan.facts.precision != precision:
        pytest.skip(f"this processor does not compute {precision}")
    return plan


def eager_restore(net: torch.nn.Module, picture: np.ndarray, table: mrs.Table) -> np.ndarray:
    """The same table in plain torch: what a user of the published code runs today, in its fewest operations."""
    with torch.inference_mode():
        mu = torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        x = mu + table.start * torch.from_numpy(normal(0, 0, tuple(mu.shape)))
        q1 = torch.zeros_like(x)
        for t, row in zip(table.times, table.rows, strict=False):
            q0 = row.cx * x + row.cm * mu + row.cf * net(x, mu, t)
            x = row.ax * x + row.am * mu + row.b0 * q0 + row.b1 * q1
            q1 = q0
        return (x.clamp(0, 1)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_against_eager(
    benchmark: BenchmarkFixture,
    record: Callable[..., None],
    checkpoint: Path,
    tmp_path: Path,
    precision: str,
) -> None:
    plan = built(checkpoint, tmp_path, precision)
    net = mrs.load_checkpoint(checkpoint)
    torch.set_num_threads(machine.threads())
    table = mrs.tableau(mrs.Schedule(), SOLVER)
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    out = np.empty_like(picture)
    eager: list[float] = []
    network: list[float] = []
    whole: list[float] = []

    with mrs.load(tmp_path / "refusion.mrsplan") as restorer:
        restorer.restore_into(picture, out)
        with restorer.chain((1, *SIZE)) as chain:
            inside = _timed(chain.network)

        def eager_turn() -> tuple[tuple[()], dict[str, object]]:
            begin = time.perf_counter()
            eager_restore(net, picture, table)
            eager.append(1e3 * (time.perf_counter() - begin))
            inside.clear()
            return (), {}

        def our_turn() -> None:
            begin = time.perf_counter()
            restorer.restore_into(picture, out)
            whole.append(1e3 * (time.perf_counter() - begin))
            network.append(1e3 * sum(inside))

        eager_turn()
        eager.clear()
        benchmark.pedantic(our_turn, setup=eager_turn, rounds=ROUNDS)
    ratios = [one / other for one, other in zip(eager, whole, strict=True)]
    outside = [100 * (1 - part / total) for part, total in zip(network, whole, strict=True)]
    candidate = next(
        entry for entry in plan.manifest["selection"]["candidates"]
        if (entry["backend"], entry["precision"]) == (plan.facts.backend, precision)
    )  # fmt: skip
    record(
        f"restore refusion {precision} against torch eager float32",
        {"network": "width 64, 1,1,1,28, random weights", "size": SIZE, "evaluations": STEPS, "rounds": ROUNDS,
         "backend": plan.facts.backend, "precision": precision},
        {"eager_ms": statistics.median(eager), "eager_min_ms": min(eager), "eager_max_ms": max(eager),
         "restore_ms": statistics.median(whole), "restore_min_ms": min(whole), "restore_max_ms": max(whole),
         "times_faster": statistics.median(ratios), "times_faster_min": min(ratios), "times_faster_max": max(ratios),
         "outside_network_percent": statistics.median(outside), "outside_network_max_percent": max(outside),
         "parity_db": candidate["parity_db"], "parity_verdict": candidate["reason"]},
    )  # fmt: skip


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_against_bare_evaluations(
    benchmark: BenchmarkFixture,
    record: Callable[..., None],
    checkpoint: Path,
    tmp_path: Path,
    precision: str,
) -> None:
    """The whole restore beside as many evaluations of the same graph in a loop of OpenVINO's own API alone."""
    plan = built(checkpoint, tmp_path, precision, backend="openvino")
    core = openvino.core()
    model = core.read_model(plan.graph)
    model.reshape({"packed": [1, 6, *SIZE], "modulation": [1, plan.modulation.shape[1], 1, 1]})
    request = core.compile_model(model, "CPU", openvino._settings(precision, machine.threads())).create_infer_request()
    packed = np.random.default_rng(0).random((1, 6, *SIZE), np.float32)
    rows = [row[None, :, None, None].copy() for row in plan.modulation]
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    out = np.empty_like(picture)
    bare: list[float] = []
    whole: list[float] = []

    with mrs.load(tmp_path / "refusion.mrsplan") as restorer:

        def bare_turn() -> tuple[tuple[()], dict[str, object]]:
            begin = time.perf_counter()
            for row in rows:
                request.infer({"packed": packed, "modulation": row}, share_inputs=True)
            bare.append(1e3 * (time.perf_counter() - begin))
            return (), {}

        def our_turn() -> None:
            begin = time.perf_counter()
            restorer.restore_into(picture, out)
            whole.append(1e3 * (time.perf_counter() - begin))

        for _ in range(2):
            bare_turn()
            our_turn()
        bare.clear()
        whole.clear()
        benchmark.pedantic(our_turn, setup=bare_turn, rounds=3 * ROUNDS)
    ratios = statistics.quantiles([one / other for one, other in zip(whole, bare, strict=True)], n=4)
    record(
        f"restore refusion {precision} against bare evaluations",
        {"network": "width 64, 1,1,1,28, random weights", "size": SIZE, "evaluations": STEPS, "rounds": 3 * ROUNDS,
         "backend": "openvino", "precision": precision},
        {"bare_ms": statistics.median(bare), "restore_ms": statistics.median(whole), "ratio": ratios[1],
         "ratio_low": ratios[0], "ratio_high": ratios[2]},
    )  # fmt: skip


def _timed(network: Any) -> list[float]:
    """Seconds of each evaluation from now on, collected by wrapping the network's method."""
    seconds: list[float] = []
    evaluate = network.evaluate

    def timed(step: int) -> None:
        begin = time.perf_counter()
        evaluate(step)
        seconds.append(time.perf_counter() - begin)

    network.evaluate = timed
    return seconds
