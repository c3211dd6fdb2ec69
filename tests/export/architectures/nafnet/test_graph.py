"""The ONNX graph is the torch network in every form, on every engine, and holds all that it needs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.modulation import modulation_size, modulation_table
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.graph_variant import GATES, NORMS, GraphVariant
from mrs.export.onnx_writer import OPSET
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import InputError
from mrs.runtime.onnx_guard import check_network
from tests.random_nafnet import random_nafnet

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(19)]

SMALL = NAFNet(width=4, enc_blocks=(1, 2), mid_blocks=1, dec_blocks=(1, 1))
SHAPES = [GraphVariant(norm, gate) for norm in NORMS for gate in GATES]
TIMES = (90.0, 3.5)


def network(arch: NAFNet = SMALL) -> ConditionalNAFNet:
    """Every weight matters; as built, the gains of the residuals are zero."""
    return random_nafnet(arch, 1, scale=0.3, gains=0.3, contrast=None)


def graph_of(net: ConditionalNAFNet, **options: Any) -> onnx.ModelProto:
    return build_graph({key: value.numpy() for key, value in net.state_dict().items()}, net.arch, **options)


def example(net: ConditionalNAFNet, count: int, height: int, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """An input and the torch network's output for it at the last of TIMES."""
    channels = net.arch.channels
    packed = np.random.default_rng(0).random((count, 2 * channels, height, width), np.float32)
    difference, mu = torch.from_numpy(packed).chunk(2, dim=1)
    with torch.no_grad():
        return packed, net(difference + mu, mu, TIMES[-1]).numpy()


def run(engine: str, model: onnx.ModelProto, net: ConditionalNAFNet, packed: NDArray[Any]) -> NDArray[Any]:
    table = modulation_table(net, TIMES)
    compiled = backends.get(engine).compile(model.SerializeToString(), table, packed.shape, "fp32", CompileSettings(1))
    compiled.packed[...] = packed
    compiled.evaluate(len(TIMES) - 1)
    return compiled.output


def assert_equal(output: NDArray[Any], expected: NDArray[Any]) -> None:
    assert np.abs(output - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_form_is_the_torch_network(shape: GraphVariant, static: bool, engine: str) -> None:
    net = network()
    packed, expected = example(net, 2, 8, 12)
    model = graph_of(net, variant=shape, **({"size": (8, 12), "batch": 2} if static else {}))
    assert_equal(run(engine, model, net, packed), expected)


def test_the_blocks_matter() -> None:
    net = network()
    packed, expected = example(net, 1, 8, 8)
    for name in ("beta", "gamma"):
        without = network()
        with torch.no_grad():
            for key, parameter in without.named_parameters():
                if key.endswith(name):
                    parameter.zero_()
        output = run("onnxruntime", graph_of(without), net, packed)
        assert np.abs(output - expected).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize(
    "arch",
    [
        NAFNet(6, (1,), 0, (1,)),
        NAFNet(4, (0, 0), 1, (0, 0)),
        NAFNet(8, (0, 2, 0), 0, (1, 0, 2)),
        NAFNet(4, (), 2, ()),
        NAFNet(4, (1,), 1, (1,), channels=1),
        NAFNet(4, (1, 1, 1, 1), 1, (1, 1, 1, 1)),
    ],
    ids=["no middle", "middle only", "uneven", "no levels", "one channel", "four levels"],
)
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[-1]], ids=str)
def test_other_architectures(arch: NAFNet, shape: GraphVariant) -> None:
    net = network(arch)
    packed, expected = example(net, 1, 2 * arch.multiple, arch.multiple)
    assert_equal(run("onnxruntime", graph_of(net, variant=shape), net, packed), expected)


def test_a_dynamic_graph_takes_any_size_and_batch() -> None:
    net = network()
    session = onnxruntime.InferenceSession(graph_of(net).SerializeToString(), providers=["CPUExecutionProvider"])
    modulation = modulation_table(net, TIMES)[-1][None, :, None, None]
    for size in ((1, 4, 4), (3, 8, 20), (2, 16, 4)):
        packed, expected = example(net, *size)
        (output,) = session.run(["output"], {"packed": packed, "modulation": modulation})
        assert_equal(output, expected)


