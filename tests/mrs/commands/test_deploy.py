"""`mrs-trt deploy`: plans and checkpoints in a model repository, and what is wrong is refused before time is spent."""

from __future__ import annotations

import os

import pytest

from mrs.runtime.plan import read_plan

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow(10)]


def test_a_repository_from_a_checkpoint(run, golden, tmp_path) -> None:
    result = run(
        "deploy", golden.weights, "-o", tmp_path / "models", "--name", "rain",
        "--backend", "onnxruntime", "--size", "16x16", "--threads", 1, "--steps", 2,
    )  # fmt: skip
    assert result.code == 0, result.err
    manifest = read_plan(tmp_path / "models" / "rain" / "1" / "model.mrsplan").manifest
    assert (manifest["shape"], manifest["solver"]["steps"]) == ([1, 16, 16], 2)
    assert "model         rain, version 1\n" in result.out
    # No path that is gone.
    assert "wrote" not in result.err
    assert f"tritonserver --model-repository={tmp_path / 'models'}\n" in result.out
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["rain"]


def test_a_repository_from_a_plan(run, plan, tmp_path) -> None:
    for number in (1, 2):
        result = run("deploy", plan, "-o", tmp_path / "models")
        assert (result.code, result.err) == (0, "")
        assert f"model         tiny, version {number}\n" in result.out
        made = tmp_path / "models" / "tiny" / str(number) / "model.mrsplan"
        assert made.read_bytes() == plan.read_bytes()


def test_what_is_said_of_a_model_is_said_of_a_plan_too(run, plan, tmp_path) -> None:
    assert run("deploy", plan, "-o", tmp_path / "models", "--name", "rain").code == 0
    config = tmp_path / "models" / "rain" / "config.pbtxt"
    made = config.read_text()
    config.write_text("edited")
    assert run("deploy", plan, "-o", tmp_path / "models", "--name", "rain").code == 0
    assert config.read_text() == "edited"
    assert run("deploy", plan, "-o", tmp_path / "models", "--name", "rain", "--overwrite", "-q").code == 0
    assert config.read_text() == made


@pytest.mark.parametrize(
    ("flags", "flag"),
    [
        (["--size", "64x64"], "--size"), (["--steps", 3], "--steps"), (["--published"], "--published"),
        (["--solver", "ode-2"], "--solver"), (["--max-sigma", 30], "--max-sigma"), (["--device", "cpu"], "--device"),
        (["--override-checkpoint"], "--override-checkpoint"), (["--measure-again"], "--measure-again"),
        (["--engine-option", "workspace-mib=9"], "--engine-option"), (["--denoise-last"], "--denoise-last"),
    ],
)  # fmt: skip
def test_a_plan_is_served_as_it_is(refuse, plan, tmp_path, flags, flag) -> None:
    says = (f"is a plan and takes no {flag};", "give a checkpoint")
    refuse("deploy", plan, "-o", tmp_path / "models", *flags, says=says)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--name", "../up"], ("'../up' is no name for a model", "use --name with letters")),
        (["--name", ""], "'' is no name for a model"),
        (["--max-latency", 5, "--steps", 3], "leave out --steps or --max-latency"),
    ],
)
def test_wrong_arguments_for_a_repository(refuse_deploy, flags, says) -> None:
    refuse_deploy(*flags, says=says)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_has_no_end(refuse_deploy, tmp_path, kind) -> None:
    path = tmp_path / "endless"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    refuse_deploy(checkpoint=path, says=f"cannot be read: it is a {kind}")


@pytest.mark.parametrize(("name", "command"), [("new.onnx", "export"), ("new.mrsplan", "build"), ("N.ONNX", "export")])
def test_names_of_files_are_no_folders_of_models(refuse_deploy, plan, tmp_path, name, command) -> None:
    says = (f"{name} would be a folder of models", f"use mrs-trt {command}")
    refuse_deploy(output=tmp_path / name, says=says)
    refuse_deploy(checkpoint=plan, output=tmp_path / name, says=says)


def test_places_for_a_repository_are_looked_at_before_time_is_spent(refuse_deploy, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    refuse_deploy(output=tmp_path / "file", says="it is not a folder")
    refuse_deploy(output=tmp_path / "no" / "models", says="its folder does not exist")


@pytest.mark.usefixtures("no_space")
def test_a_full_disk_for_a_repository(refuse, refuse_deploy, plan, tmp_path) -> None:
    # By the name of the model, not that of the file that is renamed afterwards.
    models = tmp_path / "models"
    says = (f"cannot write {models / 'nafnet_tiny'}: No space left on device", "hint: make room")
    refuse_deploy("-q", "--backend", "onnxruntime", "--size", "8x8", "--threads", 1, "--steps", 2, says=says)
    says = (f"cannot write {models / 'tiny'}: No space left on device", "hint: make room")
    refuse("deploy", plan, "-o", tmp_path / "models", says=says)


def test_a_damaged_plan_for_a_repository(refuse, plan, tmp_path) -> None:
    (tmp_path / "bad.mrsplan").write_bytes(plan.read_bytes().replace(b"network.onnx", b"netmork.onnx"))
    command = "deploy", tmp_path / "bad.mrsplan", "-o", tmp_path / "models"
    refuse(*command, says="bad.mrsplan")
