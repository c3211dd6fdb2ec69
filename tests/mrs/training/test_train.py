"""Training: runs can be repeated and resumed exactly, and write down what they were."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrs import degradations
from mrs.export import checkpoint
from mrs.export.architectures import load_checkpoint
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.checkpoint import read_checkpoint
from mrs.numerics.schedule import Schedule
from mrs.training import train
from mrs.training.train import Recipe, load_pictures
from tests.mrs.training.recipes import RECIPE, interrupt_at, state_of

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(20)]


def test_seeded_runs_are_equal_and_others_differ(folder: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / f"{name}.safetensors" for name in ("first", "again", "other")]
    for index, (output, seed) in enumerate(zip(outputs, (1, 1, 2), strict=True)):
        torch.manual_seed(index)  # must not matter
        train.train(folder, output, replace(RECIPE, seed=seed))
    first, again, other = (output.read_bytes() for output in outputs)
    assert first == again
    states = [read_checkpoint(output).state for output in (outputs[0], outputs[2])]
    assert not torch.equal(states[0]["intro.weight"], states[1]["intro.weight"])
    assert first != other


def test_random_numbers_of_others_are_left_alone(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    train.train(folder, tmp_path / "net.safetensors", RECIPE)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("iteration", [5, 8, 9])
def test_a_run_resumed_after_an_interruption_equals_one_without(folder: Path, tmp_path: Path, iteration: int) -> None:
    straight, resumed = tmp_path / "straight.safetensors", tmp_path / "resumed.safetensors"
    train.train(folder, straight, RECIPE)
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        train.train(folder, resumed, RECIPE, report=interrupt_at(iteration))
    # Ctrl-C leaves what the last save wrote, usable.
    saved = 4 if iteration <= 8 else 8
    assert state_of(resumed)["iteration"] == saved
    assert read_checkpoint(resumed).metadata["iterations"] == saved
    assert resumed.read_bytes() != straight.read_bytes()
    assert set(threading.enumerate()) <= before
    rows: list[dict[str, Any]] = []
    train.train(folder, resumed, RECIPE, resume=True, report=rows.append)
    assert [row["iteration"] for row in rows] == list(range(saved + 1, 10))
    assert resumed.read_bytes() == straight.read_bytes()
    nets = [state_of(output)["net"] for output in (straight, resumed)]
    assert nets[0].keys() == nets[1].keys()
    assert all(torch.equal(value, nets[1][key]) for key, value in nets[0].items())


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("during", ["weights", "state"])
def test_an_interruption_while_saving(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    straight, resumed = tmp_path / "straight.safetensors", tmp_path / "resumed.safetensors"
    train.train(folder, straight, RECIPE)
    calls = []

    def half_written(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            if during == "state":
                arguments[1].write(b"half")
            raise KeyboardInterrupt
        original(*arguments)

    module, name = (checkpoint, "save") if during == "weights" else (torch, "save")
    original = getattr(module, name)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, half_written)
        with pytest.raises(KeyboardInterrupt):
            train.train(folder, resumed, RECIPE)
    assert state_of(resumed)["iteration"] == 4
    assert not list(tmp_path.glob(".*"))
    read_checkpoint(resumed)
    train.train(folder, resumed, RECIPE, resume=True)
    assert resumed.read_bytes() == straight.read_bytes()


def test_resuming_a_finished_run_writes_its_weights_again(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    train.train(folder, output, RECIPE)
    content = output.read_bytes()
    output.unlink()
    rows: list[dict[str, Any]] = []
    train.train(folder, output, RECIPE, resume=True, report=rows.append)
    assert output.read_bytes() == content
    assert rows == []


def test_loss_falls(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "WARM_UP", 10)
    monkeypatch.setattr(train, "LOG_EVERY", 25)
    rows: list[dict[str, Any]] = []
    recipe = replace(RECIPE, arch=NAFNet(8, (1,), 1, (1,)), iterations=150, learning_rate=3e-3, batch=8)
    train.train(folder, tmp_path / "net.safetensors", recipe, report=rows.append)
    assert [row["iteration"] for row in rows] == [25, 50, 75, 100, 125, 150]
    assert rows[-1]["loss"] < 0.75 * rows[0]["loss"]


def test_losses_by_task(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "LOG_EVERY", 2)
    monkeypatch.setattr(train, "TASKS_EVERY", 4)
    recipe = replace(RECIPE, degradation="mixed", batch=30, iterations=8)
    rows: list[dict[str, Any]] = []
    train.train(folder, tmp_path / "net.safetensors", recipe, report=rows.append)
    assert ["tasks" in row for row in rows] == [False, True, False, True]
    pictures = load_pictures(folder, 16)
    for row, earlier, first in ((rows[1], rows[0], 0), (rows[3], rows[2], 4)):
        assert set(row["tasks"]) == set(degradations.TASKS)
        drawn = [task for i in range(first, first + 4) for task in train._batch(pictures, recipe, i)[4].tolist()]
        whole = sum(row["tasks"][task] for task in drawn) / len(drawn)
        assert whole == pytest.approx((row["loss"] + earlier["loss"]) / 2, rel=1e-4)
    rows.clear()
    train.train(folder, tmp_path / "net.safetensors", replace(recipe, degradation="rain"), report=rows.append)
    assert not any("tasks" in row for row in rows)


def test_a_velocity_network_is_built_as_one(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    train.train(folder, output, replace(RECIPE, output="velocity"))
    velocity = output.read_bytes()
    assert read_checkpoint(output).metadata["output"] == "velocity"
    train.train(folder, output, RECIPE)
    assert read_checkpoint(output).metadata["output"] == "noise"
    assert output.read_bytes() != velocity


def test_bfloat16_trains_nearly_the_same(folder: Path, tmp_path: Path) -> None:
    losses = []
    for bf16 in (False, True):
        rows: list[dict[str, Any]] = []
        train.train(folder, tmp_path / "net.safetensors", replace(RECIPE, bf16=bf16), report=rows.append)
        losses.append(rows[-1]["loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_rate_warms_up_and_decays_to_a_hundredth() -> None:
    recipe = replace(RECIPE, iterations=4000, learning_rate=1e-3)
    rates = [train._rate(recipe, iteration) for iteration in range(4000)]
    assert rates[0] == pytest.approx(1e-3 / train.WARM_UP)
    top = rates.index(max(rates))
    assert top == train.WARM_UP - 1
    assert all(np.diff(rates[:top]) > 0)
    assert all(np.diff(rates[top:]) < 0)
    assert rates[-1] == pytest.approx(1e-5, rel=0.01)


@pytest.mark.usefixtures("often")
def test_the_average_follows_its_decay(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    train.train(folder, output, replace(RECIPE, ema=0.0))
    weights = read_checkpoint(output).state
    for key, value in state_of(output)["net"].items():
        assert torch.equal(weights[key], value)

    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    recipe = replace(RECIPE, ema=0.15)
    with pytest.raises(KeyboardInterrupt):
        train.train(folder, first, recipe, report=interrupt_at(5))
    before = state_of(first)["average"]
    with pytest.raises(KeyboardInterrupt):
        train.train(folder, second, recipe, report=interrupt_at(6), save_every=5)
    after = state_of(second)
    for key, value in after["net"].items():
        torch.testing.assert_close(after["average"][key], 0.15 * before[key] + 0.85 * value, rtol=1e-6, atol=1e-7)


def test_a_resumed_run_may_compute_otherwise(folder: Path, tmp_path: Path) -> None:
    """A run that began on one machine goes on upon another, with bfloat16 or without."""
    output = tmp_path / "net.safetensors"
    train.train(folder, output, RECIPE)
    train.train(folder, output, replace(RECIPE, bf16=True, iterations=RECIPE.iterations + 1), resume=True)
    assert read_checkpoint(output).metadata["recipe"]["bf16"] is True
    assert state_of(output)["iteration"] == RECIPE.iterations + 1


def test_resuming_with_another_number_of_iterations(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    train.train(folder, output, RECIPE)
    before = output.read_bytes()
    rows: list[dict[str, Any]] = []
    longer = replace(RECIPE, iterations=RECIPE.iterations + 2)
    train.train(folder, output, longer, resume=True, report=rows.append)
    assert [row["iteration"] for row in rows] == [longer.iterations]
    assert read_checkpoint(output).metadata["iterations"] == longer.iterations
    assert output.read_bytes() != before


def test_metadata_rebuild_schedule_and_recipe(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    schedule = Schedule("linear", 30.0, 0.01, 50, "mr-sampler")
    train.train(folder, output, replace(RECIPE, schedule=schedule))
    metadata = read_checkpoint(output).metadata
    assert Schedule(**metadata["schedule"]) == schedule
    assert metadata["output"] == "noise"
    assert metadata["iterations"] == 9
    described = asdict(replace(RECIPE, schedule=schedule))
    del described["schedule"], described["output"]
    described["arch"] |= {key: list(described["arch"][key]) for key in ("enc_blocks", "dec_blocks")}
    described["arch"]["architecture"] = "ConditionalNAFNet"
    assert metadata["recipe"] == described


def test_weights_load_as_a_network(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    train.train(str(folder), str(output), RECIPE)
    net = load_checkpoint(output)
    assert net.arch == RECIPE.arch
    with torch.no_grad():
        assert net(torch.rand(1, 3, 7, 9), torch.rand(1, 3, 7, 9), 50).shape == (1, 3, 7, 9)
    average = state_of(output)["average"]
    for key, value in net.state_dict().items():
        assert torch.equal(value, average[key])


def test_the_default_recipe_is_the_shipped_one() -> None:
    recipe = Recipe()
    assert recipe.arch == NAFNet(16, (1, 1, 1, 4), 1, (1, 1, 1, 1))
    assert (recipe.schedule.max_sigma, recipe.schedule.convention) == (10, "ir-sde")
    assert recipe.patch % recipe.arch.multiple == 0