@pytest.mark.parametrize("options", [{}, {"size": (8, 12)}, {"batch": 3}, {"size": (4, 4), "batch": 1}], ids=str)
def test_inputs_and_outputs(options: dict[str, Any]) -> None:
    model = graph_of(network(), **options)
    batch = options.get("batch", "batch")
    sides = options.get("size", ("height", "width"))
    described = {
        value.name: tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*model.graph.input, *model.graph.output)
    }
    assert described == {
        "packed": (batch, 6, *sides),
        "modulation": (1, modulation_size(SMALL), 1, 1),
        "output": (batch, 3, *sides),
    }


@pytest.mark.parametrize("gate", GATES)
def test_one_layer_normalization_node_for_each_norm(gate: str) -> None:
    nodes = graph_of(network(), variant=GraphVariant("layernorm", gate)).graph.node
    norms = [node for node in nodes if node.op_type == "LayerNormalization"]
    assert len(norms) == 2 * 6
    for node in norms:
        epsilon = next(entry.f for entry in node.attribute if entry.name == "epsilon")
        assert epsilon == pytest.approx(1e-5)
    assert not any(node.op_type in ("ReduceMean", "Sqrt") for node in nodes)
    plain = graph_of(network(), variant=GraphVariant("moments", gate)).graph.node
    assert not any(node.op_type == "LayerNormalization" for node in plain)


@pytest.mark.parametrize("gate", GATES)
def test_lengths_need_no_squares(gate: str) -> None:
    def counts(norm: str) -> Counter[str]:
        return Counter(node.op_type for node in graph_of(network(), variant=GraphVariant(norm, gate)).graph.node)

    length, moments = counts("length"), counts("moments")
    # Of each of the 12 norms a mean and a square of a whole tensor go; what comes works on one channel.
    assert moments["ReduceMean"] - length["ReduceMean"] == length["ReduceL2"] == 12
    assert length["LayerNormalization"] == moments["ReduceL2"] == 0


def test_the_norm_keeps_its_epsilon() -> None:
    # On a nearly flat input the norm divides by little else than its epsilon.
    net = network()
    with torch.no_grad():
        net.intro.weight.mul_(1e-3)
        net.intro.bias.zero_()
    packed, expected = example(net, 1, 8, 8)
    for shape in SHAPES:
        assert_equal(run("onnxruntime", graph_of(net, variant=shape), net, packed), expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_model_holds_all_that_it_needs(shape: GraphVariant) -> None:
    model = graph_of(network(), variant=shape)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    # LayerNormalization came with 17.
    assert OPSET >= 17
    assert model.ir_version == 9
    check_network(model.SerializeToString(), "model")
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(set(names)) == len(names)
    onnx.checker.check_model(model, full_check=True)
    # What depends on time alone is an input, and each block's scales are in its convolutions' weights.
    assert not any("mlp" in name or name.endswith(("beta", "gamma")) for name in names)


def test_equal_networks_are_equal_models() -> None:
    assert graph_of(network()).SerializeToString() == graph_of(network()).SerializeToString()


@pytest.mark.parametrize("size", [(6, 8), (8, 10), (0, 8), (-4, 8), (1, 1)], ids=str)
def test_a_size_that_is_no_multiple(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"graph size {size[0]}x{size[1]} is not a multiple of 4"):
        graph_of(network(), size=size)


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (("batchnorm", "split"), "layernorm, moments, length, convolution, raw, not 'batchnorm'"),
        (("moments", "none"), "weights, split, not 'none'"),
    ],
    ids=str,
)
def test_a_form_that_nobody_knows(given: tuple[str, ...], known: str) -> None:
    with pytest.raises(InputError, match=rf"is unknown .*use one of {known}"):
        GraphVariant(*given)


@pytest.mark.parametrize("text", ["", "length", "length-weights-more", "a-b"])
def test_a_text_that_names_no_form(text: str) -> None:
    with pytest.raises(InputError, match="is unknown"):
        GraphVariant.parse(text)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_form_has_a_text(shape: GraphVariant) -> None:
    assert GraphVariant.parse(str(shape)) == shape


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="has no blocks"):
        graph_of(network(NAFNet(4, (0,), 0, (0,))))
