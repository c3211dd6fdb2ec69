"""A network that the product does not know comes in through the door and goes the whole way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrs
from mrs.export import architectures
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.plan import read_plan
from mrs.tuning.trial import Trial, of_network, of_plan
from tests import tone_network
from tests.mrs.conftest import hurry
from tests.tone_network import LENGTH, SIDE, Net, ToneNet

pytestmark = pytest.mark.slow(8)

SCHEDULE, SOLVER = Schedule(T=50, max_sigma=30.0), Solver(steps=5)
METADATA = {"schedule": SCHEDULE.to_dict(), "output": "data"}
RNG = np.random.default_rng(5)
PICTURE = RNG.random((22, 19, 3), np.float32)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(architectures.ARCHITECTURES, ToneNet.name, ToneNet)
        hurry(monkeypatch)
        yield


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Net:
    return tone_network.write(tmp_path_factory.getbasetemp() / "tone.safetensors", METADATA)


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def path(request: pytest.FixtureRequest, net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its plan for 24x20 on one engine."""
    folder = tmp_path_factory.mktemp("tone")
    mrs.build(
        tmp_path_factory.getbasetemp() / "tone.safetensors", folder / "tone.mrsplan", size=(22, 19), solver=SOLVER,
        backend=request.param, precision="fp32", threads=1,
    )  # fmt: skip
    return folder / "tone.mrsplan"


def by_reference(net: Net, picture: Any, context: Any = None, seed: int = 0) -> Any:
    """By torch and the reference loop, with the context of another picture where one is given."""
    return tone_network.by_reference(net, tableau(SCHEDULE, SOLVER, "data"), picture, context, seed)


def test_the_plan_holds_both_graphs(path: Path) -> None:
    plan = read_plan(path)
    assert plan.conditioner is not None
    assert plan.manifest["network"]["architecture"] == "ToneNet"
    assert plan.manifest["conditioner"] == {"side": SIDE, "length": LENGTH, "resize": "stretch"}
    assert {"network.onnx", "conditioner.onnx"} <= plan.manifest["members"].keys()


@pytest.mark.parametrize("size", [(22, 19), (9, 13)], ids=str)
def test_a_restore_is_the_reference(path: Path, net: Net, size: tuple[int, int]) -> None:
    picture = np.ascontiguousarray(PICTURE[: size[0], : size[1]])
    with mrs.load(path, threads=1) as restorer:
        restored = restorer.restore(picture, seed=3)
    np.testing.assert_allclose(restored, by_reference(net, picture, seed=3), rtol=0, atol=1e-5)


def test_the_picture_decides(path: Path, net: Net) -> None:
    """Pixels away from what was changed change too, which those of a network without a conditioner do not."""
    dark = PICTURE.copy()
    dark[16:] *= 0.2
    with mrs.load(path, threads=1) as restorer:
        one, other = (restorer.restore(picture, seed=3) for picture in (PICTURE, dark))
        batch = restorer.restore(np.stack([PICTURE, dark]), seed=3)
    assert np.abs(one[:8] - other[:8]).max() > 1e-3
    # Each picture of a batch has its own.
    np.testing.assert_allclose(batch[0], one, rtol=0, atol=1e-5)
    told = tone_network.context_of(net, dark)
    np.testing.assert_allclose(other, by_reference(net, dark, told, seed=3), rtol=0, atol=1e-5)


def test_tiles_are_told_of_the_whole_picture(path: Path, net: Net) -> None:
    with mrs.load(path, threads=1) as restorer:
        tiled = restorer.restore(PICTURE, seed=3, tile=8, overlap=4)
    told = tone_network.context_of(net, PICTURE)
    # The corner of the first tile that no other tile reaches and no seam touches.
    corner = np.ascontiguousarray(PICTURE[:8, :8])
    np.testing.assert_allclose(tiled[:3, :3], by_reference(net, corner, told, seed=3)[:3, :3], rtol=0, atol=1e-4)
    alone = by_reference(net, corner, seed=3)
    assert np.abs(tiled[:3, :3] - alone[:3, :3]).max() > 1e-3


def test_it_is_inspected(path: Path, run: Any) -> None:
    assert "ToneNet width 4" in run("inspect", path).out


def test_solvers_are_tried_with_it(path: Path, net: Net) -> None:
    pictures = np.rint(255 * PICTURE[None]).astype(np.uint8)
    table = tableau(SCHEDULE, SOLVER, "data")
    from mrs.building.source import read_source

    source = read_source(path.parent.parent / "tone.safetensors")
    networks = of_plan(read_plan(path)), of_network(source.arch, source.network, source.condition)
    plan_s, own = (Trial(each, pictures, "fp32", 1).run(table, seed=3)[0] for each in networks)
    expected = by_reference(net, pictures[0] / np.float32(255), seed=3)
    np.testing.assert_allclose(own, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(plan_s, expected, rtol=0, atol=1e-5)


def test_half_of_it_is_refused_by_name(tmp_path: Path, net: Net) -> None:
    from safetensors.torch import save_file

    state = {key: value for key, value in net.state_dict().items() if key != "tone.bias"}
    save_file(state, tmp_path / "half.safetensors")
    with pytest.raises(mrs.MrsError, match=r"does not fit ToneNet; missing: tone\.bias"):
        mrs.load_checkpoint(tmp_path / "half.safetensors")


def test_a_file_of_the_whole_sampler_looks_at_the_picture(
    tmp_path: Path, net: Net, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stretched for the conditioner there as in a plan; and no file can hold more than the format does."""
    import onnxruntime

    from mrs.building.onnx_sampler import export_sampler
    from mrs.kernels.noise import normal

    tone_network.write(tmp_path / "tone.safetensors", METADATA)
    export_sampler(tmp_path / "tone.safetensors", tmp_path / "tone.onnx", solver=SOLVER)
    session = onnxruntime.InferenceSession(tmp_path / "tone.onnx", providers=["CPUExecutionProvider"])
    picture = np.rint(PICTURE * 255).astype(np.uint8)
    noise = normal(3, 0, (1, 3, *picture.shape[:2]))[None]
    (found,) = session.run(None, {"picture": picture[None], "noise": noise})
    with mrs.load(path, threads=1) as restorer:
        difference = np.abs(found[0].astype(int) - restorer.restore(picture, seed=3))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.01
    monkeypatch.setattr("mrs.export.sampler_graph.LARGEST", 1000)
    with pytest.raises(mrs.MrsError, match=r"network and conditioner are .* GB, more than one ONNX file holds"):
        export_sampler(tmp_path / "tone.safetensors", tmp_path / "tone.onnx", solver=SOLVER)
