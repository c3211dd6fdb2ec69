"""What appears while a command works is not replaced without --overwrite."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow(4)

OTHERS = b"another's"


@pytest.fixture
def appear(monkeypatch: pytest.MonkeyPatch):
    """Let a file appear when a function is called that a command calls on its way."""

    def arrange(where: str, path: Path) -> None:
        module, _, name = where.rpartition(".")
        holder = importlib.import_module(module)
        original = getattr(holder, name)

        def first(*arguments: object, **options: object) -> object:
            path.write_bytes(OTHERS)
            return original(*arguments, **options)

        monkeypatch.setattr(holder, name, first)

    return arrange


def refused(result, path: Path) -> None:
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith(f"error: {path} exists; hint: pass --overwrite")
    assert path.read_bytes() == OTHERS
    assert not list(path.parent.glob(".*"))


def test_a_result_of_restore(run, plan, picture, tmp_path, appear) -> None:
    out = tmp_path / "out.png"
    appear("mrs.runtime.pictures.writing._encode", out)
    refused(run("restore", plan, picture, "-o", out), out)


@pytest.mark.usefixtures("quick")
def test_a_tuned_solver(run, plan, tmp_path, appear) -> None:
    out = tmp_path / "out.json"
    appear("mrs.tuning.search.tune", out)
    refused(run("tune", plan, "-o", out, "-q", "--evaluations", 2, "--crop", 8, "--seconds", 1, "--no-fit"), out)


@pytest.mark.usefixtures("quick")
def test_one_file_for_any_engine(run, golden, tmp_path, appear) -> None:
    out = tmp_path / "out.onnx"
    appear("mrs.building.onnx_sampler.build_sampler", out)
    refused(run("export", golden.weights, "-o", out, "-q"), out)


@pytest.mark.usefixtures("one_thread")
def test_trained_weights(run, pictures, tmp_path, appear) -> None:
    out = tmp_path / "out.safetensors"
    appear("mrs.training.train._batch", out)
    tiny = ["--width", 4, "--enc", 1, "--dec", 1, "--patch", 8, "--no-bf16", "--iterations", 1, "--batch", 1]
    refused(run("train", pictures, "-o", out, *tiny), out)


def test_a_state_of_training_that_is_there(refuse, pictures, tmp_path) -> None:
    """Hours of work, beside weights that were moved away."""
    (tmp_path / "out.safetensors.state").write_bytes(OTHERS)
    refuse("train", pictures, "-o", tmp_path / "out.safetensors", says=("out.safetensors.state exists", "--resume"))
