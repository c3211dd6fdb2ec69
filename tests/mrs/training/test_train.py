"""Training: the objective is the published one, runs can be repeated and resumed exactly, and errors come early."""

from __future__ import annotations

import math
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from mrs import degradations
from mrs.export import checkpoint
from mrs.export.architectures import load_checkpoint
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.checkpoint import read_checkpoint
from mrs.numerics.schedule import CONVENTIONS, KINDS, Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError
from mrs.training import train
from mrs.training.objective import Objective
from mrs.training.train import Recipe, load_pictures

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(25)]

RECIPE = Recipe(arch=NAFNet(4, (1,), 1, (1,)), iterations=9, batch=2, patch=16, bf16=False, seed=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photographs, one of them in a folder of its own."""
    path = tmp_path / "clean"
    (path / "more").mkdir(parents=True)
    Image.fromarray(data.astronaut()[60:110, 200:260]).save(path / "a.png")
    Image.fromarray(data.coffee()[100:140, 200:216]).save(path / "more" / "b.PNG")
    return path


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report after every iteration, save after every fourth."""
    monkeypatch.setattr(train, "LOG_EVERY", 1)
    real = train.train
    monkeypatch.setattr(train, "train", lambda *arguments, **options: real(*arguments, **{"save_every": 4, **options}))


def interrupt_at(iteration: int) -> Any:
    def report(row: dict[str, Any]) -> None:
        if row["iteration"] == iteration:
            raise KeyboardInterrupt

    return report


def state_of(output: Path) -> dict[str, Any]:
    return torch.load(output.with_name(output.name + ".state"), weights_only=True)


# The objective

SCHEDULES = [Schedule(kind, 10.0, convention=convention) for kind in KINDS for convention in CONVENTIONS]


def posterior_mean(schedule: Schedule, t: int) -> tuple[float, float]:
    """Weights of x_t - mu and x0 - mu in the mean of x_{t-1} - mu, by multiplying the two Gaussians, in float64."""
    if t == 1 and schedule.convention == "ir-sde":
        return 0.0, 1.0
    a, s = (float(f(t - 1)) for f in (schedule.alpha, schedule.sigma))
    ratio = float(schedule.alpha(t)) / a
    prior, likelihood = 1 / s**2, ratio**2 / (schedule.S**2 * (1 - ratio**2))
    total = prior + likelihood
    return likelihood / ratio / total, prior * a / total


def expected_loss(schedule: Schedule, t: int, x0: float, mu: float, z: float, f: float) -> float:
    a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
    x = mu + a * (x0 - mu) + s * z
    of_state, of_clean = posterior_mean(schedule, t)
    optimum = mu + of_state * (x - mu) + of_clean * (x0 - mu)
    # dx = theta (mu - x) dt - 2 theta S^2 score dt, backwards from t, where theta dt is the fall of log a.
    step = (math.log(schedule.alpha(t - 1)) if t > 1 or schedule.convention == "mr-sampler" else 0.0) - math.log(a)
    mean = x - (step * (mu - x) - 2 * step * schedule.S**2 * (-f / s))
    return abs(mean - optimum)


def constants(shape: tuple[int, ...], *values: float) -> list[torch.Tensor]:
    return [torch.full(shape, value) for value in values]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s.kind} {s.convention}")
@pytest.mark.parametrize("t", [1, 2, 7, 50, 99, 100])
def test_loss_is_the_published_one(schedule: Schedule, t: int) -> None:
    objective = Objective(schedule, "noise", torch.device("cpu"))
    for x0, mu, z, f in [(0.9, 0.2, 0.7, -0.4), (0.1, 0.6, -1.5, 2.0), (0.5, 0.5, 0.0, 1.0)]:
        clean, degraded, noise = constants((1, 3, 2, 2), x0, mu, z)
        predicted = torch.full_like(clean, f)
        (loss,) = objective(lambda *_, predicted=predicted: predicted, clean, degraded, torch.tensor([t]), noise)
        expected = expected_loss(schedule, t, x0, mu, z, f)
        assert float(loss) == pytest.approx(expected, rel=1e-4, abs=3e-7)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s.kind} {s.convention}")
