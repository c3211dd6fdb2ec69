"""What cannot be trained is refused in one line, before any work."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from mrs import degradations
from mrs.export.architectures import load_checkpoint
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.checkpoint import read_checkpoint
from mrs.numerics.schedule import Schedule
from mrs.runtime.errors import InputError
from mrs.training import train
from mrs.training.train import load_pictures
from tests.mrs.training.recipes import RECIPE, refusal, state_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_resuming_another_recipe(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    train.train(folder, output, RECIPE)
    content = output.read_bytes()
    others: list[dict[str, Any]] = [
        {"seed": 2},
        {"output": "velocity"},
        {"schedule": Schedule()},
        {"learning_rate": 1e-4},
        {"arch": NAFNet(4, (1,), 2, (1,))},
    ]
    for other in others:
        error = refusal(folder, output, replace(RECIPE, **other), resume=True)
        assert "another recipe" in error.message
        assert "seed=1" in error.message
        assert "same options" in error.hint
    assert output.read_bytes() == content


def test_resuming_past_the_iterations_asked_for(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    train.train(folder, output, RECIPE)
    error = refusal(folder, output, replace(RECIPE, iterations=1), resume=True)
    assert f"at iteration {RECIPE.iterations}, past the 1" in error.message
    assert "more iterations" in error.hint


def test_resuming_without_a_state(folder: Path, tmp_path: Path) -> None:
    error = refusal(folder, tmp_path / "net.safetensors", RECIPE, resume=True)
    assert "net.safetensors.state does not exist" in error.message
    assert "without --resume" in error.hint
    assert list(tmp_path.iterdir()) == [folder]


def test_resuming_a_damaged_state(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    train.train(folder, output, RECIPE)
    state = tmp_path / "net.safetensors.state"
    whole, weights = state.read_bytes(), read_checkpoint(output).state
    for damage in (
        lambda: state.write_bytes(whole[:3000]),
        lambda: state.write_text(""),
        lambda: state.write_text("no state"),
        lambda: torch.save([], state),
        lambda: torch.save(weights, state),
    ):
        damage()
        error = refusal(folder, output, RECIPE, resume=True)
        assert f"{state} is not a readable training state" in error.message
        assert "without --resume" in error.hint


def test_missing_folder(tmp_path: Path) -> None:
    error = refusal(tmp_path / "absent", tmp_path / "net.safetensors", RECIPE)
    assert f"{tmp_path / 'absent'} does not exist" in error.message


def test_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean" / "notes.txt").write_text("no picture")
    (tmp_path / "clean" / "folder.png").mkdir()
    assert f"{tmp_path / 'clean'} holds no picture" in refusal(tmp_path / "clean", tmp_path / "n.safetensors").message


def test_pictures_that_are_too_small(folder: Path, tmp_path: Path) -> None:
    assert [picture.shape for picture in load_pictures(folder, 16)] == [(50, 60, 3), (40, 16, 3)]
    assert [picture.shape for picture in load_pictures(folder, 18)] == [(50, 60, 3)]
    error = refusal(folder, tmp_path / "net.safetensors", replace(RECIPE, patch=52))
    assert "no picture of at least 52x52 pixels" in error.message


def test_a_picture_as_large_as_the_patch(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    Image.fromarray(data.astronaut()[:16, :16]).save(tmp_path / "clean" / "a.png")
    train.train(tmp_path / "clean", tmp_path / "net.safetensors", replace(RECIPE, iterations=2))
    read_checkpoint(tmp_path / "net.safetensors")


@pytest.mark.parametrize("content", [b"", b"no picture", "cut"], ids=["empty", "text", "cut"])
def test_an_unreadable_picture_is_named(folder: Path, tmp_path: Path, content: bytes | str) -> None:
    path = folder / "more" / "bad.png"
    path.write_bytes((folder / "a.png").read_bytes()[:900] if isinstance(content, str) else content)
    error = refusal(folder, tmp_path / "net.safetensors", RECIPE)
    assert str(path) in error.message
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("output", ["net.pth", "net", "absent/net.safetensors"])
def test_bad_outputs_are_refused_before_any_work(folder: Path, tmp_path: Path, output: str) -> None:
    (folder / "bad.png").write_bytes(b"would be refused on reading")
    assert output in refusal(folder, tmp_path / output, RECIPE).message


def test_saving_never_is_refused(folder: Path, tmp_path: Path) -> None:
    assert "save_every 0" in refusal(folder, tmp_path / "net.safetensors", save_every=0).message


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "xla", ""])
def test_unknown_device(folder: Path, tmp_path: Path, device: str) -> None:
    error = refusal(folder, tmp_path / "net.safetensors", RECIPE, device=device)
    assert repr(device) in error.message
    assert "cpu" in error.hint


@pytest.mark.usefixtures("often")
def test_a_loss_that_is_no_number_keeps_the_last_good_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        calls.append(1)
        return picture * (math.nan if len(calls) > 5 * RECIPE.batch else 1)

    calls: list[int] = []
    monkeypatch.setitem(degradations.DEGRADATIONS, "spoilt", spoilt)
    error = refusal(folder, tmp_path / "net.safetensors", replace(RECIPE, degradation="spoilt"))
    assert "the loss is nan at iteration 6" in error.message
    assert "learning rate" in error.hint
    assert state_of(tmp_path / "net.safetensors")["iteration"] == 4
    load_checkpoint(tmp_path / "net.safetensors")


def test_errors_of_a_degradation_come_out(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        raise ZeroDivisionError

    monkeypatch.setitem(degradations.DEGRADATIONS, "broken", broken)
    with pytest.raises(ZeroDivisionError):
        train.train(folder, tmp_path / "net.safetensors", replace(RECIPE, degradation="broken"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"degradation": "hail"}, "degradation 'hail'"),
        ({"output": "data"}, "output 'data' cannot be trained"),
        ({"iterations": 0}, "iterations 0"),
        ({"batch": -1}, "batch -1"),
        ({"patch": 0}, "patch 0"),
        ({"patch": 15}, "patch 15 is not a multiple of 2"),
        ({"learning_rate": 0}, "learning rate 0"),
        ({"learning_rate": 1}, "learning rate 1"),
        ({"learning_rate": math.nan}, "learning rate nan"),
        ({"ema": 1}, "ema 1"),
        ({"ema": -0.1}, "ema -0.1"),
        ({"ema": math.nan}, "ema nan"),
        ({"seed": -1}, "seed -1"),
        ({"arch": NAFNet(4, (1,), 1, (1,), channels=1)}, "1 channels"),
    ],
    ids=str,
)
def test_recipes_that_cannot_be_trained(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        replace(RECIPE, **arguments)
