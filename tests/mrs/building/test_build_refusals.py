"""Whatever cannot be built is told in one line and leaves no file; a plan that does not restore says so."""

from __future__ import annotations

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
        ({"size": (0, 8)}, "is not positive"),
        ({"size": (8, -8)}, "is not positive"),
        ({"size": (8,)}, "is not positive"),
        ({"batch": 0}, "is not positive"),
        ({"calibration": "/none/such"}, "calibration folder .* does not exist"),
        ({"solver": Solver(steps=1000, spacing="leading")}, "use fewer steps"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_that_are_wrong(weights: Path, path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        quickly(weights, path, **options)
    assert list(path.parent.iterdir()) == []


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
