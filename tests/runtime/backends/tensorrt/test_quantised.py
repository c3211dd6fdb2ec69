"""int8 and fp8 from build to restore, on the doubles of TensorRT and of ModelOpt."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from mrs.cli import main
from mrs.export import quantise as quantisation
from mrs.export.autotune.calibrated import feeds_of
from mrs.export.autotune.workload import Pair
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Loop
from mrs.runtime.errors import BackendError
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.session import Restorer
from mrs.runtime.system import machine
from tests.export.modelopt_double import ModelOpt, install
from tests.runtime.backends.tensorrt.facts import newest

pytestmark = pytest.mark.slow(50)

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
QUANTISED = ("int8", "fp8")


@pytest.fixture(autouse=True)
def registered(backend: Any, world: Any, complete_outputs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend on the double, as `tensorrt`; a build makes its chains there too."""
    monkeypatch.setitem(backends.BACKENDS, "tensorrt", backend)
    monkeypatch.setattr("mrs.runtime.backends.tensorrt.backend.installed_version", lambda *names: world.version)
    monkeypatch.setattr(
        "mrs.export.autotune.timing.device_of", lambda engine: world.device if engine is backend else None
    )
    # ONNX Runtime's advice to change the graph first is for others.
    monkeypatch.setattr(logging.root, "disabled", True)


@pytest.fixture
def modelopt(monkeypatch: pytest.MonkeyPatch) -> ModelOpt:
    # The golden network is narrow.
    monkeypatch.setattr(quantisation, "LEAST", 1)
    return install(monkeypatch)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def remove() -> None:
        find = importlib.util.find_spec
        for name in [name for name in sys.modules if name.partition(".")[0] == "modelopt"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "modelopt" else find(name))

    return remove


@pytest.fixture
def build(golden: Any, tmp_path: Path) -> Callable[..., int]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(PICTURE).save(folder / "a.png")

    def call(*more: str) -> int:
        return main([
            "build", str(golden.weights), "-o", str(tmp_path / "made.mrsplan"), "--backend", "tensorrt", "--size",
            "16x24", "--threads", "1", "--calibration", str(folder), "--overwrite", "-q", *more,
        ])  # fmt: skip

    return call


@pytest.fixture
def make(build: Callable[..., int], modelopt: ModelOpt, tmp_path: Path) -> Callable[[str], Plan]:
    """Build a plan of that precision."""

    def call(precision: str) -> Plan:
        assert build("--steps", "3", "--precision", precision) == 0
        return read_plan(tmp_path / "made.mrsplan")

    return call


@pytest.fixture(scope="module")
def kept() -> dict[tuple[str, str], bytes]:
    """Plans by version and precision."""
    return {}


@pytest.fixture
def made(
    make: Callable[[str], Plan], world: Any, kept: dict[tuple[str, str], bytes], tmp_path: Path
) -> Callable[[str], Plan]:
    """As `make`, but a plan that another test has built is read again."""

    def call(precision: str) -> Plan:
        key, path = (world.version, precision), tmp_path / "made.mrsplan"
        if key not in kept:
            make(precision)
            kept[key] = path.read_bytes()
        path.write_bytes(kept[key])
        return read_plan(path)

    return call


def restored(plan: Plan, device: Any, **more: Any) -> Any:
    with Restorer(plan, device=device, threads=1, **more) as restorer:
        return restorer.restore(PICTURE, 3).astype(int)


def operations(graph: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(graph).graph.node}


@pytest.mark.parametrize("precision", QUANTISED)
def test_a_plan_holds_both_networks(world: Any, made: Any, precision: str) -> None:
    plan = made(precision)
    assert plan.manifest["precision"] == precision
    assert "QuantizeLinear" in operations(plan.quantised)
    assert "QuantizeLinear" not in operations(plan.graph)
    builds = len(world.builds)
    quantised = restored(plan, world.device)
    assert len(world.builds) == builds
    exact = restored(replace(plan, engine=None, manifest={**plan.manifest, "precision": "fp32"}), world.device)
    # Something is rounded, and it is a restore all the same.
    assert 0 < np.abs(quantised - exact).mean() < 16


@pytest.mark.parametrize("precision", QUANTISED)
def test_a_rebuild_needs_no_modelopt(world: Any, made: Any, absent: Any, backend: Any, precision: str) -> None:
    plan = made(precision)
    expected = restored(plan, world.device)
    absent()
    backend._engines.clear()
    plan.manifest["fingerprint"]["processor"] = "NVIDIA Other 9.0"
    builds = len(world.builds)
    np.testing.assert_array_equal(restored(plan, world.device), expected)
    assert len(world.builds) == builds + 1


