"""One ONNX file of the whole sampler for a latent pair: encoder and decoder inside, as a plan of the pair restores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from mrs.building.loops import loop_of
from mrs.building.made_for import MadeFor
from mrs.building.onnx_sampler import SamplerFile, export_sampler
from mrs.building.source import Source, read_source
from mrs.export import sampler_graph
from mrs.export.graph_variant import GraphVariant
from mrs.export.sampler_graph import build_sampler
from mrs.kernels.noise import normal
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError
from mrs.runtime.session import Restorer
from tests.golden.networks import weights
from tests.runtime.latent_plans import SOLVER, latent_plan

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(20)]

# As the encoder takes it; mirrored; mirrored to and fro; with latents that the network pads.
SIZES = ((16, 32), (13, 22), (3, 1), (40, 24))
TOLERANCE = 1e-4
Run = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("file")


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[Path, MadeFor]:
    autoencoder = weights("latent_unet.pth", folder)
    return weights("latent_chain_nafnet.pth", folder), MadeFor(autoencoder=autoencoder, preset="refusion-dehaze")


@pytest.fixture(scope="module")
def source(pair: tuple[Path, MadeFor]) -> Source:
    return read_source(pair[0], made_for=pair[1])


@pytest.fixture(scope="module")
def model(source: Source) -> onnx.ModelProto:
    loop = loop_of(source, tableau(source.schedule, SOLVER, source.output))
    return build_sampler(source.graph(GraphVariant()), loop, source.arch.multiple, result="float32")


@pytest.fixture(scope="module")
def restorer(folder: Path) -> Iterator[Restorer]:
    with Restorer(latent_plan(folder, "onnxruntime"), threads=1) as made:
        yield made


def on_onnxruntime(model: bytes) -> Run:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)[0]


def on_openvino(model: bytes) -> Run:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda feeds: np.array(compiled(feeds)["restored"])


def feeds_of(size: tuple[int, int], draws: int, seed: int = 4) -> dict[str, Any]:
    """Two pictures, and noise of the latents' sides."""
    picture = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    latent = [-(-side // 8) * 2 for side in size]
    return {"picture": picture, "noise": np.stack([normal(seed, draw, (2, 4, *latent)) for draw in range(draws)])}


@pytest.mark.parametrize("engine", [on_onnxruntime, on_openvino])
def test_the_file_restores_as_the_plan(model: onnx.ModelProto, restorer: Restorer, engine: Callable[..., Run]) -> None:
    draws = model.graph.input[1].type.tensor_type.shape.dim[0].dim_value
    assert draws > 1
    run = engine(model.SerializeToString())
    for size in SIZES:
        feeds = feeds_of(size, draws)
        expected = restorer.restore(feeds["picture"] / np.float32(255), seed=4)
        np.testing.assert_allclose(run(feeds), expected, rtol=0, atol=TOLERANCE)
    other = {**feeds, "noise": feeds_of(size, draws, seed=5)["noise"]}
    assert np.abs(run(other) - expected).max() > 1e-2


def test_all_values_have_their_shapes(model: onnx.ModelProto) -> None:
    """Encoder and decoder stand there once, whatever the number of steps."""
    named = {value.name: value for value in model.graph.value_info}
    for part in ("encoder", "decoder"):
        made = [name for node in model.graph.node for name in node.output if name.startswith(f"{part}/")]
        convolutions = [node for node in model.graph.node if node.op_type == "Conv" and node.output[0] in made]
        assert convolutions
        for node in convolutions:
            sides = named[node.output[0]].type.tensor_type.shape.dim
            assert all(side.dim_param or side.dim_value < 1000 for side in sides)
    latent = named["encoder/latent"].type.tensor_type.shape.dim
    assert [side.dim_param or side.dim_value for side in latent] == ["batch", 4, "latent_height", "latent_width"]
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(set(names)) == len(names)


def test_the_written_file(pair: tuple[Path, MadeFor], folder: Path, restorer: Restorer) -> None:
    written = export_sampler(pair[0], folder / "a.onnx", solver=SOLVER, made_for=pair[1])
    assert isinstance(written, SamplerFile)
    lines = written.summary().splitlines()
    assert "picture       input, (N, H, W, 3) uint8, any N, H and W" in lines
    said = "(3, N, 4, H' / 4, W' / 4), H' and W' the next multiples of 8, float32, standard normal"
    assert f"noise         input, {said}" in lines
    kept = {name: written.metadata[name] for name in ("autoencoder", "latent_scale", "latent_multiple")}
    assert kept == {"autoencoder": "latent_unet.pth", "latent_scale": "4", "latent_multiple": "8"}
    feeds = feeds_of((13, 22), written.draws)
    found = on_onnxruntime((folder / "a.onnx").read_bytes())(feeds)
    assert np.abs(found.astype(int) - restorer.restore(feeds["picture"], seed=4)).max() <= 1


def test_what_no_file_holds(
    pair: tuple[Path, MadeFor], folder: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="a latent has no range for clamp unit"):
        export_sampler(pair[0], folder / "b.onnx", solver=Solver(clamp="unit"), made_for=pair[1])
    loop = loop_of(source, tableau(source.schedule, SOLVER, source.output))
    network = source.graph(GraphVariant())
    monkeypatch.setattr(sampler_graph, "LARGEST", network.ByteSize() + len(source.codec.encoder))  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"network, encoder and decoder are .* GB, more than one ONNX file holds"):
        build_sampler(network, loop, source.arch.multiple)
