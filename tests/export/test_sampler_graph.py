"""The sampler's one graph restores what the runtime's loop restores, on both engines, and holds its weights once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.sampler_graph import build_sampler
from mrs.kernels.noise import normal
from mrs.kernels.table import Table
from mrs.numerics.methods import METHODS
from mrs.numerics.reference import sample
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Loop
from mrs.runtime.cpu_chain import CpuChain
from mrs.runtime.errors import InputError
from tests.export.samplers import on_onnxruntime, picture_of
from tests.random_nafnet import nafnet_graph, random_nafnet

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(22)]

SMALL = NAFNet(width=4, enc_blocks=(1, 1), mid_blocks=1, dec_blocks=(1, 1))
# For OpenVINO, which compiles each step anew: as many levels, all kinds of nodes, one block.
ONE_BLOCK = NAFNet(width=4, enc_blocks=(0, 0), mid_blocks=1, dec_blocks=(0, 0))
SEED = 5
SOLVERS = {
    "ode-1": Solver(order=1, steps=3),
    "ode-2": Solver(order=2, steps=4),
    "ode-3": Solver(order=3, steps=5),
    "sde-2": Solver(method="sde", steps=4),
    "posterior": Solver(method="posterior", order=1, steps=4, clamp="unit"),
    "unipc": Solver(method="unipc-b2", order=3, steps=5),
    "ghvb": Solver(method="ghvb", order=4, steps=7, momentum=0.4),
    "noise prediction": Solver(steps=3, prediction="noise"),
    "threshold": Solver(steps=3, clamp="threshold"),
    "one step": Solver(order=1, steps=1),
}


@cache
def network(arch: NAFNet = SMALL) -> ConditionalNAFNet:
    """Blocks and times matter, and pictures are neither black nor white."""
    return random_nafnet(arch, seed=1)


def table_of(solver: Solver) -> Table:
    return tableau(Schedule(), solver, "data")


def sampler(net: ConditionalNAFNet, table: Table, **options: Any) -> onnx.ModelProto:
    loop = Loop(table, modulation_table(net, table.times[:-1]))
    return build_sampler(nafnet_graph(net), loop, net.arch.multiple, **options)


def noise_of(table: Table, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the runtime draws from SEED, in the form that the graph takes."""
    count, height, width, channels = picture.shape
    draws = [0, *(step + 1 for step, row in enumerate(table.rows) if row.n)]
    return np.stack([normal(SEED, draw, (count, channels, height, width)) for draw in draws])


