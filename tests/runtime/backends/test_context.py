"""What a network is told of the whole picture reaches the output of every engine, also where a graph is replayed."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from mrs.runtime import backends  # noqa: E402 (needs the libraries above)
from mrs.runtime.backends import Torch  # noqa: E402
from mrs.runtime.backends.onnxruntime_gpu import OnnxRuntimeGpu, installation  # noqa: E402
from mrs.runtime.backends.onnxruntime_gpu.graph import for_cuda  # noqa: E402
from mrs.runtime.backends.settings import CompileSettings  # noqa: E402
from mrs.runtime.backends.typed_graph import typed_graph  # noqa: E402
from tests import tone_network  # noqa: E402
from tests.runtime.backends.onnxruntime_double import Gpu, module_for  # noqa: E402
from tests.tone_network import LENGTH, Net  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = (2, 6, 8, 12)
TIMES = (40.0, 10.0)
PACKED = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
CONTEXTS = np.random.default_rng(1).standard_normal((3, 2, LENGTH), np.float32)


@pytest.fixture(scope="module")
def net() -> Net:
    return tone_network.drawn()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """With the double of ONNX Runtime on it, in place of the module."""
    made = Gpu()
    monkeypatch.setitem(sys.modules, "onnxruntime", module_for(made))
    monkeypatch.setattr(Torch, "precisions", lambda _: ("fp32", "bf16", "fp16"))
    return made


def expected(net: Net, context: Any, step: int) -> Any:
    packed = torch.from_numpy(PACKED)
    with torch.no_grad():
        return net(packed[:, :3] + packed[:, 3:], packed[:, 3:], TIMES[step], torch.from_numpy(context)).numpy()


def check(net: Net, network: Any, wait: Any = lambda: None, error: float = 1e-5) -> None:
    """Evaluate with one context after the other."""
    assert tuple(network.context.shape) == (2, LENGTH, 1, 1)
    assert not network.context.any()
    for step, context in ((0, CONTEXTS[0]), (0, CONTEXTS[1]), (1, CONTEXTS[1]), (1, CONTEXTS[2])):
        wait()
        for buffer, given in ((network.packed, PACKED), (network.context, context[:, :, None, None])):
            buffer[...] = given if isinstance(buffer, np.ndarray) else torch.from_numpy(given)
        network.evaluate(step)
        wait()
        wanted = expected(net, context, step)
        found = network.output if isinstance(network.output, np.ndarray) else network.output.float().numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=error * np.abs(wanted).max())
        assert np.abs(wanted - expected(net, CONTEXTS[1] + 1, step)).max() > 0.1 * np.abs(wanted).max()


def compiled(engine: Any, net: Net, precision: str = "fp32") -> Any:
    vectors = net.arch.modulation(net, TIMES)
    return engine.compile(tone_network.graph_of(net), vectors, SHAPE, precision, CompileSettings(1))


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_of_engines_for_cpus(net: Net, name: str) -> None:
    if backends.get(name).missing():
        pytest.skip(str(backends.get(name).missing()))
    check(net, compiled(backends.get(name), net))


@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-5), ("bf16", 3e-2)])
def test_of_torch(net: Net, precision: str, error: float) -> None:
    check(net, compiled(Torch("torch", compiled=False, place="cpu"), net, precision), error=error)


@pytest.mark.parametrize("provider", [installation.CUDA, installation.TENSORRT])
@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-5), ("fp16", 5e-3)])
def test_of_onnxruntime_on_a_gpu(net: Net, gpu: Gpu, provider: str, precision: str, error: float) -> None:
    engine = OnnxRuntimeGpu("onnxruntime-cuda", provider, lambda: gpu)
    check(net, compiled(engine, net, precision), lambda: gpu.wait(gpu.default), error)


def test_a_network_that_is_told_nothing_has_none(tiny, gpu: Gpu) -> None:
    engine = OnnxRuntimeGpu("onnxruntime-cuda", installation.CUDA, lambda: gpu)
    for each in (engine, Torch("torch", compiled=False, place="cpu")):
        assert each.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)).context is None


@pytest.mark.parametrize(("sides", "batch"), [((2, 8, 12), 2), ((None, None, None), 0)], ids=["fixed", "any"])
def test_the_typed_graph_has_it_in_float32_for_the_same_batch(net: Net, sides: Any, batch: int) -> None:
    model = onnx.load_from_string(typed_graph(tone_network.graph_of(net), "fp16", sides))
    context = next(value for value in model.graph.input if value.name == "context").type.tensor_type
    assert context.elem_type == onnx.TensorProto.FLOAT
    assert [side.dim_value for side in context.shape.dim] == [batch, LENGTH, 1, 1]
    onnx.checker.check_model(model, full_check=True)


def test_a_modulation_that_is_not_split_stays_one_input(net: Net) -> None:
    typed = typed_graph(tone_network.graph_of(net), "fp32", (2, 8, 12))
    assert for_cuda(typed, "fp32") == onnx.load_from_string(typed).SerializeToString()