def test_loss_is_least_where_the_step_is_optimal(schedule: Schedule) -> None:
    torch.manual_seed(0)
    clean, mu, noise = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    t = torch.tensor([1, 5, 30, 60, 100])
    objective = Objective(schedule, "noise", torch.device("cpu"))

    def at(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)[:, None, None, None]

    weights = [posterior_mean(schedule, int(time)) for time in t]
    of_state, of_clean = at([a for a, _ in weights]), at([b for _, b in weights])
    a, s = at(schedule.alpha(t.numpy()).tolist()), at(schedule.sigma(t.numpy()).tolist())
    step = at((schedule.theta[t.numpy()] * schedule.dt).tolist())
    y0, z = (clean - mu).double(), noise.double()
    y = a * y0 + s * z
    # Solved for the output: the reverse step's mean equals the optimum.
    best = ((1 + step - of_state) * y - of_clean * y0) * s / (2 * step * schedule.S**2)

    def loss(off: float) -> float:
        return float(objective(lambda x, mu, t: (best + off).float(), clean, mu, t, noise).mean())

    assert loss(0.0) < 1e-6
    assert 0 < 10 * loss(0.0) < loss(0.01) < loss(0.1) < loss(1.0)
    assert loss(-1.0) == pytest.approx(loss(1.0), rel=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s.kind} {s.convention}")
def test_velocity_is_what_a_restore_takes_it_for(schedule: Schedule) -> None:
    """Where the loss is 0, a table for velocity finds x0, at any time; and an error of x0 counts S / s times."""
    torch.manual_seed(0)
    clean, mu, noise = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    t = torch.tensor([1, 5, 30, 60, 100])
    objective = Objective(schedule, "velocity", torch.device("cpu"))
    seen: list[torch.Tensor] = []
    zero = torch.zeros_like(clean)
    # What is missed by an answer of zero is the right answer, up to its sign.
    objective(lambda x, mu, t: seen.append(x) or zero, clean, mu, t, noise)
    for index, time in enumerate(t.tolist()):
        a, s = float(schedule.alpha(time)), float(schedule.sigma(time))
        solver = Solver(method="posterior", order=1, steps=1, spacing="custom", times=(float(time), 0.0))
        row = tableau(schedule, solver, output="velocity").rows[0]
        x = seen[0][index]
        right = (a * x + (1 - a) * mu[index] - clean[index]) / (s / schedule.S)
        found = row.cx * x + row.cm * mu[index] + row.cf * right
        torch.testing.assert_close(found, clean[index], rtol=0, atol=2e-5)
        answers = torch.zeros_like(clean)
        answers[index] = right + 0.01
        losses = objective(lambda *_, answers=answers: answers, clean, mu, t, noise)
        assert float(losses[index]) == pytest.approx(0.01, rel=0.02)
        assert losses.shape == (5,)


