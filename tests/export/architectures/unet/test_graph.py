"""The graph gives the published outputs on both engines, for any size, and is written as engines run it fast."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mrs.export.architectures import Conditioner
from mrs.export.architectures.unet import ConditionalUNet
from mrs.export.architectures.unet.context import context_size
from mrs.export.architectures.unet.graph import build_graph
from mrs.export.architectures.unet.modulation import modulation_size, modulation_table
from mrs.export.architectures.unet.module import UNet, module_of
from mrs.export.graph_variant import GraphVariant
from mrs.export.onnx_writer import Emitter
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import InputError
from mrs.runtime.onnx_guard import check_network
from tests.export.architectures.unet.examples import NAMES, contexts, pictures
from tests.golden.networks import TOLERANCE, golden

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(25)]


def weights_of(net: UNet) -> dict[str, NDArray[Any]]:
    return {key: value.numpy() for key, value in net.state_dict().items()}


def graph_of(net: UNet) -> onnx.ModelProto:
    return build_graph(weights_of(net), net.arch)


def packed_of(name: str, which: str, multiple: int) -> NDArray[Any]:
    """x - mu and mu, mirrored; a network without a condition sees their sum, whatever mu is."""
    x, *given = pictures(name, which)
    mu = given[0] if given else torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    height, width = x.shape[-2:]
    margin = (0, -width % multiple, 0, -height % multiple)
    return F.pad(torch.cat([x - mu, mu], dim=1), margin, mode="reflect").numpy()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("which", ["0", "1"])
@pytest.mark.parametrize("name", NAMES)
def test_published_outputs(published, name: str, which: str, engine: str) -> None:
    net, arrays = published(name), golden(name)
    outputs = {float(found[1]): key for key in arrays if (found := re.fullmatch(rf"out_{which}_t([\d.]+)", key))}
    assert len(outputs) >= 3
    packed = packed_of(name, which, net.arch.multiple)
    table = modulation_table(net, list(outputs))
    model = graph_of(net).SerializeToString()
    compiled = backends.get(engine).compile(model, table, packed.shape, "fp32", CompileSettings(1))
    compiled.packed[...] = packed
    if context_size(net.arch):
        with torch.no_grad():
            compiled.context[...] = net.context(**contexts(name, which))[:, :, None, None].numpy()
    height, width = arrays[f"xt_{which}"].shape[2:]
    for step, key in enumerate(outputs.values()):
        compiled.evaluate(step)
        np.testing.assert_allclose(compiled.output[..., :height, :width], arrays[key], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["daclip_unet_full", "unet_denoising"])
def test_one_graph_takes_any_size_and_batch(published, name: str) -> None:
    net = published(name)
    session = onnxruntime.InferenceSession(graph_of(net).SerializeToString(), providers=["CPUExecutionProvider"])
    modulation = modulation_table(net, [30.0])[-1][None, :, None, None]
    side = net.arch.multiple
    for size in ((1, side, side), (2, 2 * side, side), (3, side, 3 * side)):
        x, mu = torch.rand(2, size[0], 3, *size[1:], generator=torch.Generator().manual_seed(1))
        feed = {"packed": torch.cat([x - mu, mu], dim=1).numpy(), "modulation": modulation}
        context = torch.rand(size[0], context_size(net.arch), generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            if net.arch.context:
                feed["context"] = context[:, :, None, None].numpy()
                expected = net.given(x, mu, 30, context)
            else:
                expected = net(x, 30)
        (output,) = session.run(["output"], feed)
        np.testing.assert_allclose(output, expected.numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_holds_all_that_it_needs(published, name: str) -> None:
    arch, model = published(name).arch, graph_of(published(name))
    onnx.checker.check_model(model, full_check=True)
    found = check_network(model.SerializeToString(), "model")
    assert (found.channels, found.modulation, found.context) == (3, modulation_size(arch), context_size(arch))
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(set(names)) == len(names)
    # What depends on time or on the features of the picture alone is an input.
    assert not any(re.search(r"time_mlp|text_mlp|prompt|attn2|norm[123]", each) for each in names)
    assert arch.prompt or not any("mlp" in each for each in names)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_copied(published, name: str) -> None:
    arch, nodes = published(name).arch, graph_of(published(name)).graph.node
    counts = Counter(node.op_type for node in nodes)
    assert counts.keys().isdisjoint({"Concat", "Resize", "Slice", "Pad", "Gather"})
    # Vectors alone are cut.
    vectors = {node.output[0] for node in nodes if "mlps.weight" in node.input} | {"modulation", "context"}
    assert {node.input[0] for node in nodes if node.op_type == "Split"} <= vectors
    assert counts["ConvTranspose"] == arch.levels - 1 + arch.half
    # A decoder's two convolutions of what is concatenated in the published code are two each.
    inputs = [node.input[1] for node in nodes if node.op_type == "Conv"]
    assert sum(each.endswith(".skip.weight") for each in inputs) == 2 * (2 * arch.levels + 1)


def test_equal_networks_are_equal_models(published) -> None:
    net = published("daclip_unet_full")
    made = [net.arch.graph(weights_of(net), GraphVariant(norm)).SerializeToString() for norm in ("raw", "layernorm")]
    assert made[0] == made[1] == graph_of(net).SerializeToString()


@pytest.mark.parametrize("arch", [
    ConditionalUNet(32, (32, 64), middle="transformer", context=4, transformers=1),
    ConditionalUNet(4, (4, 64), condition=False, middle="softmax"),
], ids=str)  # fmt: skip
def test_openvino_attends_without_a_matrix_of_all_pairs(arch: ConditionalUNet) -> None:
    openvino = pytest.importorskip("openvino")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = module_of(arch)
    core = openvino.Core()
    model = core.read_model(graph_of(net).SerializeToString())
    side, pixels = 32, 1024
    sides = {"packed": [1, 6, side, side], "modulation": [1, modulation_size(arch), 1, 1]}
    if arch.context:
        sides["context"] = [1, context_size(arch), 1, 1]
    model.reshape(sides)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    made = [tuple(output.shape) for node in compiled.get_runtime_model().get_ops() for output in node.outputs()]
    assert (1, arch.width, side, side) in made
    assert not any(shape[-2:] == (pixels, pixels) for shape in made)


def test_networks_of_other_shapes() -> None:
    for arch in (
        ConditionalUNet(4, (4, 6), channels=1),
        ConditionalUNet(32, (32, 32, 64), middle="transformer", context=5, transformers=2, prompt=True, half=True),
        ConditionalUNet(6, (6, 10, 8, 12), condition=False, middle="softmax"),
    ):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            net = module_of(arch).eval()
            for parameter in net.parameters():
                parameter.mul_(1 + 0.3 * torch.randn_like(parameter))
            x, mu = torch.rand(2, 2, arch.channels, 2 * arch.multiple, arch.multiple)
            context = torch.rand(2, context_size(arch))
            expected = net.given(x, mu, 7, context) if arch.condition else net(x, 7)
        session = onnxruntime.InferenceSession(graph_of(net).SerializeToString(), providers=["CPUExecutionProvider"])
        feed = {"packed": torch.cat([x - mu, mu], dim=1).numpy()}
        feed["modulation"] = modulation_table(net, [7.0])[:, :, None, None]
        feed |= {"context": context[:, :, None, None].numpy()} if context.numel() else {}
        (output,) = session.run(["output"], feed)
        np.testing.assert_allclose(output, expected.numpy(), rtol=0, atol=TOLERANCE)


class Halves:
    """An encoder whose features are halves of means of the picture, as long as it says."""

    side = 4

    def __init__(self, length: int) -> None:
        self.length = length

    def features(
        self, emit: Emitter, picture: str, *, image: bool = True, degradation: bool = True
    ) -> tuple[str, str]:  # fmt: skip
        names = []
        for kind, factor, wanted in (("image", 1.0, image), ("degradation", -2.0, degradation)):
            if not wanted:
                names.append("")
                continue
            key = f"encoder.{kind}.weight"
            weight = emit.weight(
                key, factor * np.linspace(-1, 1, 3 * self.length, dtype=np.float32).reshape(-1, 3, 1, 1)
            )
            pooled = emit("GlobalAveragePool", picture)
            names.append(emit("Conv", pooled, weight, kernel_shape=[1, 1], pads=[0] * 4, strides=[1, 1], group=1))
        return names[0], names[1]


@pytest.mark.parametrize("name", ["daclip_unet_full", "daclip_unet_degra", "daclip_unet_wild"])
def test_a_conditioner_gives_what_the_features_come_to(published, name: str) -> None:
    net, encoder = published(name), Halves(32)
    conditioner = net.arch.conditioner(weights_of(net), encoder)
    assert isinstance(conditioner, Conditioner)
    assert (conditioner.side, conditioner.length) == (4, context_size(net.arch))
    picture = np.random.default_rng(0).random((2, 3, 4, 4), np.float32)
    model = conditioner.graph.SerializeToString()
    (made,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"packed": picture})
    scale = torch.linspace(-1, 1, 96).reshape(32, 3)
    feature = torch.from_numpy(picture).mean(dim=(2, 3)) @ scale.T
    with torch.no_grad():
        expected = net.context(text_context=-2 * feature, image_context=feature)
    np.testing.assert_allclose(made[:, :, 0, 0], expected.numpy(), rtol=0, atol=1e-5)


def test_a_network_that_is_told_of_features_needs_its_encoder(published) -> None:
    net = published("daclip_unet_full")
    with pytest.raises(InputError, match=r"told 32 features of the picture .*give the encoder's checkpoint too"):
        net.arch.conditioner(weights_of(net))
    with pytest.raises(InputError, match="the encoder's features are of 31 numbers; the network takes 32"):
        net.arch.conditioner(weights_of(net), Halves(31))
    alone = published("irsde_unet_d2")
    assert alone.arch.conditioner(weights_of(alone)) is None
