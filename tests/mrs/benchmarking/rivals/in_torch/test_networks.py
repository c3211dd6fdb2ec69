"""Networks that need more than a picture and a time: eager restores as their plans do, or says what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrs
from mrs.benchmarking.rivals import Companions, float32_reference, judge, rivals
from mrs.runtime.errors import CheckpointError, InputError
from mrs.runtime.plan import read_plan
from tests.golden.networks import weights

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow(12)]

SIZE = (2, 20, 24)


@pytest.fixture
def built(tmp_path: Path) -> Any:
    def build(name: str, **options: Any) -> tuple[Path, Path]:
        network = weights(name, tmp_path)
        solver = mrs.Solver("ode", 1, steps=2)
        mrs.build(
            network, tmp_path / "a.mrsplan", size=SIZE[1:], solver=solver, backend="onnxruntime", precision="fp32",
            threads=1, **options,
        )  # fmt: skip
        return tmp_path / "a.mrsplan", network

    return build


def eager(plan: Path, network: Path, companions: Companions) -> None:
    """Restores, and passes; results are grey enough to tell."""
    pictures = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    with rivals(["eager"], plan, network, SIZE, 1, companions=companions) as (rival,):
        result = rival.run(pictures)
    reference = float32_reference(read_plan(plan), pictures, 1)
    assert judge(rival, result, reference).passes
    assert np.abs(result - reference.astype(int)).max() <= 1
    assert len(np.unique(result)) > 10


def refused(plan: Path, network: Path, companions: Companions, says: str) -> None:
    with pytest.raises((CheckpointError, InputError), match=says), rivals(
        ["eager"], plan, network, SIZE, 1, companions=companions
    ):  # fmt: skip
        pass


def test_features_of_an_encoder(built: Any, tmp_path: Path) -> None:
    encoder, other = weights("daclip_encoder_b.pt", tmp_path), weights("daclip_encoder_a.pt", tmp_path)
    plan, network = built("daclip_unet_degra.pth", encoder=encoder, schedule=mrs.Schedule(max_sigma=50))
    eager(plan, network, Companions(encoder=encoder))
    refused(plan, network, Companions(), "is told 16 features|give the encoder's checkpoint too")
    refused(plan, network, Companions(encoder=other), "encoder|features|other weights")


def test_noise_is_taken_away(built: Any) -> None:
    plan, network = built("nafnet_denoising.pth", preset="refusion-denoise", noise_sigma=25)
    eager(plan, network, Companions())
    notes: list[str] = []
    with rivals(["published"], plan, network, SIZE, 1, note=notes.append) as found:
        assert found == []
    assert notes == [
        "rival published left out: no posterior sampler is published for the process that takes noise away"
    ]  # fmt: skip


def test_latents(built: Any, tmp_path: Path) -> None:
    autoencoder = weights("latent_unet.pth", tmp_path)
    plan, network = built("latent_chain_nafnet.pth", autoencoder=autoencoder, preset="refusion-dehaze")
    eager(plan, network, Companions(autoencoder=autoencoder))
    refused(plan, network, Companions(), "autoencoder")
    with rivals(["onnxruntime", "openvino", "backend:openvino"], plan, None, SIZE, 1) as found:
        assert [rival.name for rival in found] == ["onnxruntime", "openvino", "backend:openvino"]
        for rival in found[:2]:
            rival.evaluate()


def test_attention_and_mirrored_margins(built: Any) -> None:
    plan, network = built("irsde_unet_d2.pth", preset="irsde-derain")
    eager(plan, network, Companions())
