"""Plans of super-resolution: built by preset or by --upscale, they enlarge as the published code does, then restore."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import mrs
from mrs.building.made_for import MadeFor
from mrs.building.source import read_source
from mrs.export.architectures import load_checkpoint
from mrs.numerics.schedule import Schedule
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError
from mrs.runtime.pictures.writing import read_picture
from mrs.runtime.plan import read_plan
from tests.golden.networks import weights as golden_weights
from tests.mrs.building.builds import SCHEDULE, SOLVER, quickly

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow(15)]


def by_torch(weights: Path, picture: np.ndarray, factor: int, seed: int) -> np.ndarray:
    net = load_checkpoint(weights)

    def denoise(x: Any, mu: Any, t: float) -> Any:
        with torch.no_grad():
            return net(torch.from_numpy(x), torch.from_numpy(mu), t).numpy()

    planes = torch.from_numpy(picture[None]).permute(0, 3, 1, 2) / 255
    mu = F.interpolate(planes, scale_factor=factor, mode="bicubic", align_corners=False).numpy()
    return mrs.sample(denoise, mu, tableau(SCHEDULE, SOLVER, "data"), seed=seed)[0].transpose(1, 2, 0)


def test_a_plan_that_enlarges(weights: Path, path: Path, run, tmp_path: Path) -> None:
    plan = quickly(weights, path, upscale=4, precision="fp32")
    assert plan.manifest["upscale"] == read_plan(path).facts.upscale == 4
    # Sizes are the large picture's.
    assert plan.facts.shape == (1, 8, 8)
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    expected = by_torch(weights, picture, 4, seed=4)
    with mrs.load(path, threads=1) as restorer:
        restored = restorer.restore(picture / np.float32(255), seed=4)
        levels = restorer.restore(picture, seed=4)
    assert restored.shape == levels.shape == (20, 28, 3)
    np.testing.assert_allclose(restored, np.clip(expected, 0, 1), rtol=0, atol=1e-4)
    assert "enlarged      4 times, bicubically" in run("inspect", path).out

    # A folder by the command line, with transparency, which becomes as large.
    folder = tmp_path / "small"
    folder.mkdir()
    alpha = np.full((5, 7), 255, np.uint8)
    alpha[:, :3] = 0
    Image.fromarray(picture).save(folder / "a.png")
    Image.fromarray(np.dstack([picture, alpha])).save(folder / "b.png")
    result = run("restore", path, folder, "-o", tmp_path / "large", "--seed", 4, "-q")
    assert result.code == 0, result.err
    np.testing.assert_array_equal(read_picture(tmp_path / "large" / "a.png").rgb, levels)
    with_alpha = read_picture(tmp_path / "large" / "b.png")
    assert with_alpha.alpha is not None
    assert with_alpha.alpha.shape == (20, 28)
    assert (with_alpha.alpha[:, :8] == 0).all()
    assert (with_alpha.alpha[:, 20:] == 255).all()


def test_a_plan_that_does_not_says_nothing_of_it(weights: Path, path: Path, run) -> None:
    assert "upscale" not in quickly(weights, path, upscale=1).manifest
    assert read_plan(path).facts.upscale == 1
    assert "enlarged" not in run("inspect", path).out


def test_a_preset_says_by_what(tmp_path: Path) -> None:
    published = golden_weights("nafnet_plain.pth", tmp_path)
    assert read_source(published, made_for=MadeFor(preset="refusion-sr")).upscale == 4
    assert read_source(published, made_for=MadeFor(preset="refusion-derain")).upscale == 1
    assert read_source(published, made_for=MadeFor(preset="refusion-sr", upscale=2)).upscale == 2
    assert read_source(published, Schedule()).upscale == 1


@pytest.mark.parametrize("upscale", [0, -1, 17, 2.5, True])
def test_what_cannot_be_an_upscale(weights: Path, upscale: Any) -> None:
    with pytest.raises(InputError, match=r"upscale .* is not a whole number from 1 to 16"):
        read_source(weights, made_for=MadeFor(upscale=upscale))


def test_noise_that_is_enlarged_is_refused(tmp_path: Path) -> None:
    noisy = golden_weights("nafnet_denoising.pth", tmp_path)
    with pytest.raises(InputError, match="no longer noise"):
        read_source(noisy, made_for=MadeFor(preset="refusion-denoise", upscale=2))


def test_the_command_line(weights: Path, path: Path, tmp_path: Path, run, refuse) -> None:
    flags = ("--size", "8x8", "--steps", 3, "--backend", "onnxruntime", "--threads", 1, "-q")
    built = run("build", weights, "-o", path, "--upscale", 2, *flags)
    assert built.code == 0, built.err
    assert read_plan(path).facts.upscale == 2
    refuse(
        "export", weights, "-o", tmp_path / "a.onnx", "--upscale", 2,
        says=("restores pictures at their size", "enlarge them first", "--upscale 1"),
    )  # fmt: skip