def test_the_network_is_given_state_condition_and_time() -> None:
    schedule = Schedule(max_sigma=10, convention="ir-sde")
    seen = {}

    def net(x: torch.Tensor, mu: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.update(x=x, mu=mu, t=t)
        return torch.zeros_like(x)

    clean, mu, noise = constants((2, 3, 1, 1), 0.8, 0.3, 1.0)
    Objective(schedule, "noise", torch.device("cpu"))(net, clean, mu, torch.tensor([1, 100]), noise)
    for index, t in enumerate((1, 100)):
        expected = 0.3 + float(schedule.alpha(t)) * 0.5 + float(schedule.sigma(t))
        assert seen["x"][index].mean() == pytest.approx(expected, rel=1e-6)
    assert torch.equal(seen["mu"], mu)
    assert seen["t"].tolist() == [1.0, 100.0]


# Batches


def test_batch_is_made_of_the_pictures_and_their_degradation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(degradations.DEGRADATIONS, "half", lambda picture, rng: picture / 2)
    pictures = load_pictures(folder, 16)
    recipe = replace(RECIPE, degradation="half", batch=40)
    clean, mu, t, noise, tasks = train._batch(pictures, recipe, 3)
    assert tasks.tolist() == ["half"] * 40
    assert clean.shape == mu.shape == noise.shape == (40, 3, 16, 16)
    assert clean.dtype == mu.dtype == noise.dtype == np.float32
    np.testing.assert_array_equal(mu, clean / 2)
    assert 0 <= clean.min() < clean.max() <= 1
    crops = {
        crop.tobytes()
        for picture in pictures
        for y in range(picture.shape[0] - 15)
        for x in range(picture.shape[1] - 15)
        for crop in (picture[y : y + 16, x : x + 16], picture[y : y + 16, x : x + 16][:, ::-1])
    }
    for patch in clean:
        assert np.rint(255 * patch.transpose(1, 2, 0)).astype(np.uint8).tobytes() in crops
    assert t.shape == (40,)
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


def test_a_mixed_batch_knows_what_was_done_to_each(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for level, name in enumerate(degradations.TASKS):
        monkeypatch.setitem(
            degradations.DEGRADATIONS, name, lambda picture, rng, level=level: np.full_like(picture, level / 10)
        )
    pictures = load_pictures(folder, 16)
    _, mu, _, _, tasks = train._batch(pictures, replace(RECIPE, degradation="mixed", batch=60), 0)
    names = list(degradations.TASKS)
    assert set(tasks.tolist()) == set(names)
    for patch, task in zip(mu, tasks.tolist(), strict=True):
        assert patch.max() == np.float32(names.index(task) / 10)


def test_a_drawn_task_goes_on_with_the_same_numbers() -> None:
    picture = data.astronaut()[60:90, 200:240].astype(np.float32) / np.float32(255)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        degraded = degradations.get(degradations.draw("mixed", rng))(picture, rng)
        expected = degradations.get("mixed")(picture, np.random.default_rng(seed))
        np.testing.assert_array_equal(degraded, expected)


def test_all_times_are_drawn_but_0(folder: Path) -> None:
    recipe = replace(RECIPE, schedule=Schedule(T=5), batch=20)
    pictures = load_pictures(folder, 16)
    times = np.concatenate([train._batch(pictures, recipe, iteration)[2] for iteration in range(10)])
    assert set(times.tolist()) == {1, 2, 3, 4, 5}


def test_batches_depend_on_seed_and_iteration_alone(folder: Path) -> None:
    pictures = load_pictures(folder, 16)
    from_start = dict(train._batches(pictures, RECIPE, 0))
    assert list(from_start) == list(range(9))
    for iteration, batch in train._batches(pictures, RECIPE, 5):
        for part, again in zip(from_start[iteration], batch, strict=True):
            np.testing.assert_array_equal(part, again)
    assert not np.array_equal(from_start[0][3], from_start[1][3])
    assert not np.array_equal(from_start[0][3], train._batch(pictures, replace(RECIPE, seed=2), 0)[3])


# Runs


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


# What is written


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


# Refusals


def refusal(*arguments: Any, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        train.train(*arguments, **options)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_resumed_run_may_compute_otherwise(folder: Path, tmp_path: Path) -> None:
    """A run that began on one machine goes on upon another, with bfloat16 or without."""
    output = tmp_path / "net.safetensors"
    train.train(folder, output, RECIPE)
    train.train(folder, output, replace(RECIPE, bf16=True, iterations=RECIPE.iterations + 1), resume=True)
    assert read_checkpoint(output).metadata["recipe"]["bf16"] is True
    assert state_of(output)["iteration"] == RECIPE.iterations + 1


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


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "list", "weights"])
def test_resuming_a_damaged_state(folder: Path, tmp_path: Path, damage: str) -> None:
    output = tmp_path / "net.safetensors"
    train.train(folder, output, RECIPE)
    state = tmp_path / "net.safetensors.state"
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:3000])
    elif damage in {"empty", "text"}:
        state.write_text("" if damage == "empty" else "no state")
    else:
        torch.save([] if damage == "list" else read_checkpoint(output).state, state)
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


def test_grey_of_16_bits_is_scaled(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    levels = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "clean" / "a.png")
    (picture,) = load_pictures(tmp_path / "clean", 16)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.rint(levels / 257).astype(np.uint8)[..., None].repeat(3, 2))


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


def test_the_default_recipe_is_the_shipped_one() -> None:
    recipe = Recipe()
    assert recipe.arch == NAFNet(16, (1, 1, 1, 4), 1, (1, 1, 1, 1))
    assert (recipe.schedule.max_sigma, recipe.schedule.convention) == (10, "ir-sde")
    assert recipe.patch % recipe.arch.multiple == 0
