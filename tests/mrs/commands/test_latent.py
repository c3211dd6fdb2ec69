"""Refusion's latent pairs on the command line: built, described, restored with; refused where they have no place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mrs
from tests.golden.networks import weights

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow(10)]


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    return weights("latent_chain_nafnet.pth", folder), weights("latent_unet.pth", folder)


def test_build_inspect_restore(run: Any, refuse: Any, pair: tuple[Path, Path], picture: Path, tmp_path: Path) -> None:
    plan = tmp_path / "dehaze.mrsplan"
    built = run(
        "build", pair[0], "--autoencoder", pair[1], "--preset", "refusion-dehaze", "--steps", 2, "--size", "20x24",
        "--backend", "onnxruntime", "--threads", 1, "-o", plan,
    )  # fmt: skip
    assert built.code == 0, built.err
    lines = run("inspect", plan).out.splitlines()
    for line in (
        "preset        refusion-dehaze",
        "network       ConditionalNAFNet-latent-dehazing width 8, blocks 1,2 / 1 / 1,1",
        "latent        widths 8, 8, 16, 16, latents of 4 channels",
        "compiled for  8x8 latents of 32x32, batch 1, 1 threads",
    ):
        assert line in lines
    assert any(line.startswith("autoencoder   latent_unet.pth  sha256 3820441533304") for line in lines)
    assert run("restore", plan, picture, "-o", tmp_path / "out.png", "--threads", 1).code == 0
    given = np.asarray(Image.open(picture).convert("RGB"))
    with mrs.load(plan, threads=1) as restorer:
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), restorer.restore(given))
    refuse(
        "restore", plan, picture, "-o", tmp_path / "b.png", "--tile", 8, says="latents are made of whole pictures, not"
    )
    refuse("deploy", plan, "-o", tmp_path / "models", says="restores latents, which no server is given yet")
    refuse("tune", plan, "--evaluations", 2, "-o", tmp_path / "a.json", says="solvers are not tuned on latents")
    bench = run("bench", plan, "--seconds", 1, "--processes", 0, "--threads", 1)
    assert bench.code == 0, bench.err
    assert "2 evaluations at 32x32" in bench.out
    for part in ("encode", "network", "decode", "finish"):
        assert f"{part} " in bench.out


def test_where_a_pair_has_no_place(refuse: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    network, autoencoder = pair
    told = ("--autoencoder", autoencoder)
    refuse(
        "build", network, "-o", tmp_path / "a.mrsplan", says=("restores latents of 4 channels", "--autoencoder FILE")
    )
    refuse(
        "build", autoencoder, "-o", tmp_path / "a.mrsplan", says=("is the autoencoder of a latent pair", "give the net")
    )
    refuse("export", network, "-o", tmp_path / "a.onnx", says=("restores latents of 4 channels", "--autoencoder FILE"))
    refuse("deploy", network, *told, "-o", tmp_path / "models", says="plans for latents are given to no server yet")
    refuse("tune", network, "--evaluations", 2, "-o", tmp_path / "a.json", says="restores latents of 4 channels")
    refuse("build", network, *told, "--lens", "1,2", "-o", tmp_path / "a.mrsplan", says="is not SOURCE,WANTED,DISPARI")
    refuse("build", network, *told, "--lens=-18,160,3", "-o", tmp_path / "a.mrsplan", says="is told of no lenses")
    refuse("build", network, *told, "--device", "cuda", "-o", tmp_path / "a.mrsplan", says="cuda")
