"""A checkpoint becomes a plan that restores as the torch network does, and says how it was made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import mrs
from mrs import _version
from mrs.building import source
from mrs.building.assemble import timetable
from mrs.export.autotune import counted
from mrs.export.autotune import variants as forms
from mrs.export.checkpoint import save
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import RECOMMENDED, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.plan import read_plan
from mrs.runtime.system import machine
from tests.mrs.building.builds import ARCH, FORMS, METADATA, SCHEDULE, SOLVER, by_torch, quickly, state

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow(28)]


@pytest.mark.parametrize("backend", [name for name, each in backends.BACKENDS.items() if each.device == "cpu"])
def test_a_plan_restores_as_torch_does(weights: Path, path: Path, backend: str) -> None:
    quickly(weights, path, backend=backend, precision="fp32")
    picture = np.random.default_rng(0).integers(0, 256, (17, 22, 3), np.uint8)
    expected = by_torch(weights, picture, SCHEDULE, "data")
    with mrs.load(path, threads=1) as restorer:
        assert (restorer.backend, restorer.precision) == (backend, "fp32")
        assert np.abs(restorer.restore(picture / np.float32(255), seed=4) - expected).max() < 1e-4
        assert np.abs(restorer.restore(picture, seed=4) / 255 - expected).max() < 1 / 255
    assert expected.std() > 0.1


@pytest.mark.parametrize(
    "solver",
    [
        Solver("ghvb", 4, "noise", 5, momentum=0.2),
        Solver("unipc-b2", 3, steps=4, clamp="threshold"),
        Solver("sa", 2, steps=3, stochasticity=0.7, clamp="unit", start_time=31.5),
        Solver("heun", 2, steps=3, spacing="custom", times=(44.0, 20.0, 0.0)),
    ],
    ids=lambda solver: solver.name,
)
def test_a_plan_of_any_solver_restores_as_torch_does(weights: Path, path: Path, solver: Solver) -> None:
    quickly(weights, path, solver=solver)
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    with mrs.load(path, threads=1) as restorer:
        restored = restorer.restore(picture / np.float32(255), seed=4)
    assert np.abs(restored - by_torch(weights, picture, SCHEDULE, "data", solver)).max() < 1e-4


def test_a_build_that_takes_long_says_how_far_it_is(weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "OFTEN", 0.0)
    lines: list[str] = []
    quickly(weights, path, measure_again=True, report=lines.append)
    # Three pictures, in three evaluations and in six.
    assert "float32 reference: 26/27 evaluations" in lines
    assert any(line.startswith("parity of onnxruntime fp32: 11/12") for line in lines)
    assert any(line.startswith("graph variants of onnxruntime fp32: ") for line in lines)
    assert any(line.startswith("latency: 0/") for line in lines)


def test_a_published_checkpoint_says_nothing_of_its_process(golden, path: Path) -> None:
    plan = quickly(golden.weights, path)
    assert plan.manifest["schedule"] == Schedule().to_dict()
    assert plan.manifest["output"] == "noise"
    picture = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
    with mrs.load(path, threads=1) as restorer:
        restored = restorer.restore(picture / np.float32(255), seed=4)
    assert np.abs(restored - by_torch(golden.weights, picture, Schedule(), "noise")).max() < 1 / 255


def test_what_the_manifest_says(weights: Path, path: Path) -> None:
    manifest = quickly(weights, path, size=(10, 13), batch=2).manifest
    table = tableau(SCHEDULE, SOLVER, "data")
    assert manifest["made_by"] == f"mrs-trt {_version.__version__}"
    assert manifest["checkpoint"] == {
        "name": "tiny.safetensors",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    assert {**asdict(ARCH), "architecture": "ConditionalNAFNet", "multiple": 4}.items() <= manifest["network"].items()
    assert manifest["schedule"] == SCHEDULE.to_dict()
    assert manifest["solver"] == SOLVER.to_dict()
    assert manifest["output"] == "data"
    assert manifest["degradation"] == "rain"
    assert manifest["table"] == {
        "times": list(table.times),
        "rows": [list(row) for row in table.rows],
        "start": table.start,
        "clamp": "none",
    }
    assert manifest["shape"] == [2, 12, 16]
    assert (manifest["backend"], manifest["precision"], manifest["threads"]) == ("onnxruntime", "fp32", 1)
    version = backends.get("onnxruntime").version()
    assert manifest["fingerprint"] == machine.fingerprint("onnxruntime", version)
    (candidate,) = manifest["selection"]["candidates"]
    assert candidate["passed"]
    assert candidate["latency_ms"] > 0
    assert candidate["truth_db"] == pytest.approx(0, abs=1e-4)
    assert [entry["variant"] for entry in manifest["selection"]["variants"]] == FORMS
    assert all(entry["latency_ms"] > 0 for entry in manifest["selection"]["variants"])
    assert manifest["selection"]["calibration_pictures"] == 3
    assert 0 < manifest["selection"]["discretisation_db"] < 200


def test_an_equal_build_measures_nothing_again(weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrs.export.autotune.pace.SIDES", (16, 32))
    first = quickly(weights, path)
    # What larger pictures take too.
    assert [side for side, _ in read_plan(path).facts.pace] == [16, 32]
    lines: list[str] = []
    monkeypatch.setattr("mrs.building.build.autotune", lambda *_, **__: pytest.fail("measured again"))
    monkeypatch.setattr("mrs.building.build.measure_pace", lambda *_, **__: pytest.fail("measured again"))
    again = quickly(weights, path, report=lines.append)
    assert f"measured here before, at {first.manifest['selection']['measured_at']}" in lines
    assert again.manifest["selection"] == first.manifest["selection"]
    assert again.manifest["pace"] == first.manifest["pace"]
    assert again.graph == first.graph


def test_measuring_again_can_be_asked_for(weights: Path, path: Path) -> None:
    quickly(weights, path)
    lines: list[str] = []
    quickly(weights, path, report=lines.append, measure_again=True)
    assert any(line.startswith("parity of") for line in lines)


def test_a_limit_of_time_is_measured_once_too(weights: Path, path: Path) -> None:
    first = quickly(weights, path, max_latency=1e6)
    lines: list[str] = []
    again = quickly(weights, path, max_latency=1e6, report=lines.append)
    assert not any(line.startswith("parity of") for line in lines)
    assert again.manifest["latency"] == first.manifest["latency"]
    assert again.manifest["solver"] == first.manifest["solver"]
    assert again.manifest["table"] == first.manifest["table"]


@pytest.mark.parametrize("fastest", FORMS)
def test_the_plan_holds_the_fastest_form(
    weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch, fastest: str
) -> None:
    monkeypatch.setattr(
        forms,
        "time_interleaved",
        lambda chains, *_: {form: [1.0 if str(form) == fastest else 2.0] for form in chains},
    )
    made = quickly(weights, path)
    assert made.manifest["selection"]["candidates"][0]["variant"] == fastest
    nodes = {node.op_type for node in onnx.load_from_string(made.graph).graph.node}
    assert ("ReduceL2" in nodes) == fastest.startswith("length")


def test_the_plan_returned_is_the_plan_written(weights: Path, path: Path) -> None:
    path.write_text("an old plan")
    made = quickly(weights, path)
    read = read_plan(path)
    assert json.loads(json.dumps(made.manifest)).items() <= read.manifest.items()
    assert (made.graph, made.engine) == (read.graph, read.engine)
    np.testing.assert_array_equal(made.modulation, read.modulation)
    np.testing.assert_array_equal(made.timetable, read.timetable)
    assert list(path.parent.iterdir()) == [path]


def test_a_plan_holds_its_network_at_every_whole_time(weights: Path, path: Path) -> None:
    plan = quickly(weights, path, solver=Solver(steps=5))
    assert plan.manifest["table"]["times"] == [50.0, 40.0, 30.0, 20.0, 10.0, 0.0]
    assert plan.timetable is not None
    assert len(plan.timetable) == SCHEDULE.T + 1
    np.testing.assert_allclose(plan.timetable[[50, 40, 30, 20, 10]], plan.modulation, rtol=1e-5, atol=1e-6)
    # Each time has its own.
    assert len(np.unique(plan.timetable, axis=0)) == SCHEDULE.T + 1


@pytest.mark.parametrize(("T", "rows"), [(200, 201), (201, None)])
def test_a_long_timetable_is_left_out(weights: Path, T: int, rows: int | None) -> None:
    read = source.read_source(weights, replace(SCHEDULE, T=T), override=True)
    table = timetable(read)
    assert (None if table is None else len(table)) == rows


def test_schedule_and_output_that_are_given_win(weights: Path, path: Path) -> None:
    given = Schedule(kind="linear")
    manifest = quickly(weights, path, schedule=given, output="velocity", override_checkpoint=True).manifest
    assert manifest["schedule"] == given.to_dict()
    assert manifest["output"] == "velocity"
    assert manifest["table"]["rows"] == [list(row) for row in tableau(given, SOLVER, "velocity").rows]


def test_the_solver_by_default(weights: Path, path: Path) -> None:
    assert quickly(weights, path, solver=None).manifest["solver"] == RECOMMENDED.to_dict()


def test_an_engine_is_compiled_ahead(weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = quickly(weights, path, backend="openvino", precision="fp32")
    assert plan.engine
    monkeypatch.setattr(type(backends.get("openvino")), "compile", lambda *_: pytest.fail("compiled"))
    with mrs.load(path, threads=1) as restorer:
        restorer.restore(np.zeros((8, 7, 3), np.uint8))


def test_auto_takes_the_fastest_that_passes(weights: Path, path: Path) -> None:
    lines: list[str] = []
    manifest = quickly(weights, path, backend="auto", report=lines.append).manifest
    candidates = manifest["selection"]["candidates"]
    assert {entry["backend"] for entry in candidates} == {backend.name for backend in backends.available()}
    passed = [entry for entry in candidates if entry["passed"]]
    fastest = min(passed, key=lambda entry: entry["latency_ms"])
    assert (manifest["backend"], manifest["precision"]) == (fastest["backend"], fastest["precision"])
    assert any("tiny.safetensors" in line for line in lines)
    assert lines[-1] == f"wrote {path}"


def test_a_calibration_folder(weights: Path, path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("calibration")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)).save(folder / "a.png")
    selected = quickly(weights, path, calibration=folder).manifest["selection"]
    assert selected["calibration_pictures"] == 1
    # Nobody knows what a user's pictures looked like.
    assert selected["candidates"][0]["truth_db"] is None


@pytest.mark.parametrize(
    "recipe", [None, {}, {"degradation": "unheard of"}, "rain", {"degradation": ["rain"]}], ids=repr
)
def test_an_unknown_recipe_is_no_ground_truth(tmp_path: Path, path: Path, recipe: Any) -> None:
    save(tmp_path / "a.safetensors", state(), {**METADATA, "recipe": recipe})
    selected = quickly(tmp_path / "a.safetensors", path).manifest["selection"]
    assert selected["candidates"][0]["truth_db"] is None