def test_a_gpu_that_lacks_it_runs_the_float32_network(
    world: Any, made: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan = made("fp8")
    exact = restored(replace(plan, engine=None, manifest={**plan.manifest, "precision": "fp32"}), world.device)
    monkeypatch.setattr(machine, "gpu", lambda: "NVIDIA A100 8.0")
    np.testing.assert_array_equal(restored(plan, world.device, backend="tensorrt", precision="fp32"), exact)
    from mrs.runtime.placement import choose

    assert [choose(plan, asked)[1] for asked in (None, "tensorrt", "onnxruntime")] == ["fp32"] * 3


def test_a_plan_has_no_other_type(world: Any, made: Any) -> None:
    with pytest.raises(BackendError, match="the plan has no network for fp8"):
        Restorer(made("int8"), device=world.device, precision="fp8")


@newest
def test_all_are_measured_and_judged(made: Any, modelopt: ModelOpt) -> None:
    plan = made("auto")
    found = {each["precision"]: each for each in plan.manifest["selection"]["candidates"]}
    assert set(found) == {"fp32", "bf16", "fp16", "int8", "fp8"}
    assert all(found[one]["latency_ms"] > 0 and found[one]["parity_db"] > 0 for one in QUANTISED)
    forms = {(each["precision"], each["variant"]) for each in plan.manifest["selection"]["variants"]}
    assert len([one for one, _ in forms if one == "int8"]) == 2
    assert (plan.quantised is not None) == (plan.manifest["precision"] in QUANTISED)


@newest
def test_what_is_remembered_is_quantised_again(make: Any, modelopt: ModelOpt) -> None:
    first, count = make("int8"), len(modelopt.calls)
    again = make("int8")
    assert again.manifest["selection"]["measured_at"] == first.manifest["selection"]["measured_at"]
    assert again.quantised == first.quantised
    # The one form that was chosen.
    assert len(modelopt.calls) == count + 1


@newest
def test_a_type_that_cannot_be_made_is_one_candidate_less(make: Any, modelopt: ModelOpt) -> None:
    modelopt.fails = RuntimeError("no rule")
    candidates = make("auto").manifest["selection"]["candidates"]
    reasons = {each["precision"]: each["reason"] for each in candidates if not each["passed"]}
    assert all(reasons[one] == f"ModelOpt cannot quantise for {one}: no rule" for one in QUANTISED)


@newest
def test_within_a_time(build: Any, modelopt: ModelOpt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mrs.building.loops.LADDER", (2, 4))
    assert build("--precision", "int8", "--max-latency", "100000") == 0
    assert read_plan(tmp_path / "made.mrsplan").quantised is not None
    # The values of the most evaluations serve all numbers of them: each form is quantised once.
    assert len(modelopt.calls) == 2


@pytest.mark.parametrize("precision", QUANTISED)
def test_without_modelopt(build: Any, absent: Any, tmp_path: Path, capsys: Any, precision: str) -> None:
    absent()
    assert build("--precision", precision) == 2
    expected = f"{precision} needs NVIDIA ModelOpt, which is not installed: pip install 'mrs-trt[modelopt]'"
    assert capsys.readouterr().err.strip() == f"error: {expected}"
    assert not (tmp_path / "made.mrsplan").exists()


@newest
def test_without_it_nothing_is_measured_that_cannot_be(build: Any, absent: Any, tmp_path: Path) -> None:
    absent()
    assert build() == 0
    candidates = read_plan(tmp_path / "made.mrsplan").manifest["selection"]["candidates"]
    assert {each["precision"] for each in candidates} == {"fp32", "bf16", "fp16"}


def test_a_gpu_that_is_too_old(build: Any, modelopt: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(machine, "gpu", lambda: "NVIDIA A100 8.0")
    assert build("--precision", "fp8") == 2
    assert capsys.readouterr().err.strip() == "error: nothing can run fp8 here; hint: tensorrt: no fp8 here"


def test_values_from_a_gpu_are_those_of_the_cpu(backend: Any, tiny: Any) -> None:
    rows = tiny.table
    loop = Loop(rows, tiny.modulation)
    there, here = (
        feeds_of(engine, tiny.graph, loop, [Pair(PICTURE)], CompileSettings(1))
        for engine in (backend, backends.get("onnxruntime"))
    )
    assert len(there) == len(here) == len(rows.rows)
    for one, other in zip(there, here, strict=True):
        np.testing.assert_allclose(one["packed"], other["packed"], atol=1e-4)
        np.testing.assert_array_equal(one["modulation"], other["modulation"])
