"""Published checkpoints, which say nothing of themselves, become plans by what the caller says."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrs
from mrs.building.made_for import MadeFor, check_encoder
from mrs.building.source import read_source
from mrs.export.architectures.clip import EncoderWeights
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.runtime.errors import CheckpointError, InputError, MrsError

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(20)]

GOLDEN = Path(__file__).parents[2] / "golden" / "networks"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The path of a published checkpoint, unpacked."""
    folder = tmp_path_factory.mktemp("published")

    def unpacked(name: str) -> Path:
        path = folder / name
        if not path.exists():
            if (GOLDEN / name).exists():
                return GOLDEN / name
            with gzip.open(GOLDEN / f"{name}.gz") as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file)
        return path

    return unpacked


def test_a_preset_gives_the_process(published: Any) -> None:
    source = read_source(published("nafnet_plain.pth"), made_for=MadeFor(preset="refusion-derain"))
    assert source.schedule == Schedule(max_sigma=50, convention="ir-sde")
    assert source.preset == "refusion-derain"
    # What the caller says himself stands above it.
    own = Schedule(max_sigma=30, convention="ir-sde")
    assert read_source(published("nafnet_plain.pth"), own, made_for=MadeFor(preset="refusion-derain")).schedule == own


@pytest.mark.parametrize(
    ("name", "said", "error"),
    [
        ("nafnet_plain.pth", {"preset": "irsde-derain"}, "preset irsde-derain is for other weights"),
        ("nafnet_denoising.pth", {}, "takes noise away, and the process is mean-reverting"),
        ("nafnet_plain.pth", {"noise_sigma": 25}, "a noise is said for a network that takes none away"),
        ("nafnet_plain.pth", {"encoder": "x.pt"}, "checkpoint x.pt does not exist"),
        ("nafnet_plain.pth", {"encoder_heads": 3}, "encoder heads without an encoder"),
        ("nafnet_denoising.pth", {"preset": "refusion-denoise", "noise_sigma": 400}, r"noise of 400 is outside \(0, 6"),
        ("nafnet_denoising.pth", {"preset": "refusion-denoise", "noise_sigma": 0}, "noise of 0 is outside"),
        ("nafnet_plain.pth", {"preset": "rain"}, "preset 'rain' is unknown"),
        ("nafnet_plain.pth", {"architecture": "NAFNet"}, "architecture 'NAFNet' is unknown"),
    ],
)
def test_what_does_not_belong_is_refused(published: Any, name: str, said: dict[str, Any], error: str) -> None:
    with pytest.raises(MrsError, match=error):
        read_source(published(name), made_for=MadeFor(**said))


def test_an_encoder_for_a_network_that_is_told_none(published: Any) -> None:
    arch = read_source(published("nafnet_plain.pth")).arch
    with pytest.raises(InputError, match="is told nothing of an encoder's"):
        check_encoder(arch, MadeFor(encoder="x.pt"), Path("net.pth"))


@pytest.mark.parametrize(
    ("name", "process", "preset"),
    [
        ("nafnet_denoising.pth", Schedule(), "refusion-denoise"),
        ("nafnet_plain.pth", Schedule(process="denoising", convention="ir-sde"), "refusion-derain"),
    ],
)
def test_the_hint_names_a_preset_of_the_networks_kind(published: Any, name: str, process: Any, preset: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_source(published(name), process)
    assert preset in caught.value.hint


def test_a_process_for_noise_needs_to_be_told_how_much(published: Any) -> None:
    schedule = Schedule(max_sigma=70, T=1000, eps=0.04, convention="ir-sde", process="denoising")
    with pytest.raises(InputError, match=r"how noisy the pictures are is not said \(give noise_sigma"):
        read_source(published("nafnet_denoising.pth"), schedule)
    with pytest.raises(CheckpointError, match="restores what is degraded, and the process is denoising"):
        read_source(published("nafnet_plain.pth"), schedule)


def test_a_network_for_noise_becomes_a_plan(published: Any, tmp_path: Path) -> None:
    """It starts from the noisy picture as it is: the seed changes nothing, and torch's own loop gives the same."""
    plan = mrs.build(
        published("nafnet_denoising.pth"), tmp_path / "a.mrsplan", preset="refusion-denoise", noise_sigma=25,
        size=(24, 20), backend="onnxruntime", precision="fp32",
        solver=Solver("ode", 2, steps=4, last_step="lower-order"),
    )  # fmt: skip
    assert plan.facts.table.start == 0
    assert plan.manifest["noise_sigma"] == 25
    picture = np.random.default_rng(0).integers(0, 256, (22, 20, 3), np.uint8)
    with mrs.load(tmp_path / "a.mrsplan") as restorer:
        restored = restorer.restore(picture)
        np.testing.assert_array_equal(restorer.restore(picture, seed=9), restored)
    import torch

    net = mrs.load_checkpoint(published("nafnet_denoising.pth"))
    mu = picture.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)

    def denoise(x: Any, mu: Any, t: float) -> Any:
        with torch.no_grad():
            return net(torch.from_numpy(x), t).numpy()

    expected = mrs.sample(denoise, mu, plan.facts.table)[0].transpose(1, 2, 0)
    assert np.abs(restored / 255 - expected).max() <= 0.502 / 255


