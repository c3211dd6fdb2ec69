"""Latents on TensorRT's double: three engines in the chain's one graph, kept, and a build that chooses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mrs.cli import main
from mrs.runtime import backends
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.session import Restorer
from tests.golden.networks import weights
from tests.haste import measure_little
from tests.runtime.latent_plans import latent_plan

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(20)]

GIVEN = np.random.default_rng(5).random((1, 13, 26, 3), np.float32)


@pytest.fixture(autouse=True)
def registered(backend: Any, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend on the double, as `tensorrt`; a build makes its chains there too."""
    monkeypatch.setitem(backends.BACKENDS, "tensorrt", backend)
    monkeypatch.setattr("mrs.runtime.backends.tensorrt.backend.installed_version", lambda *names: world.version)
    for module in ("mrs.export.autotune.timing", "mrs.building.graph_check"):
        monkeypatch.setattr(f"{module}.device_of", lambda engine: world.device if engine is backend else None)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return latent_plan(tmp_path, "tensorrt")


@pytest.fixture
def load(world: Any, plan: Plan) -> Callable[..., Restorer]:
    return lambda of=plan, **more: Restorer(of, device=world.device, threads=1, **more)


def on_cpu(plan: Plan) -> Any:
    with Restorer(plan, backend="openvino", threads=1) as restorer:
        return restorer.restore(GIVEN, 3)


def test_a_restore_is_that_of_the_cpu_and_its_engines_are_kept(load: Any, plan: Plan, backend: Any, world: Any) -> None:
    with load() as restorer:
        np.testing.assert_allclose(restorer.restore(GIVEN, 3), on_cpu(plan), rtol=0, atol=2e-5)
        # The network, the encoder, the decoder; the second picture is padded to the plan's own size.
        assert [built["shape"] for built in world.builds] == [[1, 8, 4, 8], [1, 3, 16, 32], [1, 4, 4, 8]]
    backend._engines.clear()
    with load():
        assert len(world.builds) == 3
    backend._engines.clear()
    with load(cache=False):
        assert len(world.builds) == 6


@pytest.fixture
def build(tmp_path: Path, complete_outputs: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """A build of the published pair with a tiny picture to measure on."""
    measure_little(monkeypatch, reference_steps=6)
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (16, 32, 3), np.uint8)
    Image.fromarray(picture).save(folder / "a.png")

    def call(*more: str) -> Plan:
        arguments = [
            "build", str(weights("latent_chain_nafnet.pth", tmp_path)), "-o", str(tmp_path / "made.mrsplan"), "-q",
            "--autoencoder", str(weights("latent_unet.pth", tmp_path)), "--preset", "refusion-dehaze", "--backend",
            "tensorrt", "--size", "16x32", "--steps", "3", "--threads", "1", "--calibration", str(folder), *more,
        ]  # fmt: skip
        assert main(arguments) == 0
        return read_plan(tmp_path / "made.mrsplan")

    return call


def test_a_build_with_a_range_of_sizes(build: Any, load: Any, world: Any) -> None:
    """Of pictures, as it is said; the engine's is of latents."""
    plan = build("--precision", "fp32", "--size-range", "8x8", "32x40")
    assert plan.manifest["backend"] == "tensorrt"
    assert plan.manifest["engine_options"]["size_range"] == [[1, 4, 4], [1, 4, 8], [1, 8, 12]]
    builds = len(world.builds)
    with load(plan) as restorer:
        np.testing.assert_allclose(restorer.restore(GIVEN, 3), on_cpu(plan), rtol=0, atol=2e-5)
        assert len(world.builds) == builds
        # Within the range: an encoder and a decoder, but no network.
        restorer.restore(np.zeros((32, 32, 3), np.uint8))
        assert len(world.builds) == builds + 2


def test_a_build_holds_encoder_and_decoder_to_torch(
    build: Any, backend: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compile_graph = type(backend).compile_graph

    def wrong(engine: Any, graph: bytes, inputs: Any, *rest: Any) -> Any:
        made = compile_graph(engine, graph, inputs, *rest)
        evaluate = made.evaluate

        def doubled() -> None:
            evaluate()
            next(iter(made.outputs.values())).mul_(2)

        made.evaluate = doubled
        return made

    monkeypatch.setattr(type(backend), "compile_graph", wrong)
    with pytest.raises(AssertionError):
        build("--precision", "fp32")
    assert "encoder or decoder on tensorrt differs from torch by" in capsys.readouterr().err
