"""Networks of every kind that can be trained: what they learn, that a run of theirs goes on, and what it restores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

import mrs
from mrs import degradations
from mrs.building.made_for import MadeFor
from mrs.building.source import read_source
from mrs.export.architectures import load_checkpoint
from mrs.export.architectures.nafnet import NAFNetDenoising, NAFNetLatentBokeh, NAFNetLatentDehazing
from mrs.export.architectures.unet import ConditionalUNet
from mrs.export.checkpoint import read_checkpoint
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.runtime.errors import InputError
from mrs.runtime.psnr import psnr
from mrs.training import train
from mrs.training.objective import Objective
from mrs.training.train import Recipe
from tests.mrs.training.recipes import RECIPE, interrupt_at, refusal, state_of

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(60)]

GOLDEN = Path(__file__).parents[2] / "golden"
DENOISING = Schedule(max_sigma=75, eps=0.04, convention="ir-sde", interpolation="exact", process="denoising")
UNET = replace(RECIPE, arch=ConditionalUNet(4, (4, 8)), output="velocity")
BLIND_UNET = replace(
    UNET, arch=ConditionalUNet(4, (4, 8), condition=False), schedule=DENOISING, degradation="noise", output="noise"
)
BLIND_NAFNET = replace(BLIND_UNET, arch=NAFNetDenoising(4, (1,), 1, (1,)))
KINDS = {"unet": UNET, "unet, denoising": BLIND_UNET, "nafnet, denoising": BLIND_NAFNET}


def loss_of(net: Any, folder: Path, recipe: Recipe) -> float:
    """Of the same batches for every network."""
    pictures = train.load_pictures(folder, recipe.patch)
    objective = Objective(recipe.schedule, recipe.output, torch.device("cpu"))
    with torch.no_grad():
        batches = (train._batch(pictures, replace(recipe, batch=16, seed=9), index)[:4] for index in range(4))
        return float(torch.stack([objective(net, *map(torch.from_numpy, batch)).mean() for batch in batches]).mean())


@pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)
def test_the_loss_falls(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> None:
    monkeypatch.setattr(train, "WARM_UP", 10)
    longer = replace(recipe, iterations=120, learning_rate=3e-3, batch=4, ema=0.9)
    train.train(folder, tmp_path / "net.safetensors", longer)
    torch.manual_seed(0)
    before = loss_of(recipe.arch.module(), folder, recipe)
    assert loss_of(load_checkpoint(tmp_path / "net.safetensors"), folder, recipe) < 0.85 * before


@pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)
def test_bfloat16_trains_nearly_the_same(folder: Path, tmp_path: Path, recipe: Recipe) -> None:
    losses = []
    for bf16 in (False, True):
        rows: list[dict[str, Any]] = []
        made = replace(recipe, bf16=bf16, iterations=4)
        train.train(folder, tmp_path / "net.safetensors", made, report=rows.append)
        losses.append(rows[-1]["loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)
def test_an_interrupted_run_goes_on(folder: Path, tmp_path: Path, recipe: Recipe) -> None:
    straight, resumed = tmp_path / "straight.safetensors", tmp_path / "resumed.safetensors"
    train.train(folder, straight, recipe)
    with pytest.raises(KeyboardInterrupt):
        train.train(folder, resumed, recipe, report=interrupt_at(5))
    assert state_of(resumed)["iteration"] == 4
    train.train(folder, resumed, recipe, resume=True)
    assert resumed.read_bytes() == straight.read_bytes()
    # The weights are known as those of the network, which the recipe names.
    assert load_checkpoint(straight).arch == recipe.arch
    metadata = read_checkpoint(straight).metadata
    assert metadata["recipe"]["arch"]["architecture"] == recipe.arch.name
    assert Schedule(**metadata["schedule"]) == recipe.schedule
    assert read_source(straight, made_for=None if recipe.arch.condition else NOISY).arch == recipe.arch


NOISY = MadeFor(noise_sigma=25)


def test_the_state_of_another_network_is_refused(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    train.train(folder, output, replace(UNET, iterations=1))
    assert "another recipe: Recipe(arch=ConditionalUNet" in refusal(folder, output, RECIPE, resume=True).message


def test_what_takes_noise_away_sees_the_clean_picture_and_its_noise(folder: Path) -> None:
    pictures = train.load_pictures(folder, 16)
    clean, mu, _, _, tasks = train._batch(pictures, BLIND_UNET, 0)
    np.testing.assert_array_equal(clean, mu)
    assert set(tasks.tolist()) == {"noise"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arch": ConditionalUNet(4, (4, 8), condition=False)}, "is not told of the degraded picture is not for the m"),
        ({"arch": NAFNetDenoising(4, (1,), 1, (1,))}, "ConditionalNAFNet-denoising that is not told"),
        ({"schedule": DENOISING, "degradation": "noise"}, "is told of the degraded picture is not for the denoising"),
        ({"arch": NAFNetLatentDehazing(4, (1,), 1, (1,))}, "latent-dehazing for latents .* cannot be trained"),
        ({"arch": NAFNetLatentBokeh(4, (1,), 1, (1,))}, "latent-bokeh for latents .* cannot be trained"),
        ({"arch": ConditionalUNet(32, (32, 64), middle="transformer", context=8)}, "encoder's features cannot be"),
        ({"arch": ConditionalUNet(4, (4, 8), channels=1)}, "1 channels cannot be trained"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_networks_that_cannot_be_trained(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(RECIPE, **changes)


@pytest.mark.parametrize("changes", [{"output": "velocity"}, {"degradation": "rain"}], ids=str)
def test_the_denoising_process_learns_noise_alone(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the denoising process has no"):
        replace(BLIND_UNET, **changes)


# Weights that restore


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("task", "gain"), [("rain", 2.0), ("noise", 4.0)])
def test_tiny_unets_restore(tmp_path: Path, task: str, gain: float) -> None:
    """A picture that they were not trained on."""
    clean = data.astronaut()[60:124, 180:260]
    noise = {"noise_sigma": 25.0} if task == "noise" else {}
    if noise:
        drawn = np.random.default_rng(0).normal(0, 25, clean.shape)
        degraded = np.rint(np.clip(clean + drawn, 0, 255)).astype(np.uint8)
    else:
        degraded = degradations.get(task)(clean / np.float32(255), np.random.default_rng(0))
        degraded = np.rint(255 * degraded).astype(np.uint8)
    path = tmp_path / "unet.mrsplan"
    mrs.build(
        GOLDEN / f"unet_{task}.safetensors", path, size=(64, 80), solver=Solver(steps=4), backend="onnxruntime",
        precision="fp32", threads=1, **noise,
    )  # fmt: skip
    with mrs.load(path, threads=1) as restorer:
        restored = restorer.restore(degraded)
    assert psnr(restored, clean) > psnr(degraded, clean) + gain


def test_the_golden_weights_are_those_of_their_commands() -> None:
    for task, condition in (("rain", True), ("noise", False)):
        net = load_checkpoint(GOLDEN / f"unet_{task}.safetensors")
        assert net.arch == ConditionalUNet(8, (8, 16), condition=condition)
        assert all(torch.isfinite(value).all() for value in net.state_dict().values())
