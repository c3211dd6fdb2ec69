"""Whatever cannot be built is told in one line and leaves no file; a plan that does not restore says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import mrs
from mrs.building import source
from mrs.building.made_for import MadeFor
from mrs.building.onnx_sampler import export_sampler
from mrs.commands import inspect
from mrs.export.architectures import nafnet
from mrs.export.checkpoint import save
from mrs.numerics.solver import Solver
from mrs.runtime.errors import BackendError, CheckpointError, InputError
from mrs.runtime.system import machine
from tests.mrs.building.builds import ARCH, METADATA, quickly, state

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow(8)]


def test_a_plan_that_does_not_restore_says_so(weights: Path, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Random weights do not; what the build says is in the plan, and is said again where it is loaded."""
    lines: list[str] = []
    plan = quickly(weights, path, report=lines.append)
    (line,) = plan.facts.warnings
    assert line.startswith("this plan does not restore: its result is ")
    assert line.endswith("likely cause: weights that do not restore")
    assert f"warning: {line}" in lines
    assert f"warning: {line}" in inspect.summary(plan.manifest)
    assert plan.manifest["verdict"]["of_truth"]
    with mrs.load(path):
        assert [record.getMessage() for record in caplog.records] == [f"its build says: {line}"]
    # What was measured before says the same.
    lines.clear()
    assert quickly(weights, path, report=lines.append).facts.warnings == (line,)
    assert any(text.startswith("measured here before") for text in lines)


