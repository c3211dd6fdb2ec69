"""ONNX Runtime's networks on the double of a GPU: alone, and in a chain that launches what it cannot capture."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.runtime.backends.settings import CompileSettings, EngineOptions

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
real = pytest.importorskip("onnxruntime")

from mrs.kernels import threads  # noqa: E402 (needs the libraries above)
from mrs.runtime.backends.onnxruntime import OnnxRuntime  # noqa: E402
from mrs.runtime.backends.onnxruntime_gpu import OnnxRuntimeGpu, backend, installation  # noqa: E402
from mrs.runtime.backends.torch import Torch  # noqa: E402
from mrs.runtime.errors import BackendError, DeviceMemoryError  # noqa: E402
from tests.runtime.backends.onnxruntime_double import OPTIONS, Gpu, module_for  # noqa: E402

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(6)]
SHAPE = (2, 6, 16, 24)
TO_ARRAY = onnx.numpy_helper.to_array
PROVIDERS = {"onnxruntime-cuda": installation.CUDA, "onnxruntime-tensorrt": installation.TENSORRT}


@pytest.fixture
def gpu() -> Gpu:
    return Gpu()


@pytest.fixture
def runtime(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The double of ONNX Runtime, in place of the module."""
    module = module_for(gpu)
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    monkeypatch.setattr(Torch, "precisions", lambda _: ("fp32", "bf16", "fp16"))
    return module


@pytest.fixture(params=PROVIDERS)
def engine(request: pytest.FixtureRequest, gpu: Gpu, runtime: Any) -> OnnxRuntimeGpu:
    return OnnxRuntimeGpu(request.param, PROVIDERS[request.param], lambda: gpu)


@pytest.fixture(scope="module")
def packed() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(SHAPE, np.float32)