@pytest.mark.parametrize("size", [(12, 16), (9, 14)], ids=str)
def test_a_unet_becomes_one_file_of_the_sampler(published: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    """With attention over all pixels and reflected padding, for any size."""
    import onnxruntime
    import torch

    from mrs.building.onnx_sampler import export_sampler
    from mrs.kernels.noise import normal

    path, solver = published("irsde_unet_d2.pth"), Solver("sde", 1, steps=3)
    export_sampler(path, tmp_path / "a.onnx", solver=solver, made_for=MadeFor(preset="irsde-derain"))
    picture = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    noise = np.stack([normal(0, draw, (2, 3, *size)) for draw in range(4)])
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    restored = session.run(None, {"picture": picture, "noise": noise[: session.get_inputs()[1].shape[0]]})[0]
    net = mrs.load_checkpoint(path)

    def denoise(x: Any, mu: Any, t: float) -> Any:
        with torch.no_grad():
            return net(torch.from_numpy(x), torch.from_numpy(mu), t).numpy()

    table = mrs.tableau(Schedule(max_sigma=10, convention="ir-sde"), solver)
    planes = picture.transpose(0, 3, 1, 2) / np.float32(255)
    expected = mrs.sample(denoise, planes, table, noise=noise[1:], init_noise=noise[0])
    assert np.abs(restored / 255 - expected.transpose(0, 2, 3, 1)).max() <= 0.502 / 255


@pytest.mark.usefixtures("quick")
def test_a_network_that_is_told_features_becomes_a_plan(published: Any, tmp_path: Path) -> None:
    """The picture is scaled for the encoder as CLIP's are, in the plan as in torch: its ends are cut off."""
    said = MadeFor(encoder=published("daclip_encoder_b.pt"))
    schedule = Schedule(max_sigma=50, convention="ir-sde")
    plan = mrs.build(
        published("daclip_unet_degra.pth"), tmp_path / "a.mrsplan", encoder=said.encoder, schedule=schedule,
        size=(16, 40), solver=Solver("ode", 1, steps=2), backend="onnxruntime", precision="fp32", threads=1,
    )  # fmt: skip
    assert plan.manifest["conditioner"]["resize"] == "clip"
    source = read_source(published("daclip_unet_degra.pth"), schedule, made_for=said)
    picture = np.random.default_rng(0).integers(0, 256, (16, 40, 3), np.uint8)
    mu = picture.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    expected = mrs.sample(lambda x, mu, t: source.evaluate(x, mu, t, picture), mu, plan.facts.table, seed=1)
    with mrs.load(tmp_path / "a.mrsplan", threads=1) as restorer:
        restored = restorer.restore(picture, seed=1)
    assert np.abs(restored / 255 - expected[0].transpose(1, 2, 0)).max() <= 0.51 / 255


def test_the_encoder_is_made_of_its_weights_once(published: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of millions of numbers, which are not copied either."""
    made: list[Any] = []
    module = EncoderWeights.module
    monkeypatch.setattr(EncoderWeights, "module", lambda self: made.append(module(self)) or made[-1])
    said = MadeFor(encoder=published("daclip_encoder_b.pt"))
    source = read_source(published("daclip_unet_degra.pth"), Schedule(convention="ir-sde"), made_for=said)
    picture, x = np.zeros((16, 16, 3), np.uint8), np.zeros((1, 3, 16, 16), np.float32)
    assert source.context(picture).shape == (1, source.conditioner.length)
    source.evaluate(x, x, 1.0, picture)
    (net,) = made
    assert not net.training
    state = net.state_dict()
    assert state.keys() == source.encoder.state.keys()
    assert all(state[key].data_ptr() == value.data_ptr() for key, value in source.encoder.state.items())


def test_a_conditioner_that_gives_something_else_is_found(published: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, before its network is judged with what it gives."""
    from mrs.building.graph_check import check_graphs
    from mrs.export.autotune.workload import Pair, Target
    from mrs.runtime.conditioner import Conditioner
    from mrs.runtime.errors import BackendError

    said = MadeFor(encoder=published("daclip_encoder_b.pt"))
    source = read_source(published("daclip_unet_degra.pth"), Schedule(max_sigma=50, convention="ir-sde"), made_for=said)
    pair, right = Pair(np.zeros((16, 16, 3), np.uint8)), Conditioner.__call__
    check_graphs(source, {}, pair, Target())
    monkeypatch.setattr(Conditioner, "__call__", lambda self, pictures: right(self, pictures) * np.float32(1.01))
    with pytest.raises(BackendError, match="the conditioner differs from torch by"):
        check_graphs(source, {}, pair, Target())