def test_a_plan_that_restores_says_nothing(weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrs.export.autotune.verdict.Verdict.warnings", lambda *arguments: [])
    plan = quickly(weights, path)
    assert plan.facts.warnings == ()
    assert "warning" not in inspect.summary(plan.manifest)


def test_a_solver_that_runs_away_is_named(
    weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At build, in the plan, and where it is loaded; a data prediction, which is advised, is not."""
    monkeypatch.setattr("mrs.export.autotune.verdict.Verdict.warnings", lambda *arguments: [])
    solver, lines = Solver("sde", 1, "noise", 3, last_step="lower-order"), []
    plan = quickly(weights, path, solver=solver, report=lines.append)
    (line,) = plan.facts.warnings
    assert line.startswith("sde-1 with a noise prediction runs away at 3 evaluations: a state has ")
    assert f"warning: {line}" in lines
    with mrs.load(path):
        assert [record.getMessage() for record in caplog.records] == [f"its build says: {line}"]
    assert quickly(weights, path, solver=replace(solver, prediction="data")).facts.warnings == ()


def test_a_plan_that_appears_meanwhile_is_not_replaced(weights: Path, path: Path) -> None:
    def appear(line: str) -> None:
        if line.startswith("compiling"):
            path.write_bytes(b"another's")

    with pytest.raises(InputError, match="exists"):
        quickly(weights, path, overwrite=False, report=appear)
    assert path.read_bytes() == b"another's"
    assert list(path.parent.iterdir()) == [path]


# What cannot be built


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"precision": "int4"}, "precision 'int4' is unknown"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
        ({"device": "cuda", "backend": "onnxruntime"}, "backend onnxruntime runs on cpu, not on cuda"),
        ({"device": "cpu", "backend": "torch"}, "backend torch runs on cuda, not on cpu"),
        ({"backend": "cuda"}, "backend 'cuda' is unknown"),
        ({"output": "score"}, "network output 'score' is unknown"),
        ({"size": (0, 8)}, r"size \(0, 8\) is not two whole numbers"),
        ({"size": (8, -8)}, "is not two whole numbers"),
        ({"size": (8,)}, "is not two whole numbers"),
        ({"size": 64}, "size 64 is not two whole numbers"),
        ({"size": "64"}, "size '64' is not two whole numbers"),
        ({"size": (64, 8.0)}, "is not two whole numbers"),
        ({"further_sizes": [64]}, "size 64 is not two whole numbers"),
        ({"size": (10**8, 10**8)}, "is too large"),
        ({"batch": 0}, "batch 0 is not a whole number"),
        ({"batch": "two"}, "batch 'two' is not a whole number"),
        ({"threads": "x"}, "threads 'x' is not a whole number"),
        ({"max_latency": "x"}, "max_latency 'x' is not a positive number"),
        ({"solver": "ode-2"}, r"solver 'ode-2' is no mrs.Solver \(write such as mrs.Solver"),
        ({"noise_sigma": "x"}, "leave noise_sigma out"),
        ({"lenses": "abc"}, "leave them out"),
        ({"upscale": 99}, r"upscale 99 is not a whole number from 1 to \d+ \(give"),
        ({"encoder": 5}, "path of the checkpoint is a int"),
        ({"calibration": 5}, "path of the calibration folder is a int"),
        ({"calibration": "/none/such"}, "calibration folder .* does not exist"),
        ({"solver": Solver(steps=1000, spacing="leading")}, "use fewer steps"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_that_are_wrong(weights: Path, path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        quickly(weights, path, **options)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("path", [None, "", 5])
@pytest.mark.parametrize("which", [0, 1], ids=["checkpoint", "plan"])
def test_what_is_no_path(weights: Path, tmp_path: Path, which: int, path: Any) -> None:
    given = [weights, tmp_path / "a.mrsplan"]
    given[which] = path
    with pytest.raises(InputError, match=r"the path of the (checkpoint|plan) is"):
        quickly(*given)


def test_numbers_of_a_network_for_noise_and_of_one_for_lenses() -> None:
    from mrs.building.made_for import noise_of, told_of_lenses

    with pytest.raises(InputError, match="noise_sigma 'x' is not a number"):
        noise_of(mrs.Schedule(process="denoising", convention="ir-sde"), "x")  # type: ignore[arg-type]
    lensed = replace(nafnet.NAFNetLatentBokeh(4, (1,), 1, (1,)))
    for wrong in ("abc", (1, 2), 5, (1, 2, float("nan")), (1, 2, "3")):
        with pytest.raises(InputError, match="are not three numbers"):
            told_of_lenses(lensed, MadeFor(lenses=wrong), Path("a"))  # type: ignore[arg-type]


def test_a_plan_that_exists_is_not_replaced_unasked(weights: Path, path: Path) -> None:
    path.write_bytes(b"another's")
    with pytest.raises(InputError, match="exists"):
        mrs.build(weights, path, size=(8, 8))
    assert path.read_bytes() == b"another's"


@pytest.mark.parametrize("name", ["the same", "another", "a link"])
def test_a_checkpoint_is_not_replaced_by_its_plan(weights: Path, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "net.safetensors"
    mine.write_bytes(weights.read_bytes())
    path = {"the same": mine, "another": tmp_path / "hard", "a link": tmp_path / "soft"}[name]
    if name == "another":
        os.link(mine, path)
    elif name == "a link":
        path.symlink_to(mine)
    with pytest.raises(InputError, match=r"is read, too.*it would be lost"):
        quickly(mine, path, overwrite=True)
    assert mine.read_bytes() == weights.read_bytes()


def test_shipped_weights_are_not_replaced_by_a_plan(weights: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "drizzle.safetensors").write_bytes(weights.read_bytes())
    monkeypatch.setattr(source, "WEIGHTS", tmp_path)
    with pytest.raises(InputError, match="it would be lost"):
        quickly("drizzle", tmp_path / "drizzle.safetensors", overwrite=True)
    assert (tmp_path / "drizzle.safetensors").read_bytes() == weights.read_bytes()
    with pytest.raises(InputError, match="it would be lost"):
        export_sampler("drizzle", tmp_path / "drizzle.safetensors", overwrite=True)


def test_calibration_pictures_are_not_replaced_by_a_plan(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    picture = tmp_path / "deep" / "a.png"
    picture.write_bytes(b"a picture")
    with pytest.raises(InputError, match="it would be lost"):
        quickly(weights, picture, calibration=tmp_path, overwrite=True)
    assert picture.read_bytes() == b"a picture"


@pytest.mark.parametrize("option", ["encoder", "autoencoder"])
def test_a_wrong_companion_is_told_before_the_checkpoint_is_read(path: Path, tmp_path: Path, option: str) -> None:
    with pytest.raises(CheckpointError, match=r"companion\.pth does not exist"):
        quickly(tmp_path / "network.pth", path, **{option: tmp_path / "companion.pth"})


@pytest.mark.filterwarnings("error")
def test_weights_out_of_all_proportion_are_told_of_once(weights: Path, tmp_path: Path, path: Path) -> None:
    large = {key: value * 1e20 for key, value in state().items()}
    save(tmp_path / "large.safetensors", large, METADATA)
    for make in (quickly, export_sampler):
        with pytest.raises(CheckpointError, match=r"exceed float32|infinities or NaN"):
            make(tmp_path / "large.safetensors", path)


def test_a_precision_that_the_backend_lacks(weights: Path, path: Path) -> None:
    with pytest.raises(BackendError, match="nothing can run bf16 here"):
        quickly(weights, path, precision="bf16")
    assert not path.exists()


def test_a_folder_that_does_not_exist_is_told_before_the_work(weights: Path, path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(source, "read_checkpoint", lambda path: pytest.fail("read"))
    with pytest.raises(InputError, match=r"folder .* of the plan does not exist"):
        quickly(weights, path.parent / "none" / "a.mrsplan")


def test_a_size_that_memory_does_not_hold(weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: 1000)
    with pytest.raises(InputError, match="of memory"):
        quickly(weights, path)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("none.pth", None, "does not exist"),
        ("text.pth", b"hello, this is no checkpoint", "is not a checkpoint"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{", "not a readable checkpoint"),
    ],
)
def test_a_checkpoint_that_cannot_be_read(
    tmp_path_factory: pytest.TempPathFactory, path: Path, name: str, content: bytes | None, match: str
) -> None:
    given = tmp_path_factory.mktemp("bad") / name
    if content is not None:
        given.write_bytes(content)
    with pytest.raises(CheckpointError, match=match):
        quickly(given, path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "schedule", [{"kind": "square"}, {"T": "fifty"}, {"T": None}, {"length": 3}, "cosine", [1, 2], 5], ids=repr
)
def test_a_schedule_in_a_checkpoint_that_nobody_understands(
    tmp_path_factory: pytest.TempPathFactory, path: Path, schedule: Any
) -> None:
    given = tmp_path_factory.mktemp("bad") / "a.safetensors"
    save(given, state(), {**METADATA, "schedule": schedule})
    with pytest.raises(CheckpointError, match=r"a\.safetensors carries a schedule that is not understood"):
        quickly(given, path)
    assert list(path.parent.iterdir()) == []


def test_pictures_of_one_channel_are_not_supported(tmp_path: Path, path: Path) -> None:
    save(tmp_path / "grey.safetensors", state(replace(ARCH, channels=1)), METADATA)
    with pytest.raises(CheckpointError, match="pictures of 1 channels"):
        quickly(tmp_path / "grey.safetensors", path)


def test_a_network_that_overflows(tmp_path: Path, path: Path) -> None:
    large = state()
    for key in ("ending.weight", "ending.bias"):
        large[key] = torch.full_like(large[key], 3e38)
    save(tmp_path / "large.safetensors", large, METADATA)
    with pytest.raises(CheckpointError, match="infinities or NaN in float32"):
        quickly(tmp_path / "large.safetensors", path)


@pytest.mark.parametrize("key", ["intro.bias", "encoders.1.0.conv2.weight", "middle_blks.0.beta", "ups.1.0.weight"])
@pytest.mark.parametrize("backend", ["onnxruntime", "auto"])
def test_a_graph_that_is_another_function(
    weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch, key: str, backend: str
) -> None:
    right: Callable[..., Any] = nafnet.build_graph

    def wrong(weights: dict[str, NDArray[np.float32]], *rest: Any, **options: Any) -> Any:
        return right({**weights, key: weights[key] + np.float32(0.3)}, *rest, **options)

    monkeypatch.setattr(nafnet, "build_graph", wrong)
    with pytest.raises(BackendError, match=r"differs from torch by .* of the largest output"):
        quickly(weights, path, backend=backend)
    assert not path.exists()