def output(gpu: Gpu, network: Any, packed: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    """What a network gives to whoever works on the default stream."""
    gpu.wait(gpu.default)
    network.packed.copy_(torch.from_numpy(packed))
    network.output.fill_(float("nan"))
    network.evaluate(step)
    gpu.wait(gpu.default)
    return network.output.float().numpy().copy()


def compiled_for_cpu(graph: bytes, modulation: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", real)
        return OnnxRuntime().compile(graph, modulation, SHAPE, "fp32", CompileSettings(1))


def by_cpu(graph: bytes, modulation: Any, packed: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    network = compiled_for_cpu(graph, modulation)
    network.packed[...] = packed
    network.evaluate(step)
    return network.output.copy()


def test_every_step_has_its_own_modulation_at_one_address(engine, gpu, tiny, packed) -> None:
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    for step in (2, 0, 0, 1, 2):
        wanted = by_cpu(tiny.graph, tiny.modulation, packed, step)
        np.testing.assert_allclose(output(gpu, network, packed, step), wanted, rtol=0, atol=1e-5)


def test_a_row_is_copied_before_each_run_and_nothing_waits(engine, gpu, tiny) -> None:
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    gpu.taken_log()
    with gpu.on(network.stream):
        network.evaluate(1)
        network.evaluate(2)
    name = network.stream.name
    assert gpu.taken_log() == [f"{name}: copy", f"{name}: network"] * 2


def test_another_stream_is_followed_and_follows(engine, gpu, tiny) -> None:
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    gpu.taken_log()
    network.evaluate(0)
    name = network.stream.name
    assert gpu.taken_log() == [
        f"{name} follows default", f"{name}: copy", f"{name}: network", f"default follows {name}",
    ]  # fmt: skip


def test_other_threads_replay_the_same_graph(engine, gpu, tiny, packed) -> None:
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    wanted, found = output(gpu, network, packed, 1), []
    thread = threading.Thread(target=lambda: found.append(output(gpu, network, packed, 1)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], wanted)


def test_buffers_are_empty_planes_of_the_precision(engine, tiny) -> None:
    for precision, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        network = engine.compile(tiny.graph, tiny.modulation, SHAPE, precision, CompileSettings(1))
        assert (tuple(network.packed.shape), tuple(network.output.shape)) == (SHAPE, (2, 3, 16, 24))
        for buffer in (network.packed, network.output):
            assert buffer.dtype == dtype
            assert buffer.is_contiguous()
            assert not buffer.any()


def test_float16_is_near_float32(engine, gpu, tiny, packed) -> None:
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp16", CompileSettings(1))
    wanted = by_cpu(tiny.graph, tiny.modulation, packed, 0)
    error = np.abs(output(gpu, network, packed, 0) - wanted).max() / np.abs(wanted).max()
    assert 1e-5 < error < 5e-3


@pytest.mark.parametrize("count", [3, 1])
def test_a_retimed_network_is_one_compiled_for_these_times(engine, gpu, runtime, tiny, packed, count: int) -> None:
    times = tiny.modulation[::-1][:count]
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    sessions = len(runtime.log)
    network.retime(times)
    assert len(runtime.log) == sessions
    for step in range(count):
        wanted = by_cpu(tiny.graph, times, packed, step)
        np.testing.assert_allclose(output(gpu, network, packed, step), wanted, rtol=0, atol=1e-5)
    with pytest.raises(BackendError, match=f"{engine.name} failed at step {count}: "):
        network.evaluate(count)


def test_a_network_that_is_dropped_lets_go_of_its_session_and_thread(engine, tiny) -> None:
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    # The thread ends with the second: see tests/kernels/test_threads.py.
    known = weakref.ref(network._session), weakref.ref(network._thread)
    del network
    gc.collect()
    end = time.monotonic() + 120
    while any(each() is not None for each in known):
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("where", ["another thread", "the thread that captures"])
def test_a_network_that_is_dropped_while_another_captures_waits_for_that(engine, runtime, tiny, where: str) -> None:
    kept = [engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))]
    session = weakref.ref(kept[0]._session)

    def drop() -> None:
        if where == "another thread":
            thread = threading.Thread(target=kept.clear)
            thread.start()
            thread.join(60)
        else:
            kept.clear()
        assert session() is not None

    runtime.during = drop
    other = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    assert runtime.died == []
    end = time.monotonic() + 60
    while session() is not None and time.monotonic() < end:
        time.sleep(0.01)
    assert session() is None
    assert runtime.died == []
    # Without a capture it is gone at once, and its memory with it.
    session = weakref.ref(other._session)
    del other
    assert session() is None


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_while_a_session_captures(engine, runtime, tiny, enabled: bool) -> None:
    """It may hold graphs of whoever."""
    seen: list[bool] = []
    runtime.during = lambda: seen.append(gc.isenabled())
    (gc.enable if enabled else gc.disable)()
    try:
        network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        assert seen == [False]
        assert gc.isenabled() == enabled
        runtime.failing = RuntimeError("lost")
        with pytest.raises(BackendError, match="lost"):
            network.evaluate(0)
        with pytest.raises(BackendError, match="lost"):
            engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_who_is_interrupted_gets_that_very_error_when_the_session_has_ended(
    engine, tiny, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Such as a handler of a signal raises; an `Exception` among them is no failure of the engine."""
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    running, leave, done, raised = threading.Event(), threading.Event(), [], []

    def run(*_: object) -> None:
        running.set()
        assert leave.wait(120)
        done.append(1)

    real_wait = threads.wait

    def wait(*arguments: Any) -> None:
        assert running.wait(120)
        if raised:
            leave.set()
            return real_wait(*arguments)
        raised.append(error())
        raise raised[0]

    monkeypatch.setattr(network, "_session", SimpleNamespace(run_with_iobinding=run))
    monkeypatch.setattr(threads, "wait", wait)
    with pytest.raises(error) as caught:
        network.evaluate(0)
    assert caught.value is raised[0]
    # Its buffers are nobody else's as long as it runs.
    assert done == [1]


def test_the_options_that_reach_the_provider(engine, gpu, runtime, tiny) -> None:
    settings = CompileSettings(1, EngineOptions(optimization_level=5))
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", settings)
    ((_, given),) = runtime.log
    assert set(given) <= OPTIONS[engine._provider]
    assert given["user_compute_stream"] == str(gpu.handle(network.stream))
    assert given.get("trt_builder_optimization_level", "5") == "5"


# bfloat16, which no provider for CPUs has


# docs/OperatorKernels.md of ONNX Runtime, Operators implemented by CUDAExecutionProvider: those that have bfloat16, and
# from which opset on.
IN_BFLOAT16 = {"Add": 13, "Cast": 13, "Conv": 22, "Mul": 13, "Split": 18, "Sub": 13, "Transpose": 13}
IN_FLOAT32 = {"Add", "Cast", "Conv", "DepthToSpace", "Div", "GlobalAveragePool", "LayerNormalization", "Mul",
              "ReduceL2", "ReduceMean", "Split", "Sqrt", "Sub", "Transpose"}  # fmt: skip


def graph_of(tiny, norm: str, gate: str) -> bytes:
    from mrs.export.architectures.nafnet.graph import build_graph
    from mrs.export.graph_variant import GraphVariant

    state = {key: value.numpy() for key, value in tiny.net.state_dict().items()}
    return build_graph(state, tiny.net.arch, variant=GraphVariant(norm, gate)).SerializeToString()


@pytest.mark.parametrize("norm", ["layernorm", "moments", "length"])
def test_bfloat16_is_of_operations_that_the_provider_has(tiny, norm: str) -> None:
    graph = graph_of(tiny, norm, "split")
    model = onnx.load_from_string(backend._typed(graph, "bf16", SHAPE, installation.CUDA))
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model)
    types = {value.name: value.type.tensor_type.elem_type for value in (
        *model.graph.input, *model.graph.output, *model.graph.value_info)}  # fmt: skip
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if onnx.TensorProto.BFLOAT16 in {types[name] for name in (*node.input, *node.output)}:
            assert IN_BFLOAT16[node.op_type] <= model.opset_import[0].version
        else:
            assert node.op_type in IN_FLOAT32
    assert {types["packed"], types["output"]} == {onnx.TensorProto.BFLOAT16}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_no_split_copies_addresses_from_the_host(tiny, precision: str) -> None:
    """A replay would read them where they no longer are; halves are an argument of the kernel."""
    graph = graph_of(tiny, "layernorm", "split")
    model = onnx.load_from_string(backend._typed(graph, precision, SHAPE, installation.CUDA))
    sizes = {tensor.name: TO_ARRAY(tensor).tolist() for tensor in model.graph.initializer if tensor.data_type == 7}
    splits = [sizes[node.input[1]] for node in model.graph.node if node.op_type == "Split"]
    assert splits
    assert all(len(each) <= 32 and len(set(each)) == 1 for each in splits)
    first, *parts = [(value.name, value.type.tensor_type) for value in model.graph.input]
    assert first[0] == "packed"
    assert {kind.elem_type for _, kind in parts} == {onnx.TensorProto.FLOAT}
    assert sum(kind.shape.dim[1].dim_value for _, kind in parts) == tiny.modulation.shape[1]


def test_tensorrt_gets_the_modulation_whole(tiny) -> None:
    """It wants addresses that are multiples of 256."""
    model = onnx.load_from_string(backend._typed(tiny.graph, "fp32", SHAPE, installation.TENSORRT))
    assert [value.name for value in model.graph.input] == ["packed", "modulation"]


def test_the_graph_for_cuda_is_the_same_function_to_the_last_bit(tiny, packed) -> None:
    graphs = [backend._typed(tiny.graph, "bf16", SHAPE, provider) for provider in PROVIDERS.values()]
    assert graphs[0] != graphs[1]
    found = [by_torch(graph, packed, tiny.modulation) for graph in graphs]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def by_torch(graph: bytes, packed: np.ndarray[Any, Any], modulation: Any) -> Any:
    """The graph node by node, with its casts."""
    from mrs.runtime.backends import torch_graph as calls

    dtypes = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.BFLOAT16: torch.bfloat16}
    model = onnx.load_from_string(graph)
    parts = list(model.graph.input)[1:]
    if parts[0].name != "modulation":
        # Cut again, for a function of the whole.
        sizes = np.array([part.type.tensor_type.shape.dim[1].dim_value for part in parts])
        model.graph.initializer.append(onnx.numpy_helper.from_array(sizes, "sizes"))
        cut = onnx.helper.make_node("Split", ["modulation", "sizes"], [part.name for part in parts], axis=1)
        model.graph.node.insert(0, cut)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.BFLOAT16:
            tensor.CopyFrom(onnx.numpy_helper.from_array(_as_float32(tensor), tensor.name))
    structure, arrays = calls.read(model.SerializeToString())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(calls.OPERATIONS, "Cast", lambda attributes: lambda x: x.to(dtypes[attributes["to"]]))
        patch.setattr(calls, "_fused", lambda nodes, uses, ones: iter(nodes))
        program = calls.program_of(structure, compiled=True)
    row = torch.from_numpy(modulation[0][None, :, None, None].copy())
    weights = calls.weights_of(structure, arrays, torch.bfloat16, "cpu")
    with torch.inference_mode():
        return program(torch.from_numpy(packed).bfloat16(), row, weights)


def _as_float32(tensor: Any) -> Any:
    """Weights that torch converts back without a loss."""
    bits = np.frombuffer(tensor.raw_data, "<u2").astype(np.uint32) << 16
    return bits.view(np.float32).reshape(tuple(tensor.dims))


# What does not work


def test_a_provider_that_is_silently_left_out_is_told(engine, runtime, tiny) -> None:
    runtime.silent = True
    with pytest.raises(BackendError, match=f"{engine.name} is not used by onnxruntime") as caught:
        engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    assert caught.value.hint == "see mrs-trt doctor"


def test_a_part_on_the_cpu_is_refused(engine, runtime, tiny) -> None:
    runtime.on_cpu = True
    with pytest.raises(BackendError, match="it would run some of it on the CPU") as caught:
        engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    assert "doctor" in caught.value.hint


def test_what_onnxruntime_says_is_one_line(engine, runtime, tiny) -> None:
    runtime.broken = Exception("[ONNXRuntimeError] : 1 : FAIL : no such\nkernel")
    with pytest.raises(BackendError) as caught:
        engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    assert str(caught.value) == f"{engine.name} cannot compile the graph for {SHAPE}: no such kernel"


@pytest.mark.parametrize(
    "said", ["[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 9",
             "CUDA failure 2: out of memory", "CUDNN_STATUS_ALLOC_FAILED"],
)  # fmt: skip
def test_a_lack_of_memory_is_the_devices_own(engine, gpu, runtime, tiny, said: str) -> None:
    runtime.broken = RuntimeError(said)
    with pytest.raises(gpu.OutOfMemory):
        engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    runtime.broken = None
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    runtime.failing = RuntimeError(said)
    with pytest.raises(gpu.OutOfMemory):
        network.evaluate(0)


def test_a_run_that_fails_names_its_step(engine, runtime, tiny) -> None:
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    runtime.failing = RuntimeError("CUDA failure 700: an illegal memory access")
    with pytest.raises(BackendError, match=f"{engine.name} failed at step 2: CUDA failure 700: an illegal memory acc"):
        network.evaluate(2)


def test_a_precision_that_the_gpu_lacks(engine, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Torch, "precisions", lambda _: ("fp32", "fp16"))
    with pytest.raises(BackendError, match=f"{engine.name} runs no bf16 on this GPU"):
        engine.compile(tiny.graph, tiny.modulation, SHAPE, "bf16", CompileSettings(1))


def test_there_are_no_engines(engine, tiny) -> None:
    assert engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)).export() is None
    with pytest.raises(BackendError, match=f"{engine.name} has no compiled engines"):
        engine.restore(b"engine", tiny.modulation, SHAPE, "fp32", CompileSettings(1))


# In a chain


@pytest.fixture
def chain_of(engine, gpu: Gpu, tiny) -> Any:
    """(pictures' shape, ...) -> chain of the tiny network."""
    pytest.importorskip("triton")
    if not torch.cuda.is_available() and "triton" not in sys.modules:
        os.environ.setdefault("TRITON_INTERPRET", "1")
    from mrs.runtime.cuda.chain import CudaChain

    def make(shape: tuple[int, int, int, int] = (2, 3, 16, 24), **more: Any) -> CudaChain:
        network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        return CudaChain(gpu, network, tiny.table, shape, **more)

    return make


def pictures_of(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (2, 16, 24, 3), np.uint8)


def restored_by_cpu(tiny, pictures: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    from mrs.runtime.cpu_chain import CpuChain

    network = compiled_for_cpu(tiny.graph, tiny.modulation)
    chain = CpuChain(network, tiny.table, 1)
    return chain.restore_into(pictures, np.empty_like(pictures), seed)


@pytest.mark.parametrize("graphs", [True, False])
def test_a_restore_is_that_of_the_cpu(chain_of, gpu, tiny, graphs: bool) -> None:
    chain = chain_of(graphs=graphs)
    for seed in (3, 4):
        given = pictures_of(seed)
        found = chain.restore_into(given, None, seed).astype(int)
        assert np.abs(found - restored_by_cpu(tiny, given, seed)).max() <= 1
    assert not chain.captured
    assert gpu.captures == 0


def test_a_restore_is_launched_on_the_engines_stream_one_by_one(chain_of, gpu, tiny) -> None:
    chain = chain_of()
    assert chain.stream is chain.network.stream
    gpu.taken_log()
    chain.restore_into(pictures_of(), None, 0)
    log = gpu.taken_log()
    assert {line.split(":")[0] for line in log[:-1]} == {chain.stream.name}
    assert [line.split(": ")[1] for line in log[:-1]] == [
        "copy up", "start_planes",
        "copy", "network", "step_planes 0", "copy", "network", "step_planes 1",
        "copy", "network", "audit_values", "finish_planes 2", "copy down",
    ]  # fmt: skip
    # The host waits once.
    assert log[-1] == f"wait for {chain.stream.name}"


def test_tensors_of_the_caller_are_followed(chain_of, gpu, tiny) -> None:
    chain, given = chain_of(), pictures_of()
    wanted = chain.restore_into(given, None, 5).copy()
    picture, out = gpu.upload(given), gpu.empty(given.shape, "uint8")
    chain.restore_tensor(picture, out, 5, gpu.default)
    gpu.wait(gpu.default)
    np.testing.assert_array_equal(out.numpy(), wanted)


def test_a_capture_of_onnxruntimes_own_run_would_be_refused(engine, gpu, tiny) -> None:
    """Why the chain does not try: so it is with CUDA."""
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    stream = gpu.stream()
    with pytest.raises(BackendError, match="not permitted when stream is capturing"):
        gpu.capture(stream, lambda: network.evaluate(0))


def test_too_little_memory_in_a_restore_is_told_with_its_size(chain_of, gpu, runtime, tiny) -> None:
    chain = chain_of()
    runtime.failing = RuntimeError("CUDA failure 2: out of memory")
    with pytest.raises(DeviceMemoryError, match="2 x 16x24"):
        chain.restore_into(pictures_of(), None, 0)


def test_the_network_alone_can_be_timed(chain_of, gpu) -> None:
    chain = chain_of()
    chain.evaluate_all()
    gpu.taken_log()
    chain.evaluate_all()
    name = chain.stream.name
    assert gpu.taken_log() == [f"{name}: copy", f"{name}: network"] * 3 + [f"wait for {name}"]


@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
def test_a_restore_goes_on_while_another_network_captures(chain_of, engine, gpu, runtime, tiny, tensors: bool) -> None:
    """ONNX Runtime captures for all threads of the process."""
    chain, given, found = chain_of(), pictures_of(), []
    chain.warm_up(tensors)
    wanted, image = chain.restore_into(given, None, 3).copy(), gpu.upload(given)

    def restore() -> None:
        if tensors:
            result = chain.restore_tensor(image, None, 3, gpu.default)
            chain.check()
            found.append(result.numpy().copy())
        else:
            found.append(chain.restore_into(given, None, 3).copy())

    def elsewhere() -> None:
        thread = threading.Thread(target=restore)
        thread.start()
        thread.join(60)

    runtime.during = elsewhere
    engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    np.testing.assert_array_equal(found, [wanted])
    assert gpu.invalidated == 0