def by_chain(net: ConditionalNAFNet, table: Table, picture: NDArray[np.uint8], dtype: type) -> NDArray[Any]:
    """What the runtime's loop gives."""
    count, height, width, channels = picture.shape
    sides = (-(-side // net.arch.multiple) * net.arch.multiple for side in (height, width))
    compiled = backends.get("onnxruntime").compile(
        nafnet_graph(net).SerializeToString(), modulation_table(net, table.times[:-1]), (count, 2 * channels, *sides),
        "fp32", CompileSettings(1),
    )  # fmt: skip
    chain = CpuChain(compiled, table, 1)
    return chain.restore_into(picture, np.empty(picture.shape, dtype), SEED)


def on_openvino(model: onnx.ModelProto, feeds: dict[str, NDArray[Any]], static: bool = True) -> NDArray[Any]:
    import openvino

    core = openvino.Core()
    read = core.read_model(model.SerializeToString())
    if static:
        read.reshape({name: list(array.shape) for name, array in feeds.items()})
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    return np.array(compiled(feeds)["restored"])


ENGINES: dict[str, Callable[..., NDArray[Any]]] = {"onnxruntime": on_onnxruntime, "openvino": on_openvino}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SOLVERS)
def test_restores_what_the_loop_restores(name: str, engine: str) -> None:
    table, picture = table_of(SOLVERS[name]), picture_of(2, 9, 14)
    feeds = {"picture": picture, "noise": noise_of(table, picture)}
    net = network(ONE_BLOCK)
    restored = ENGINES[engine](sampler(net, table, result="float32"), feeds)
    expected = by_chain(net, table, picture, np.float32)
    np.testing.assert_allclose(restored, expected, rtol=0, atol=2e-5)
    # Neither all black nor all white: then everything would be equal.
    assert expected.std() > 0.05


@pytest.mark.parametrize(
    ("method", "order"), [(name, order) for name, each in METHODS.items() for order in each.orders]
)
def test_every_method_is_the_reference_loop(method: str, order: int) -> None:
    option = {"momentum": {"momentum": 0.3}, "stochasticity": {"stochasticity": 0.7}}.get(METHODS[method].option, {})
    table, picture = table_of(Solver(method, order, steps=5, **option)), picture_of(1, 8, 8)
    noise = noise_of(table, picture)
    draws = iter(noise[1:])
    aligned = [next(draws) if row.n else noise[0] for row in table.rows]
    net = network()

    def denoise(x: NDArray[Any], mu: NDArray[Any], t: float) -> NDArray[Any]:
        with torch.no_grad():
            return net(torch.from_numpy(x), torch.from_numpy(mu), t).numpy()

    mu = np.ascontiguousarray(picture.transpose(0, 3, 1, 2)) / np.float32(255)
    expected = sample(denoise, mu, table, noise=aligned, init_noise=noise[0]).transpose(0, 2, 3, 1)
    restored = on_onnxruntime(sampler(net, table, result="float32"), {"picture": picture, "noise": noise})
    np.testing.assert_allclose(restored, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [(1, 8, 12), (1, 1, 1), (3, 7, 9), (1, 13, 4)], ids=str)
def test_levels_of_any_size_and_batch(size: tuple[int, int, int], engine: str) -> None:
    table, picture, net = table_of(SOLVERS["sde-2"]), picture_of(*size), network(ONE_BLOCK)
    restored = ENGINES[engine](sampler(net, table), {"picture": picture, "noise": noise_of(table, picture)})
    expected = by_chain(net, table, picture, np.uint8)
    assert (restored.dtype, restored.shape) == (np.uint8, picture.shape)
    # Round-off may move a value over the middle between two levels.
    difference = np.abs(restored.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.01


def test_one_compiled_model_takes_all_sizes() -> None:
    table, model = table_of(SOLVERS["sde-2"]), sampler(network(), table_of(SOLVERS["sde-2"]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in ((1, 8, 8), (2, 5, 11)):
        picture = picture_of(*size)
        (restored,) = session.run(None, {"picture": picture, "noise": noise_of(table, picture)})
        assert np.abs(restored.astype(int) - by_chain(network(), table, picture, np.uint8)).max() <= 1


def test_openvino_takes_a_size_that_it_was_not_told_before() -> None:
    table, picture = table_of(SOLVERS["ode-2"]), picture_of(1, 7, 10)
    feeds = {"picture": picture, "noise": noise_of(table, picture)}
    restored = on_openvino(sampler(network(), table), feeds, static=False)
    assert np.abs(restored.astype(int) - by_chain(network(), table, picture, np.uint8)).max() <= 1


@pytest.mark.parametrize("engine", ENGINES)
def test_halves_go_to_the_even_level(engine: str) -> None:
    # The one row's x' is mu: 255 x is a whole number and a half for no picture, so the rounding is asked for itself.
    model = sampler(network(), table_of(SOLVERS["one step"]))
    rounds = [node for node in model.graph.node if node.op_type == "Round"]
    assert len(rounds) == 1
    values = np.array([0.5, 1.5, 2.5, 253.5, 254.5], np.float32)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Round", ["picture"], ["restored"])], "round",
        [info("picture", onnx.TensorProto.FLOAT, [5])], [info("restored", onnx.TensorProto.FLOAT, [5])],
    )  # fmt: skip
    alone = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=9)
    np.testing.assert_array_equal(ENGINES[engine](alone, {"picture": values}), np.rint(values))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (11, 41), (67, 67)], ids=str)
def test_the_threshold_is_the_runtimes(size: tuple[int, int]) -> None:
    """Ranks with and without a fraction, of few and of many values, each picture with its own."""
    table, picture = table_of(SOLVERS["threshold"]), picture_of(2, *size)
    picture[1] //= 2
    feeds = {"picture": picture, "noise": 2 * noise_of(table, picture)}
    expected = sample(
        lambda x, mu, t: 4 * (x - mu),
        picture.transpose(0, 3, 1, 2) / np.float32(255),
        table,
        init_noise=feeds["noise"][0],
    )
    restored = on_onnxruntime(linear(table), feeds)
    np.testing.assert_allclose(restored, expected.transpose(0, 2, 3, 1), rtol=0, atol=1e-5)


def linear(table: Table) -> onnx.ModelProto:
    """A sampler whose network gives 4 (x - mu)."""
    helper = onnx.helper
    sides = ["batch", 3, "height", "width"]
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["packed", "low", "high", "axis"], ["difference"]),
            helper.make_node("Mul", ["difference", "four"], ["output"]),
        ],
        "linear",
        [
            helper.make_tensor_value_info("packed", onnx.TensorProto.FLOAT, ["batch", 6, "height", "width"]),
            helper.make_tensor_value_info("modulation", onnx.TensorProto.FLOAT, [1, 1, 1, 1]),
        ],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, sides)],
        [
            onnx.numpy_helper.from_array(np.array(value), name)
            for name, value in (("low", [0]), ("high", [3]), ("axis", [1]), ("four", np.float32(4)))
        ],
    )
    loop = Loop(table, np.zeros((len(table.rows), 1), np.float32))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return build_sampler(model, loop, 1, result="float32")


