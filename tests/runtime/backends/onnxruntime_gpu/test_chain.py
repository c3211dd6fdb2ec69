"""ONNX Runtime's networks in a chain, which launches what it cannot capture."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError, DeviceMemoryError
from tests.runtime.backends.onnxruntime_double import Gpu
from tests.runtime.backends.onnxruntime_gpu.outputs import SHAPE, compiled_for_cpu

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def chain_of(engine, gpu: Gpu, tiny) -> Any:
    """(pictures' shape, ...) -> chain of the tiny network."""
    from mrs.runtime.cuda.chain import CudaChain
    from mrs.runtime.shared import Shared

    def make(shape: tuple[int, int, int, int] = (2, 3, 16, 24), **more: Any) -> CudaChain:
        network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        return CudaChain(gpu, Shared(network), tiny.table, shape, **more)

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
