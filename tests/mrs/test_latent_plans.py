"""Refusion's latent pairs as plans: what torch makes of a picture by the published chain, a plan makes too."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import mrs
from mrs.building.inference_server import copied
from mrs.export.architectures.latent_unet.config import Autoencoder
from mrs.export.architectures.latent_unet.graph import decoder_graph
from mrs.kernels import cpu
from mrs.kernels.noise import Draw
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.runtime.codec import Codec, codec_of
from mrs.runtime.errors import BackendError, CancelledError, CheckpointError, InputError, MrsError
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.session import Restorer
from mrs.tuning.trial import of_plan
from tests.golden.networks import TOLERANCE, golden, weights
from tests.haste import measure_little

pytestmark = [pytest.mark.usefixtures("one_thread", "quick"), pytest.mark.slow(70)]

SOLVER = Solver(steps=3)
ENGINES = ("onnxruntime", "openvino")
Made = Callable[..., Plan]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("latent")
    return lambda name: weights(f"{name}.pth", folder)


@pytest.fixture
def build(path: Callable[[str], Path], tmp_path: Path) -> Made:
    """A plan at `a.mrsplan`, on one engine."""

    def made(name: str = "latent_chain_nafnet", **options: Any) -> Plan:
        given = {
            "autoencoder": path("latent_unet"), "size": (37, 45), "solver": SOLVER, "backend": "onnxruntime",
            "precision": "fp32", "threads": 1,
        }  # fmt: skip
        return mrs.build(path(name), tmp_path / "a.mrsplan", **{**given, **options})

    return made


@pytest.fixture(scope="module")
def plan_file(path: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that any test may read: for 16x16, in two steps with noise."""
    file = tmp_path_factory.mktemp("plans") / "a.mrsplan"
    with pytest.MonkeyPatch.context() as monkeypatch:
        measure_little(monkeypatch, reference_steps=6)
        monkeypatch.setattr("mrs.building.calibration.LARGEST", 16)
        mrs.build(
            path("latent_chain_nafnet"), file, autoencoder=path("latent_unet"), size=(16, 16), backend="onnxruntime",
            solver=Solver("sde", 2, steps=2, last_step="lower-order"), threads=1,
        )  # fmt: skip
    return file


@pytest.fixture(scope="module")
def plan(plan_file: Path) -> Plan:
    return read_plan(plan_file)


@pytest.fixture
def restorer(plan_file: Path) -> Iterator[Restorer]:
    with mrs.load(plan_file, threads=1) as loaded:
        yield loaded


def by_torch(
    path: Callable[[str], Path], picture: NDArray[np.float32], plan: Plan, seed: int, lenses: Any = None,
    name: str = "latent_chain_nafnet",
) -> NDArray[np.float32]:  # fmt: skip
    """Pictures (N, H, W, C) through the published modules and the reference loop."""
    net, coder = mrs.load_checkpoint(path(name)), mrs.load_autoencoder(path("latent_unet"))
    told = () if lenses is None else (lenses,)

    def denoise(x: Any, mu: Any, t: float) -> Any:
        return net(torch.from_numpy(x), torch.from_numpy(mu), t, *told).numpy()

    with torch.no_grad():
        latent, hidden = coder.encode(torch.from_numpy(picture.transpose(0, 3, 1, 2).copy()))
        x = mrs.sample(denoise, latent.numpy(), plan.facts.table, seed=seed, clamp=False)
        return coder.decode(torch.from_numpy(x), hidden).clamp(0, 1).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_restore_of_latents_can_be_cancelled(restorer: Restorer, after: int) -> None:
    """Before each of its evaluations, and before the decoder; then nothing has to be compiled again."""

    class Late(mrs.Cancellation):
        asked = 0

        @property
        def cancelled(self) -> bool:
            self.asked += 1
            # Once while it waits for its worker.
            return self.asked > after

    picture, late = pictures(1, 32, 32)[0], Late()
    expected = restorer.restore(picture)
    with restorer.chain((1, 32, 32), ("float32", "float32")) as chain:
        made = chain
    with pytest.raises(CancelledError):
        restorer.restore(picture, cancellation=late)
    assert late.asked == after + 1
    with restorer.chain((1, 32, 32), ("float32", "float32")) as chain:
        assert chain is made
    np.testing.assert_array_equal(restorer.restore(picture), expected)


