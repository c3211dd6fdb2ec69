"""The encoder's ONNX graph gives the published features on every engine for CPUs, in both precisions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mrs.export.architectures import load_checkpoint
from mrs.export.architectures.clip import graph, load_encoder, read_encoder
from mrs.export.architectures.clip.config import DEVIATION, MEAN, Encoder
from mrs.export.architectures.clip.graph import features, is_halved
from mrs.export.architectures.clip.module import DACLIPEncoder
from mrs.export.onnx_writer import F32, Emitter
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import InputError
from tests.export.architectures.clip.test_encoder import HEADS
from tests.golden.networks import TOLERANCE, golden, weights

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(10)]

ENGINES = ["onnxruntime", "openvino"]


def model_of(net: DACLIPEncoder, normalised: bool = False) -> onnx.ModelProto:
    """From pictures to both features, the image's first."""
    emit, arch, state = Emitter(), net.arch, {key: value.numpy() for key, value in net.state_dict().items()}
    emit("Concat", *features(emit, state, arch, "packed", normalised=normalised), output="output", axis=1)
    sides = ["batch", 3, arch.side, arch.side]
    return emit.model("encoder", {"packed": sides}, ["batch", 2 * arch.length, 1, 1])


def run(engine: str, model: onnx.ModelProto, images: F32) -> F32:
    """(N, 2 * length)."""
    none = np.zeros((1, 0), np.float32)
    shape = images.shape
    compiled = backends.get(engine).compile(model.SerializeToString(), none, shape, "fp32", CompileSettings(1))
    compiled.packed[...] = images
    compiled.evaluate(0)
    return compiled.output.reshape(len(images), -1)


def coloured(images: F32) -> F32:
    """Pictures in [0, 1] of those that have CLIP's colours."""
    spread, mean = (np.array(numbers).reshape(3, 1, 1) for numbers in (DEVIATION, MEAN))
    return (images * spread + mean).astype(np.float32)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("normalised", [True, False], ids=["normalised", "picture"])
@pytest.mark.parametrize("name", HEADS)
def test_published_features(name: str, normalised: bool, engine: str, tmp_path: Path) -> None:
    net, arrays = load_encoder(weights(f"{name}.pt", tmp_path), HEADS[name]), golden(name)
    images = arrays["image"] if normalised else coloured(arrays["image"])
    expected = np.concatenate([arrays["image_features"], arrays["degra_features"]], axis=1)
    np.testing.assert_allclose(run(engine, model_of(net, normalised), images), expected, rtol=0, atol=TOLERANCE)


def test_a_large_encoder_keeps_its_matrices_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, arrays = load_encoder(weights("daclip_encoder_b.pt", tmp_path)), golden("daclip_encoder_b")
    with torch.no_grad():
        # As matrices of an encoder in use, whose numbers are not on the coarse grid of these.
        for value in net.parameters():
            value.mul_(1 + 1e-3 * torch.rand_like(value))
    plain = model_of(net, normalised=True)
    monkeypatch.setattr(graph, "LARGEST", 0)
    model = model_of(net, normalised=True)
    with torch.no_grad():
        exact = torch.cat(net(torch.tensor(arrays["image"])), dim=1).numpy()
        for key, value in net.named_parameters():
            rounded = value.ndim == 2 and not key.endswith("positional_embedding")
            value.copy_(value.half().float() if rounded else value)
        expected = torch.cat(net(torch.tensor(arrays["image"])), dim=1).numpy()
    assert model.ByteSize() < 0.6 * plain.ByteSize()
    for engine in ENGINES:
        output = run(engine, model, arrays["image"])
        np.testing.assert_allclose(output, expected, rtol=0, atol=TOLERANCE)
        # What it costs; the published code computes all of it in half precision on a GPU.
        assert 1e-5 < np.abs(output - exact).max() < 2e-3 * np.abs(exact).max()
        np.testing.assert_allclose(run(engine, plain, arrays["image"]), exact, rtol=0, atol=TOLERANCE)


def test_only_an_encoder_that_needs_it_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_halved(Encoder(768, 12, 32, 224, 512, 12))
    assert is_halved(Encoder(1024, 24, 14, 224, 768, 16))
    net = load_encoder(weights("daclip_encoder_b.pt", tmp_path))
    with torch.no_grad():
        net.visual.proj[0, 0] = 1e5
    model_of(net)
    monkeypatch.setattr(graph, "LARGEST", 0)
    with pytest.raises(InputError, match=r"visual\.proj has a number beyond half precision"):
        model_of(net)


def test_a_graph_has_nothing_that_only_unwanted_features_need(tmp_path: Path) -> None:
    """A network is told of the degradation alone, or of the picture, which the other tower has a say in."""
    encoder, arrays = read_encoder(weights("daclip_encoder_b.pt", tmp_path)), golden("daclip_encoder_b")
    sides: dict[str, list[int | str]] = {"packed": ["batch", 3, encoder.side, encoder.side]}
    for wanted, key in (("image", "image_features"), ("degradation", "degra_features")):
        emit = Emitter()
        other = {"image": "degradation", "degradation": "image"}[wanted]
        image, degradation = encoder.features(emit, "packed", **{other: False})
        assert [bool(image), bool(degradation)] == [wanted == "image", wanted == "degradation"]
        emit("Mul", image or degradation, emit.number(1), output="output")
        model = emit.model("encoder", sides, ["batch", encoder.length, 1, 1])
        read = {name for node in model.graph.node for name in node.input}
        made = {name for node in model.graph.node for name in node.output}
        assert made | {tensor.name for tensor in model.graph.initializer} | {"packed"} == read | {"output"}
        output = run("onnxruntime", model, coloured(arrays["image"]))
        np.testing.assert_allclose(output, arrays[key], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["daclip_unet_full", "daclip_unet_degra", "daclip_unet_wild"])
def test_with_a_network_it_gives_all_that_the_features_come_to(name: str, engine: str, tmp_path: Path) -> None:
    """From the picture in [0, 1] to the network's vector, in one graph."""
    encoder, arrays = read_encoder(weights("daclip_encoder_b.pt", tmp_path)), golden("daclip_encoder_b")
    net = load_checkpoint(weights(f"{name}.pth", tmp_path))
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    conditioner = net.arch.conditioner(state, encoder)  # type: ignore[union-attr, operator]
    assert (conditioner.side, conditioner.resize) == (32, "clip")
    features = (torch.tensor(arrays[key]) for key in ("degra_features", "image_features"))
    with torch.no_grad():
        expected = net.context(*features).numpy()  # type: ignore[operator]
    assert conditioner.length == expected.shape[1]
    output = run(engine, conditioner.graph, coloured(arrays["image"]))
    np.testing.assert_allclose(output, expected, rtol=0, atol=TOLERANCE)


def test_engines_find_what_they_fuse(tmp_path: Path) -> None:
    import openvino

    net = load_encoder(weights("daclip_encoder_b.pt", tmp_path))
    model = model_of(net)
    nodes = Counter(node.op_type for node in model.graph.node)
    blocks = 2 * net.arch.layers
    assert nodes["Softmax"] == nodes["Erf"] == blocks
    assert nodes["LayerNormalization"] == 2 * blocks + 4
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU")
    kinds = Counter(op.get_rt_info()["layerType"].value for op in compiled.get_runtime_model().get_ops())
    # Each attention is one node, and none of its parts is left.
    assert kinds["Softmax"] == kinds["MatMul"] == 0
    assert kinds["Subgraph"] >= blocks
