"""Graphs around the network on GPUs: DA-CLIP's encoder as every engine runs it, on the device's memory."""

from __future__ import annotations

import sys
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from mrs.export.architectures import load_checkpoint  # noqa: E402 (needs the libraries above)
from mrs.export.architectures.clip import graph as clip_graph  # noqa: E402 (needs the libraries above)
from mrs.export.architectures.clip import load_encoder, read_encoder  # noqa: E402
from mrs.export.architectures.latent_unet import read_autoencoder  # noqa: E402
from mrs.export.onnx_writer import Emitter  # noqa: E402
from mrs.numerics.schedule import Schedule  # noqa: E402
from mrs.numerics.solver import Solver  # noqa: E402
from mrs.numerics.tableau import tableau  # noqa: E402
from mrs.runtime import backends  # noqa: E402
from mrs.runtime.backends import Torch, torch_compiler  # noqa: E402
from mrs.runtime.backends.onnx_graph import with_sides  # noqa: E402
from mrs.runtime.backends.onnxruntime_gpu import OnnxRuntimeGpu, installation  # noqa: E402
from mrs.runtime.backends.openvino import OpenVino  # noqa: E402
from mrs.runtime.backends.settings import CompileSettings  # noqa: E402
from mrs.runtime.errors import BackendError  # noqa: E402
from mrs.runtime.session import Restorer  # noqa: E402
from tests import tone_network  # noqa: E402
from tests.export.architectures.clip.test_encoder import HEADS  # noqa: E402
from tests.golden.networks import golden, weights  # noqa: E402
from tests.runtime.backends.onnxruntime_double import Gpu, module_for  # noqa: E402
from tests.runtime.latent_plans import latent_plan  # noqa: E402

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(30)]

NAME, OTHER = HEADS


def encoder_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, halved: bool) -> tuple[bytes, int]:
    """Both features, added, and the side of the picture."""
    if halved:
        monkeypatch.setattr(clip_graph, "LARGEST", 0)
    net = load_encoder(weights(f"{NAME}.pt", tmp_path), HEADS[NAME])
    emit, state = Emitter(), {key: value.numpy() for key, value in net.state_dict().items()}
    emit("Add", *clip_graph.features(emit, state, net.arch, "packed", normalised=True), output="output")
    side, length = net.arch.side, net.arch.length
    model = emit.model("encoder", {"packed": ["batch", 3, side, side]}, ["batch", length, 1, 1])
    return bytes(model.SerializeToString()), side


