"""ONNX Runtime's networks on the double of a GPU: what they compute in which order, and what fails by name."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from mrs.runtime.backends.settings import CompileSettings, EngineOptions
from mrs.runtime.backends.torch import Torch
from mrs.runtime.errors import BackendError
from tests.runtime.backends.onnxruntime_double import OPTIONS
from tests.runtime.backends.onnxruntime_gpu.outputs import SHAPE, by_cpu, output

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(4)]


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


def test_the_options_that_reach_the_provider(engine, gpu, runtime, tiny) -> None:
    settings = CompileSettings(1, EngineOptions(optimization_level=5))
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", settings)
    ((_, given),) = runtime.log
    assert set(given) <= OPTIONS[engine._provider]
    assert given["user_compute_stream"] == str(gpu.handle(network.stream))
    assert given.get("trt_builder_optimization_level", "5") == "5"


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
