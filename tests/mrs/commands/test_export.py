"""`mrs-trt export`: its flags reach the file, and what is wrong is refused before time is spent."""

from __future__ import annotations

import hashlib
import json

import onnx
import pytest
import torch

from mrs import Schedule
from mrs.commands.plan_options import OPTIONS
from mrs.numerics.solver import RECOMMENDED
from mrs.runtime import backends

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow(15)]


@pytest.fixture
def sampler(run, golden, tmp_path):
    """Export nafnet_tiny as one ONNX file; the result and the model."""

    def call(*arguments: object, output: str = "restore.onnx"):
        path = tmp_path / output
        result = run("export", golden.weights, "-o", path, *arguments)
        assert result.code == 0, result.err
        return result, onnx.load(path)

    return call


def test_a_sampler(sampler, golden) -> None:
    result, model = sampler()
    assert [entry.name for entry in model.graph.input] == ["picture", "noise"]
    assert [entry.name for entry in model.graph.output] == ["restored"]
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found.pop("made_by").startswith("mrs-trt ")
    assert json.loads(found.pop("solver")) == RECOMMENDED.to_dict()
    assert json.loads(found.pop("schedule")) == Schedule().to_dict()
    digest = hashlib.sha256(golden.weights.read_bytes()).hexdigest()
    assert found == {
        "checkpoint": "nafnet_tiny.pth", "checkpoint_sha256": digest, "steps": str(RECOMMENDED.steps), "output": "noise"
    }  # fmt: skip
    # The recommended solver draws for the start alone.
    assert "noise         input, (1, N, 3, H, W) float32, standard normal" in result.out
    assert result.err.startswith(f"read {golden.weights}\n")
    assert result.err.endswith("restore.onnx\n")


def test_a_sampler_with_flags_of_solver_and_schedule(sampler) -> None:
    result, model = sampler(
        "-q", "--solver", "ode-3", "--steps", 4, "--max-sigma", 30, "--network-output", "data", output="Restore.ONNX"
    )
    found = {entry.key: entry.value for entry in model.metadata_props}
    solver, schedule = json.loads(found["solver"]), json.loads(found["schedule"])
    assert (solver["method"], solver["order"], found["steps"]) == ("ode", 3, "4")
    assert (schedule["max_sigma"], found["output"]) == (30.0, "data")
    # One draw: x_T's.
    assert model.graph.input[1].type.tensor_type.shape.dim[0].dim_value == 1
    assert result.err == ""


def test_a_sampler_without_any_engine(sampler, monkeypatch) -> None:
    for backend in backends.BACKENDS.values():
        monkeypatch.setattr(type(backend), "missing", lambda self: "not installed")
    assert sampler("--steps", 2)[0].code == 0


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--size", "64x64"), ("--batch", 2), ("--backend", "openvino"), ("--precision", "bf16"), ("--device", "cuda"),
        ("--calibration", "pictures"), ("--threads", 1), ("--max-latency", 5), ("--engine-option", "workspace-mib=9"),
        ("--size-range", "64x64"), ("--measure-again", ""),
    ],
)  # fmt: skip
def test_a_sampler_is_compiled_for_nothing(refuse_export, flag, value) -> None:
    refuse_export(flag, value, says=(f"export takes no {flag}", "for any size and engine"))


def test_every_option_of_plans_is_refused_before_what_misses(refuse) -> None:
    for flag in OPTIONS:
        refuse("export", flag, says=f"export takes no {flag}")


@pytest.mark.parametrize("name", ["new.mrsplan", "new"])
def test_names_that_are_no_onnx_file(refuse_export, tmp_path, name) -> None:
    refuse_export(output=tmp_path / name, says=(f"{name} is no name for an ONNX file", "name it new.onnx"))


def test_an_export_that_is_there(refuse_export, sampler, tmp_path) -> None:
    (tmp_path / "restore.onnx").write_bytes(b"old")
    refuse_export(output=tmp_path / "restore.onnx", says=("restore.onnx exists", "pass --overwrite"))
    sampler("-q", "--steps", 2, "--overwrite")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--network-output", "score"], "network output 'score' is unknown"),
        (["--steps", "100", "--spacing", "leading"], "use fewer steps"),
    ],
    ids=["output", "steps"],
)
def test_what_a_sampler_shares_with_plans_is_refused_alike(refuse_export, tmp_path, flags, says) -> None:
    refuse_export("-q", *flags, says=says)
    refuse_export("-q", checkpoint=tmp_path / "missing.pth", says="missing.pth does not exist")


@pytest.mark.usefixtures("no_space")
def test_a_full_disk_for_a_sampler(refuse_export) -> None:
    refuse_export("-q", says="No space left on device")


def test_a_sampler_of_a_network_that_gives_nan(refuse_export, golden, tmp_path) -> None:
    state = dict(torch.load(golden.weights))
    state["ending.weight"] = torch.full_like(state["ending.weight"], 3e38)
    torch.save(state, tmp_path / "large.pth")
    says = "the network gives infinities or NaN in float32"
    refuse_export("-q", checkpoint=tmp_path / "large.pth", says=says)


def test_a_sampler_that_an_engine_gets_wrong(refuse_export, monkeypatch) -> None:
    monkeypatch.setattr("mrs.building.graph_check.TOLERANCE", 0.0)
    refuse_export("-q", says="openvino (length-weights) differs from torch")


def test_a_plan_is_no_checkpoint(refuse, plan, tmp_path) -> None:
    refuse("export", plan, "-o", tmp_path / "new.onnx", says=("is a plan, not a checkpoint", "that it was built from"))
    renamed = tmp_path / "plan.safetensors"
    renamed.write_bytes(plan.read_bytes())
    refuse("export", renamed, "-o", tmp_path / "new.onnx", says="is a plan, not a checkpoint")