# The file


@pytest.mark.parametrize("name", ["ode-2", "sde-2", "posterior"])
def test_inputs_and_outputs(name: str) -> None:
    table = table_of(SOLVERS[name])
    graph = sampler(network(), table).graph
    described = {
        value.name: (value.type.tensor_type.elem_type,
                     *(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim))
        for value in (*graph.input, *graph.output)
    }  # fmt: skip
    picture = (onnx.TensorProto.UINT8, "batch", "height", "width", 3)
    assert described == {
        "picture": picture,
        "noise": (onnx.TensorProto.FLOAT, 1 + table.draws, "batch", 3, "height", "width"),
        "restored": picture,
    }


def test_weights_are_there_once() -> None:
    sizes = {}
    for steps in (2, 12):
        table = table_of(Solver(steps=steps))
        model = sampler(network(), table)
        names = [tensor.name for tensor in model.graph.initializer]
        assert len(set(names)) == len(names)
        weights = {tensor.name for tensor in nafnet_graph(network()).graph.initializer if len(tensor.dims) > 1}
        assert len(weights) > 20
        assert weights <= set(names)
        sizes[steps] = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    own = modulation_table(network(), [1.0]).nbytes + sum(
        len(tensor.raw_data) for tensor in nafnet_graph(network()).graph.initializer if len(tensor.dims) == 1
    )
    # Ten further steps bring their modulation, biases and some twenty numbers each.
    assert sizes[12] - sizes[2] <= 10 * (own + 100)


def test_each_bias_has_one_reader() -> None:
    """OpenVINO does not add one that is shared within its convolution."""
    model = sampler(network(), table_of(SOLVERS["ode-2"]))
    biases = [node.input[2] for node in model.graph.node if node.op_type == "Conv" and len(node.input) == 3]
    assert len(biases) > 4 * 20
    assert len(set(biases)) == len(biases)


def test_the_model_holds_all_that_it_needs() -> None:
    model = sampler(network(), table_of(SOLVERS["threshold"]), metadata={"steps": "3", "solver": '{"order": 2}'})
    onnx.checker.check_model(model, full_check=True)
    assert not model.functions
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    attributes = {each.type for node in model.graph.node for each in node.attribute}
    assert attributes.isdisjoint({onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS, onnx.AttributeProto.TENSOR})
    assert (model.ir_version, model.opset_import[0].version, len(model.opset_import)) == (9, 18, 1)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"steps": "3", "solver": '{"order": 2}'}
    # No constant that nothing reads: engines warn of those.
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read


def test_every_value_of_the_network_has_its_shape() -> None:
    """Without them ONNX Runtime loads in a time that grows with the square of the steps."""
    net = network(NAFNet(4, (1, 1, 1), 1, (1, 1, 1)))
    model = sampler(net, table_of(SOLVERS["ode-2"]))
    shapes = {
        value.name: tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in model.graph.value_info
    }
    made = [name for node in model.graph.node for name in node.output if name.startswith("step_")]
    assert set(made) <= set(shapes)
    assert all(all(shapes[name]) and len(shapes[name]) == 4 for name in made)
    assert {"padded_height", "padded_height/2", "padded_height/4", "padded_height/8"} <= {
        dim for shape in shapes.values() for dim in shape
    }


def test_equal_samplers_are_equal_models() -> None:
    table = table_of(SOLVERS["sde-2"])
    assert sampler(network(), table).SerializeToString() == sampler(network(), table).SerializeToString()


def test_pictures_of_one_channel() -> None:
    net = network(NAFNet(4, (1,), 1, (1,), channels=1))
    table, picture = table_of(SOLVERS["ode-2"]), picture_of(1, 5, 6, channels=1)
    restored = on_onnxruntime(sampler(net, table), {"picture": picture, "noise": noise_of(table, picture)})
    assert np.abs(restored.astype(int) - by_chain(net, table, picture, np.uint8)).max() <= 1


@pytest.mark.parametrize(("clamp", "result"), [("255", "uint8"), ("unit", "float16")])
def test_what_nobody_knows(clamp: str, result: str) -> None:
    loop = Loop(replace(table_of(SOLVERS["ode-2"]), start=1.0, clamp=clamp), np.zeros((4, 8), np.float32))
    with pytest.raises(InputError, match=rf"clamp '{clamp}' or result '{result}' is unknown .*threshold.*float32"):
        build_sampler(nafnet_graph(network()), loop, 4, result=result)
