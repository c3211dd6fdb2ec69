"""One ONNX file of the whole sampler for DA-CLIP's networks: a picture in, a restored one out, conditioner inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import mrs
from mrs.building.loops import loop_of
from mrs.building.made_for import MadeFor
from mrs.building.onnx_sampler import export_sampler
from mrs.building.source import Source, read_source
from mrs.export.graph_variant import GraphVariant
from mrs.export.sampler_graph import build_sampler
from mrs.kernels.noise import normal
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from tests.golden.networks import weights

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(25)]

# Random weights undo no noise: at the published eps a rounded number would grow by 200.
SCHEDULE, SOLVER = Schedule(max_sigma=50, eps=0.2, convention="ir-sde"), Solver("sde", 1, steps=2)
TOLERANCE = 1e-4
Read = Callable[[str], Source]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sampler")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Path:
    return weights("daclip_encoder_b.pt", folder)


def source_of(name: str, folder: Path, encoder: Path) -> Source:
    return read_source(weights(f"{name}.pth", folder), SCHEDULE, made_for=MadeFor(encoder=encoder))


def file_of(source: Source, solver: Solver = SOLVER) -> onnx.ModelProto:
    loop = loop_of(source, tableau(SCHEDULE, solver))
    return build_sampler(
        source.graph(GraphVariant()), loop, source.arch.multiple, result="float32", conditioner=source.conditioner
    )


def picture_and_noise(size: tuple[int, int]) -> dict[str, Any]:
    """Two pictures, so that each must have a context of its own."""
    picture = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    picture[1] //= 3
    return {"picture": picture, "noise": np.stack([normal(0, draw, (2, 3, *size)) for draw in range(2)])}


@pytest.mark.parametrize("name", ["daclip_unet_full", "daclip_unet_degra", "daclip_unet_wild"])
def test_the_file_looks_at_the_picture_as_torch_does(name: str, folder: Path, encoder: Path) -> None:
    """With a prompt, attention to features, and both, at a multiple of the network's sides and at none."""
    source = source_of(name, folder, encoder)
    model = file_of(source)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in ((16, 40), (9, 14)):
        feeds = picture_and_noise(size)
        (restored,) = session.run(None, feeds)
        for index, picture in enumerate(feeds["picture"]):
            noise = feeds["noise"][:, index : index + 1]
            expected = mrs.sample(
                lambda x, mu, t, picture=picture: source.evaluate(x, mu, t, picture),
                picture.transpose(2, 0, 1)[None] / np.float32(255), tableau(SCHEDULE, SOLVER),
                noise=[*noise[1:], noise[0]], init_noise=noise[0],
            )  # fmt: skip
            np.testing.assert_allclose(restored[index], expected[0].transpose(1, 2, 0), rtol=0, atol=TOLERANCE)


def test_the_picture_is_looked_at_once(folder: Path, encoder: Path) -> None:
    source = source_of("daclip_unet_degra", folder, encoder)
    nodes = []
    for steps in (1, 3):
        model = file_of(source, Solver("ode", 1, steps=steps))
        made = [node.op_type for node in model.graph.node if node.output[0].startswith("conditioner/")]
        names = [tensor.name for tensor in model.graph.initializer]
        assert len(set(names)) == len(names)
        assert names.count("conditioner/visual_control.conv1.weight") == 1
        # A step has its own view of the one vector.
        contexts = {name for node in model.graph.node for name in node.input if name == "conditioner/output"}
        assert len(contexts) == 1
        nodes.append(made)
    assert nodes[0] == nodes[1]
    assert "LayerNormalization" in nodes[0]


@pytest.mark.usefixtures("quick")
def test_the_file_of_a_network_that_is_told_features_restores_as_its_plan(folder: Path, encoder: Path) -> None:
    import openvino

    path, solver = weights("daclip_unet_degra.pth", folder), Solver("ode", 1, steps=2)
    written = export_sampler(
        path, folder / "a.onnx", solver=solver, schedule=SCHEDULE, made_for=MadeFor(encoder=encoder)
    )  # fmt: skip
    assert (written.draws, written.metadata["encoder"]) == (1, encoder.name)
    picture = picture_and_noise((16, 24))["picture"][:1]
    feeds = {"picture": picture, "noise": normal(4, 0, (1, 3, 16, 24))[None]}
    session = onnxruntime.InferenceSession(folder / "a.onnx", providers=["CPUExecutionProvider"])
    mrs.build(
        path, folder / "a.mrsplan", encoder=encoder, schedule=SCHEDULE, size=(16, 24), solver=solver,
        backend="onnxruntime", precision="fp32", threads=1,
    )  # fmt: skip
    with mrs.load(folder / "a.mrsplan", threads=1) as restorer:
        expected = restorer.restore(picture, seed=4).astype(int)
    core = openvino.Core()
    compiled = core.compile_model(folder / "a.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for found in (session.run(None, feeds)[0], np.array(compiled(feeds)["restored"])):
        assert np.abs(found - expected).max() <= 1