def pictures(count: int, height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(height).random((count, height, width, 3), np.float32)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_published_chain(build: Made, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the noise that the published code drew, through a plan's own loop."""
    arrays = golden("latent_chain")
    bank = arrays["noise_bank"]
    plan = build(
        schedule=Schedule(max_sigma=50, T=10, convention="ir-sde"), size=(37, 45), batch=2, backend=engine,
        solver=Solver(method="euler-sde", order=1, prediction="noise", steps=10),
    )  # fmt: skip
    assert plan.facts.shape == (2, 12, 12)
    assert plan.facts.picture_shape == (2, 48, 48)
    # The compiled kernels draw by themselves.
    monkeypatch.setattr(cpu, "_library", lambda: None)
    monkeypatch.setattr(Draw, "normal", lambda self, shape: bank[self.number])
    with mrs.load(tmp_path / "a.mrsplan", threads=1) as restorer:
        restored = restorer.restore(np.ascontiguousarray(arrays["lq"].transpose(0, 2, 3, 1)))
    expected = np.clip(arrays["output"], 0, 1).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(restored, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_pictures_of_any_size(build: Made, path: Callable[[str], Path], tmp_path: Path, engine: str) -> None:
    plan = build(backend=engine, preset="refusion-dehaze")
    assert plan.facts.table.start == pytest.approx(50 / 255)
    with mrs.load(tmp_path / "a.mrsplan", threads=1) as restorer:
        # As it was built for; mirrored; mirrored to and fro; another size whose latent the network pads; two at once;
        # and what came in between has left nothing.
        for count, height, width in ((1, 40, 48), (1, 37, 45), (1, 3, 1), (1, 40, 40), (2, 9, 16), (1, 37, 45)):
            given = pictures(count, height, width)
            expected = by_torch(path, given, plan, seed=5)
            np.testing.assert_allclose(restorer.restore(given, seed=5), expected, rtol=0, atol=1e-4)
            levels = np.rint(given * 255).astype(np.uint8)
            close = restorer.restore(levels, seed=5).astype(np.float32) / 255
            by_levels = by_torch(path, levels / np.float32(255), plan, seed=5)
            assert np.abs(close - by_levels).max() <= 0.51 / 255


def test_a_batch_draws_noise_for_each_picture(restorer: Restorer) -> None:
    one = pictures(1, 16, 16)
    both = restorer.restore(np.concatenate([one, one]), seed=1)
    np.testing.assert_allclose(both[0], restorer.restore(one[0], seed=1), rtol=0, atol=1e-5)
    assert np.abs(both[0] - both[1]).max() > 0.01
    assert np.abs(restorer.restore(one[0], seed=2) - both[0]).max() > 0.01


@pytest.mark.parametrize("engine", ENGINES)
def test_the_compiled_autoencoder(plan: Plan, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrs.runtime.codec.ENGINES", (engine,))
    arrays = golden("latent_unet")
    codec = codec_of(plan)
    assert isinstance(codec, Codec)
    coder = codec.compile(arrays["lq"].shape, 1)
    found = coder.encode(np.ascontiguousarray(arrays["lq"].transpose(0, 2, 3, 1)))
    size = arrays["lq"].shape[2:]
    np.testing.assert_allclose(found, arrays["latent"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(coder.decode(found, size), arrays["recon"], rtol=0, atol=TOLERANCE)
    # The hidden states are still those of the picture.
    changed = coder.decode(arrays["latent_changed"], size)
    np.testing.assert_allclose(changed, arrays["decoded_changed"][..., : size[0], : size[1]], rtol=0, atol=TOLERANCE)


def test_lenses(build: Made, path: Callable[[str], Path], tmp_path: Path) -> None:
    lenses = (-18.0, 160.0, 32.5)
    plan = build("nafnet_latent_bokeh", lenses=lenses, preset="refusion-bokeh", size=(16, 16))
    assert plan.manifest["network"]["lenses"] == lenses
    given = pictures(1, 16, 24)
    expected = by_torch(path, given, plan, 2, lenses, "nafnet_latent_bokeh")
    other = by_torch(path, given, plan, 2, (160.0, -18.0, 32.5), "nafnet_latent_bokeh")
    assert np.abs(expected - other).max() > 1e-3
    with mrs.load(tmp_path / "a.mrsplan", threads=1) as restorer:
        np.testing.assert_allclose(restorer.restore(given, seed=2), expected, rtol=0, atol=1e-4)


def test_what_the_manifest_says(build: Made, tmp_path: Path) -> None:
    build(size=(37, 45), batch=2, further_sizes=[(80, 80)])
    manifest = read_plan(tmp_path / "a.mrsplan").manifest
    assert manifest["autoencoder"]["name"] == "latent_unet.pth"
    said = manifest["latent"]
    assert {name: said[name] for name in ("channels", "multiple", "scale")} == {
        "channels": 3, "multiple": 8, "scale": 4
    }  # fmt: skip
    assert manifest["network"]["channels"] == 4
    # A pixel of the network is one of the latent.
    assert said["bytes_per_pixel"] > manifest["network"]["bytes_per_pixel"] / 16
    assert manifest["shape"] == [2, 12, 12]


# Refused


@pytest.mark.parametrize(
    ("name", "said", "kind", "error"),
    [
        ("latent_chain_nafnet", {"autoencoder": None}, CheckpointError, r"latents of 4 channels \(build it with --au"),
        ("latent_chain_nafnet", {"autoencoder": "nafnet_plain"}, CheckpointError, "is no autoencoder of a latent pair"),
        ("nafnet_plain", {}, CheckpointError, "makes latents of 4 channels from pictures of 3, and .* is for 3 from 3"),
        ("nafnet_denoising", {"preset": "refusion-denoise"}, InputError, r"restores no latents \(leave the auto"),
        ("latent_chain_nafnet", {"lenses": (1.0, 2.0, 3.0)}, InputError, r"is told of no lenses \(leave them out"),
        ("nafnet_latent_bokeh", {}, InputError, r"the lenses are not said \(give --lens"),
        ("nafnet_latent_bokeh", {"lenses": (1.0, 2.0, float("nan"))}, InputError, "are not three numbers"),
        ("latent_chain_nafnet", {"preset": "refusion-bokeh"}, CheckpointError, "refusion-bokeh is for other weights"),
        ("latent_chain_nafnet", {"solver": Solver(clamp="unit")}, InputError, "a latent has no range for clamp unit"),
        ("latent_chain_nafnet", {"backend": "auto", "device": "cuda"}, MrsError, "cuda"),
    ],
)  # fmt: skip
def test_what_is_no_pair(
    build: Made, path: Callable[[str], Path], name: str, said: dict[str, Any], kind: type[MrsError], error: str
) -> None:
    if said.get("autoencoder") is not None:
        said = {**said, "autoencoder": path(said["autoencoder"])}
    with pytest.raises(kind, match=error) as caught:
        build(name, **said)
    assert "\n" not in str(caught.value)


def test_no_tiles_and_no_more_than_the_memory(plan: Plan, plan_file: Path) -> None:
    each = plan.facts.pictures.bytes_per_pixel
    with mrs.load(plan_file, threads=1, memory=24 * 32 * each) as restorer:
        with pytest.raises(InputError, match=r"latents are made of whole pictures, not of tiles \(leave the tile out"):
            restorer.restore(pictures(1, 32, 32), tile=16)
        with pytest.raises(InputError, match=r"32x25 exceeds the memory for one pass, and latents are not made of t"):
            restorer.restore(pictures(1, 32, 25))
        with pytest.raises(InputError, match="exceeds the memory"):
            restorer.restore(pictures(2, 24, 32))
        # Who says that nothing is to be cut, or has as much as is needed, is believed.
        assert restorer.restore(pictures(1, 32, 25), tile=0).shape == (1, 32, 25, 3)
        assert restorer.restore(pictures(1, 23, 32)).shape == (1, 23, 32, 3)


def test_infinities_are_told_and_leave_nothing(restorer: Restorer) -> None:
    given = pictures(1, 16, 16)
    expected = restorer.restore(given)
    with restorer.chain((1, 16, 16)) as chain:
        coder = chain._coder  # type: ignore[attr-defined]
        decode = coder.decode
        coder.decode = lambda x, size: decode(x * np.float32(np.nan), size)
    with pytest.raises(BackendError, match="infinities or NaN"):
        restorer.restore(given)
    coder.decode = decode
    np.testing.assert_array_equal(restorer.restore(given), expected)
    with restorer.chain((1, 16, 16)) as again:
        assert again is chain


def test_an_interrupt_spoils_the_chain_alone(restorer: Restorer) -> None:
    """Threads of the engine may still write: encoder and decoder are made anew, as the network is."""
    given = pictures(1, 16, 16)
    expected = restorer.restore(given)
    with restorer.chain((1, 16, 16)) as chain:
        coder = chain._coder  # type: ignore[attr-defined]

        def interrupted(picture: Any) -> Any:
            raise KeyboardInterrupt

        coder.encode = interrupted
    with pytest.raises(KeyboardInterrupt):
        restorer.restore(given)
    np.testing.assert_array_equal(restorer.restore(given), expected)
    with restorer.chain((1, 16, 16)) as fresh:
        assert fresh is not chain


def test_warm_up_and_the_networks_part(restorer: Restorer) -> None:
    restorer.warm_up(20, 12)
    with restorer.chain((1, 20, 12)) as chain:
        chain.evaluate_all()
        assert not chain.unfinished
        assert chain.network.packed.shape == (1, 8, 8, 4)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda manifest: manifest.pop("latent"), "encoder.onnx, decoder.onnx or their place in the manifest"),
        (lambda manifest: manifest["latent"].update(scale=2), "latent.scale does not fit"),
        (lambda manifest: manifest["latent"].update(multiple=6), "latent.multiple does not fit"),
        (lambda manifest: manifest["latent"].update(channels=4), "latent.channels does not fit"),
        (lambda manifest: manifest["latent"].update(bytes_per_pixel=1), "latent.bytes_per_pixel does not fit"),
        (lambda manifest: manifest["latent"].update(multiple=0), "latent in its manifest is missing or wrong"),
        (lambda manifest: manifest.update(latent=[]), "latent in its manifest is missing or wrong"),
    ],
)
def test_a_manifest_that_says_otherwise(plan_file: Path, tmp_path: Path, change: Any, error: str) -> None:
    refused(plan_file, tmp_path, error, change)


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx"])
def test_half_a_pair(plan_file: Path, tmp_path: Path, name: str) -> None:
    def drop(manifest: dict[str, Any]) -> None:
        del manifest["members"][name]

    refused(plan_file, tmp_path, "or their place in the manifest is missing", drop)


def test_a_decoder_of_another_pair(plan_file: Path, plan: Plan, tmp_path: Path) -> None:
    other = Autoencoder((8, 12, 16, 16), 4)
    state = {key: np.ones(shape, np.float32) for key, shape in other.weight_shapes().items()}
    replace(plan, decoder=decoder_graph(state, other).SerializeToString()).save(tmp_path / "b.mrsplan")
    with pytest.raises(MrsError, match=r"decoder\.onnx does not fit encoder\.onnx"):
        read_plan(tmp_path / "b.mrsplan")


def test_a_pair_beside_a_conditioner(plan: Plan, tmp_path: Path) -> None:
    """Whose picture would be the latent."""
    manifest = {**plan.manifest, "conditioner": {"side": 8, "length": 4}}
    replace(plan, conditioner=b"graph", manifest=manifest).save(tmp_path / "b.mrsplan")
    with pytest.raises(MrsError, match=r"conditioner\.onnx stands beside encoder\.onnx"):
        read_plan(tmp_path / "b.mrsplan")


def test_what_takes_no_latents(plan: Plan, plan_file: Path) -> None:
    with pytest.raises(InputError, match="solvers are not tuned on latents"):
        of_plan(plan)
    with pytest.raises(InputError, match="restores latents, which no server is given yet"):
        copied(plan_file)


def refused(file: Path, folder: Path, error: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """A plan with another manifest, in one line."""
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(content.pop("manifest.json"))
    change(manifest)
    with zipfile.ZipFile(folder / "b.mrsplan", "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, member in content.items():
            archive.writestr(name, member)
    with pytest.raises(MrsError, match=error) as caught:
        read_plan(folder / "b.mrsplan")
    assert "\n" not in str(caught.value)