@pytest.fixture(params=[False, True], ids=["whole", "halved"])
def graph(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """With matrices in float32, or kept in half precision."""
    made, _ = encoder_graph(tmp_path, monkeypatch, request.param)
    types = {tensor.data_type for tensor in onnx.load_from_string(made).graph.initializer}
    assert (onnx.TensorProto.FLOAT16 in types) == request.param
    return made


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """With the double of ONNX Runtime on it, in place of the module."""
    made = Gpu()
    monkeypatch.setitem(sys.modules, "onnxruntime", module_for(made))
    return made


def check(graph: bytes, engine: Any, given: Any, wait: Any = lambda: None) -> None:
    """Evaluate for one picture after the other, in the tensor that it was compiled for: the published features."""
    arrays = golden(NAME)
    pictures = arrays["image"][:, None]
    wanted = list((arrays["image_features"] + arrays["degra_features"])[:, None, :, None, None])
    halved = any(
        tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in onnx.load_from_string(graph).graph.initializer
    )
    error = 3e-3 if halved else 2e-5
    made = engine.compile_graph(graph, {"packed": given}, {"batch": 1}, CompileSettings(1))
    assert list(made.outputs) == ["output"]
    output = made.outputs["output"]
    assert (tuple(output.shape), output.dtype, output.is_contiguous()) == (wanted[0].shape, torch.float32, True)
    address = output.data_ptr()
    for picture, each in [*zip(pictures, wanted, strict=True), (pictures[0], wanted[0])]:
        wait()
        given.copy_(torch.from_numpy(picture.copy()))
        made.evaluate()
        wait()
        np.testing.assert_allclose(output.numpy(), each, rtol=0, atol=error * np.abs(each).max())
    assert made.outputs["output"].data_ptr() == address
    assert np.abs(wanted[0] - wanted[-1]).max() > 1e-3


def check_conditioner(tmp_path: Path, engine: Any, upload: Any, wait: Any = lambda: None) -> None:
    """DA-CLIP's whole conditioner, prompt and projections included, against an engine for CPUs."""
    net: Any = load_checkpoint(weights("daclip_unet_full.pth", tmp_path))
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    encoder = read_encoder(weights(f"{OTHER}.pt", tmp_path), HEADS[OTHER])
    graph = net.arch.conditioner(state, encoder).graph.SerializeToString()
    pictures = np.random.default_rng(0).random((2, 3, encoder.side, encoder.side), np.float32)
    given = upload(np.zeros_like(pictures[:1]))
    cpu = OpenVino().compile(graph, np.zeros((1, 0), np.float32), pictures[:1].shape, "fp32", CompileSettings(1))
    made = engine.compile_graph(graph, {"packed": given}, {"batch": 1}, CompileSettings(1))
    for picture in pictures:
        cpu.packed[0] = picture
        cpu.evaluate(0)
        wait()
        given.copy_(torch.from_numpy(picture[None]))
        made.evaluate()
        wait()
        wanted = cpu.output
        np.testing.assert_allclose(made.outputs["output"].numpy(), wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def zeros() -> Any:
    return torch.zeros(golden(NAME)["image"][:1].shape)


def test_of_torch(graph: bytes) -> None:
    check(graph, Torch("torch", compiled=False, place="cpu"), zeros())


def test_of_torch_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and guarded as always, and then run as it is."""
    graph, _ = encoder_graph(tmp_path, monkeypatch, False)
    traced: list[Any] = []

    def backend(made: Any, examples: Any) -> Any:
        traced.append(made)
        return made.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    monkeypatch.setattr(torch_compiler, "_KEPT", OrderedDict())
    check(graph, Torch("torch", compiled=True, place="cpu"), zeros())
    assert len(traced) == 1
    torch.compiler.reset()


def test_a_conditioner_of_torch(tmp_path: Path) -> None:
    check_conditioner(tmp_path, Torch("torch", compiled=False, place="cpu"), torch.from_numpy)


def test_a_conditioner_of_onnxruntime_on_a_gpu(tmp_path: Path, gpu: Gpu) -> None:
    engine = OnnxRuntimeGpu("onnxruntime-cuda", installation.CUDA, lambda: gpu)
    check_conditioner(tmp_path, engine, gpu.upload, lambda: gpu.wait(gpu.default))


@pytest.mark.parametrize("provider", [installation.CUDA, installation.TENSORRT])
def test_of_onnxruntime_on_a_gpu(graph: bytes, gpu: Gpu, provider: str) -> None:
    given = gpu.upload(zeros().numpy())
    engine = OnnxRuntimeGpu("onnxruntime-cuda", provider, lambda: gpu)
    check(graph, engine, given, lambda: gpu.wait(gpu.default))


def test_of_onnxruntime_on_a_gpu_it_waits_for_the_caller_and_the_caller_for_it(graph: bytes, gpu: Gpu) -> None:
    given = gpu.upload(golden(NAME)["image"][:1])
    engine = OnnxRuntimeGpu("onnxruntime-cuda", installation.CUDA, lambda: gpu)
    made = engine.compile_graph(graph, {"packed": given}, {"batch": 1}, CompileSettings(1))
    stream = gpu.stream()
    gpu.taken_log()
    with gpu.on(stream):
        made.evaluate()
    first, run, last = gpu.taken_log()
    own = run.split(":")[0]
    assert (first, run, last) == (f"{own} follows {stream.name}", f"{own}: network", f"{stream.name} follows {own}")


def test_a_failure_says_where(graph: bytes, gpu: Gpu) -> None:
    given = gpu.upload(zeros().numpy())
    engine = OnnxRuntimeGpu("onnxruntime-cuda", installation.CUDA, lambda: gpu)
    made = engine.compile_graph(graph, {"packed": given}, {"batch": 1}, CompileSettings(1))
    module: Any = sys.modules["onnxruntime"]
    module.failing = RuntimeError("out of luck")
    with pytest.raises(BackendError, match=r"^onnxruntime-cuda failed around the network: out of luck"):
        made.evaluate()
    module.broken = RuntimeError("no such kernel")
    with pytest.raises(BackendError, match=r"^onnxruntime-cuda cannot compile a graph around the network: no such"):
        engine.compile_graph(graph, {"packed": given}, {"batch": 1}, CompileSettings(1))


def test_a_graph_that_torch_does_not_know_is_refused() -> None:
    emit = Emitter()
    emit("Tanh", "packed", output="output")
    graph = emit.model("odd", {"packed": ["batch", 3, 4, 4]}, ["batch", 3, 4, 4]).SerializeToString()
    with pytest.raises(BackendError, match="torch does not know the graph's operation Tanh"):
        Torch("torch", compiled=False, place="cpu").compile_graph(graph, {"packed": zeros()}, {}, CompileSettings(1))


def test_sides_are_fixed_by_name(graph: bytes) -> None:
    model = onnx.load_from_string(with_sides(graph, {"batch": 3, "other": 5}))
    sides = [value.type.tensor_type.shape.dim[0].dim_value for value in (*model.graph.input, *model.graph.output)]
    assert sides == [3, 3]


# The autoencoder of latents: many outputs, and inputs that others have made.


def check_autoencoder(tmp_path: Path, engine: Any, upload: Any, wait: Any = lambda: None) -> None:
    """Encoder and decoder, the one's outputs the other's inputs, where they are."""
    coder = read_autoencoder(weights("latent_unet.pth", tmp_path))
    given = np.random.default_rng(0).random((2, 1, 3, 16, 24), np.float32)
    sides = {"batch": 1, "height": 16, "width": 24, "height_2": 8, "width_2": 12, "height_4": 4, "width_4": 6}

    def made_by(maker: Any, picture: Any) -> tuple[Any, Any]:
        encoder, decoder = coder.graphs()
        first = maker.compile_graph(encoder, {"picture": picture}, sides, CompileSettings(1))
        return first, maker.compile_graph(decoder, dict(first.outputs), sides, CompileSettings(1))

    seen, picture = np.zeros_like(given[0]), upload(np.zeros_like(given[0]))
    cpu, ours = made_by(OpenVino(), seen), made_by(engine, picture)
    for each in given:
        wait()
        seen[...] = each
        picture.copy_(torch.from_numpy(each))
        for one, other in zip(cpu, ours, strict=True):
            one.evaluate()
            other.evaluate()
            wait()
            assert set(one.outputs) == set(other.outputs)
            for name, wanted in one.outputs.items():
                np.testing.assert_allclose(other.outputs[name].numpy(), wanted, rtol=0, atol=1e-5, err_msg=name)


def test_an_autoencoder_of_torch(tmp_path: Path) -> None:
    check_autoencoder(tmp_path, Torch("torch", compiled=False, place="cpu"), torch.from_numpy)


def test_an_autoencoder_of_onnxruntime_on_a_gpu(tmp_path: Path, gpu: Gpu) -> None:
    engine = OnnxRuntimeGpu("onnxruntime-cuda", installation.CUDA, lambda: gpu)
    check_autoencoder(tmp_path, engine, gpu.upload, lambda: gpu.wait(gpu.default))


def test_a_restore_on_onnxruntime_looks_at_the_picture(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's stream and the conditioner's are tied by events; nothing is captured by us."""
    monkeypatch.setattr(Torch, "precisions", lambda _: ("fp32",))
    engine = OnnxRuntimeGpu("onnxruntime-cuda", installation.CUDA, lambda: gpu)
    monkeypatch.setattr(engine, "missing", lambda: None)
    monkeypatch.setitem(backends.BACKENDS, "onnxruntime-cuda", engine)
    net, table = tone_network.drawn(), tableau(Schedule(T=50, max_sigma=30.0), Solver(steps=3), "data")
    picture = np.random.default_rng(5).random((16, 18, 3), np.float32)
    with Restorer(tone_network.plan_of(net, table, "onnxruntime-cuda", (1, 16, 18)), device=gpu, threads=1) as restorer:
        for given in (picture, picture * np.float32(0.3)):
            wanted = tone_network.by_reference(net, table, given, tone_network.context_of(net, given), seed=3)
            np.testing.assert_allclose(restorer.restore(given, 3), wanted, rtol=0, atol=2e-5)
            found = restorer.restore(gpu.upload(given), 3)
            restorer.synchronize()
            gpu.wait(gpu.default)
            np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=2e-5)
    assert gpu.captures == 0


def test_a_restore_on_onnxruntime_by_way_of_latents(gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three sessions on three streams, tied by events."""
    monkeypatch.setattr(Torch, "precisions", lambda _: ("fp32",))
    engine = OnnxRuntimeGpu("onnxruntime-cuda", installation.CUDA, lambda: gpu)
    monkeypatch.setattr(engine, "missing", lambda: None)
    monkeypatch.setitem(backends.BACKENDS, "onnxruntime-cuda", engine)
    given = np.random.default_rng(5).random((2, 1, 13, 22, 3), np.float32)
    plan = latent_plan(tmp_path, "onnxruntime-cuda")
    with Restorer(plan, backend="openvino", threads=1) as restorer:
        wanted = [restorer.restore(each, 3) for each in given]
    with Restorer(plan, device=gpu, threads=1) as restorer:
        for each, expected in zip(given, wanted, strict=True):
            np.testing.assert_allclose(restorer.restore(each, 3), expected, rtol=0, atol=2e-5)
            found = restorer.restore(gpu.upload(each), 3)
            restorer.synchronize()
            gpu.wait(gpu.default)
            np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-5)
    assert gpu.captures == 0
