"""Restorers on a GPU give the pictures of a CPU in any thread, and are warmed up, waited for and closed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mrs.runtime import backends
from mrs.runtime.errors import DeadlineError, InputError, MrsError
from mrs.runtime.session import Restorer
from tests.runtime.cuda.double import Double

pytestmark = pytest.mark.slow(12)


def refusal(restorer: Restorer, picture: Any) -> MrsError:
    """Why no worker is free at once."""
    with pytest.raises((DeadlineError, InputError)) as error:
        restorer.restore(picture, timeout=0)
    return error.value


def on_stream(log: list[str], what: str) -> list[str]:
    """The streams that were given something."""
    return [line.split(":")[0] for line in log if line.endswith(f": {what}")]


# The same pictures as on a CPU


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (13, 11), (3, 7, 32)], ids=str)
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_pictures_as_on_a_cpu(restorer, on_cpu, pictures, shape: tuple[int, ...], kind: str) -> None:
    given = pictures(shape, kind)
    ours, expected = restorer.restore(given, 3), on_cpu.restore(given, 3)
    assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape)
    tolerance = 1 if kind == "uint8" else 1e-5
    np.testing.assert_allclose(ours.astype(float), expected.astype(float), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("tile", "overlap"), [(8, 2), (16, 0)])
@pytest.mark.parametrize("shape", [(20, 24), (2, 9, 33)], ids=str)
def test_tiles_as_on_a_cpu(restorer, gpu, on_cpu, pictures, shape: tuple[int, ...], tile: int, overlap: int) -> None:
    # A network of single pixels gives the whole picture's values in every tile: noise comes from the picture's origin.
    given = pictures(shape, "float32")
    whole = on_cpu.restore(given, 3)
    np.testing.assert_allclose(restorer.restore(given, 3, tile=tile, overlap=overlap), whole, rtol=0, atol=1e-5)
    tensor = restorer.restore(gpu.device.upload(given), 3, tile=tile, overlap=overlap)
    np.testing.assert_allclose(tensor.numpy(), whole, rtol=0, atol=1e-5)


def test_tensors_beyond_the_memory_are_tiled_in_the_callers_turn(gpu, pictures, caplog) -> None:
    given = pictures((24, 24))
    with gpu.load(memory=160 * 300) as restorer:
        image, stream = torch.zeros(given.shape, dtype=torch.uint8), gpu.device.stream()
        with gpu.device.on(stream):
            gpu.device.give("fill", lambda: image.copy_(torch.from_numpy(given)))
            restored = restorer.restore(image, 3)
        np.testing.assert_array_equal(restored.numpy(), restorer.restore(given, 3))
    assert "restoring in tiles of 16" in caplog.text


@pytest.fixture(scope="module")
def real(tiny):
    """A network of torch on the double, and the same through OpenVINO: (on the GPU, on the CPU)."""
    from mrs.runtime.backends.torch import Torch

    pytest.importorskip("openvino")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backends.BACKENDS, "torch", Torch("torch", compiled=False, place="cpu"))
        with (
            Restorer(tiny.plan("torch"), device=Double(), threads=1) as gpu,
            Restorer(tiny.plan("openvino"), threads=1) as cpu,
        ):
            yield gpu, cpu


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [(16, 24), (13, 11), (2, 16, 32)], ids=str)
def test_a_real_network_as_on_a_cpu(real, pictures, shape: tuple[int, ...], kind: str) -> None:
    given = pictures(shape, kind)
    ours, expected = (each.restore(given, 3) for each in real)
    np.testing.assert_allclose(ours.astype(float), expected.astype(float), rtol=0, atol=1 if kind == "uint8" else 1e-4)
    assert ours.std() > 0.1 * ours.max()


def test_a_real_network_is_captured_operation_by_operation(real) -> None:
    for graph in real[0]._device.graphs:
        assert graph.names[0] == "copy up"
        assert any(name.startswith("aten::conv") for name in graph.names)
        # Its result is copied into the buffer that the kernels read.
        for number, name in enumerate(graph.names):
            if name.startswith(("step", "audit")):
                assert graph.names[number - 1] == "aten::copy_"


@pytest.mark.skipif("os.environ.get('TRITON_INTERPRET') != '1'", reason="the kernels are compiled for the GPU here")
def test_a_real_network_with_the_kernels_themselves(tiny, pictures, monkeypatch) -> None:
    from mrs.runtime.backends.torch import Torch

    pytest.importorskip("openvino")
    monkeypatch.setitem(backends.BACKENDS, "torch", Torch("torch", compiled=False, place="cpu"))
    plan = tiny.plan("torch")
    plan = replace(plan, manifest={**plan.manifest, "shape": [1, 4, 16]})
    given = pictures((4, 16))
    with (
        Restorer(plan, device=Double(interpreted=True), threads=1) as gpu,
        Restorer(tiny.plan("openvino"), threads=1) as cpu,
    ):
        assert np.abs(gpu.restore(given, 3).astype(int) - cpu.restore(given, 3)).max() <= 1


# Workers and threads


def test_each_worker_has_its_own_stream_network_and_graph(gpu, pictures) -> None:
    given = pictures((16, 16))
    with gpu.load(workers=2) as restorer:
        gpu.device.taken_log()
        elsewhere = []
        with restorer.lend(given, 3) as view:
            thread = threading.Thread(target=lambda: elsewhere.append(restorer.restore(given, 4)))
            thread.start()
            thread.join(120)
            expected = view.copy()
        assert on_stream(gpu.device.taken_log(), "replay") == ["stream 1", "stream 2"]
        np.testing.assert_array_equal(restorer.restore(given, 3), expected)
        np.testing.assert_array_equal(restorer.restore(given, 4), elsewhere[0])
    first, second = gpu.backend.networks
    assert first.packed.data_ptr() != second.packed.data_ptr()
    assert gpu.device.captures == 2


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
def test_threads_get_the_pictures_that_one_alone_would_get(gpu, pictures, workers: int, tensors: bool) -> None:
    given = [pictures((16, 16), seed=seed) for seed in range(4)]
    with gpu.load(workers=workers) as restorer:
        expected = [[restorer.restore(each, seed) for seed in range(5)] for each in given]
        together = threading.Barrier(4)

        def work(number: int) -> list[Any]:
            together.wait(120)
            if not tensors:
                return [restorer.restore(given[number], seed) for seed in range(5)]
            stream = gpu.device.stream()
            with gpu.device.on(stream):
                results = [restorer.restore(gpu.device.upload(given[number]), seed) for seed in range(5)]
            gpu.device.wait(stream)
            return [result.numpy() for result in results]

        with ThreadPoolExecutor(4) as threads:
            results = list(threads.map(work, range(4)))
    np.testing.assert_array_equal(results, expected)
    # One size: a graph for each worker, and one more where tensors came.
    assert gpu.device.captures <= workers * (1 + tensors)


def test_a_thread_captures_while_another_restores(gpu, pictures) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def pause(network: Any, step: int) -> None:
        if network.device.capturing and network.packed.shape[2] == 8:
            inside.set()
            assert go_on.wait(120)

    gpu.backend.trouble = pause
    given = pictures((16, 16))
    with gpu.load(workers=2) as restorer:
        thread = threading.Thread(target=restorer.restore, args=(pictures((8, 8)),))
        thread.start()
        assert inside.wait(120)
        first = restorer.restore(given, 3)
        go_on.set()
        thread.join(120)
        np.testing.assert_array_equal(restorer.restore(given, 3), first)
    assert gpu.device.captures == 3


# Warming up, synchronizing, closing


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_warming_up_captures_ahead_on_every_worker(gpu, pictures, kind: str) -> None:
    given = gpu.device.upload(pictures((2, 8, 8), kind))
    with gpu.load(workers=2) as restorer:
        restorer.warm_up(8, 8, 2, dtype=kind, tensors=True)
        # The plan's own size, arrays of this, and tensors.
        assert gpu.device.captures == 2 * 3
        restorer.warm_up(8, 8, 2, dtype=kind, tensors=True)
        with restorer.lend(given):
            thread = threading.Thread(target=restorer.restore, args=(given.numpy(),))
            thread.start()
            thread.join(120)
        assert gpu.device.captures == 2 * 3


def test_warming_up_for_arrays_captures_nothing_for_tensors(gpu) -> None:
    with gpu.load() as restorer:
        restorer.warm_up(8, 8)
        assert gpu.device.captures == 2


@pytest.mark.parametrize(
    ("size", "dtype"), [((0, 8), "uint8"), ((8, -1), "uint8"), ((8, 8, 0), "uint8"), ((8, 8), "float16")], ids=str
)
def test_warming_up_for_what_is_no_picture(restorer, gpu, size: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(InputError, match="cannot warm up for"):
        restorer.warm_up(*size, dtype=dtype, tensors=True)
    assert gpu.device.taken_log() == []


def test_synchronizing_waits_for_every_worker(gpu, pictures) -> None:
    with gpu.load(workers=2) as restorer:
        outs = [torch.zeros(16, 16, 3, dtype=torch.uint8) for _ in range(4)]
        image = gpu.device.upload(pictures((16, 16)))
        for out in outs:
            restorer.restore_into(image, out)
        assert not any(out.any() for out in outs)
        restorer.synchronize()
        # Without any work of the caller's stream, which follows all of them.
        assert {line for line in gpu.device.taken_log() if line.startswith("wait")} == {
            "wait for stream 1", "wait for stream 2",
        }  # fmt: skip


def test_closing_waits_gives_everything_back_and_may_come_again(gpu, pictures) -> None:
    restorer = gpu.load(workers=2)
    image = torch.from_numpy(pictures((16, 16))).clone()
    restored = restorer.restore(image, 3)
    gpu.device.taken_log()
    restorer.close()
    assert {"wait for stream 1", "wait for stream 2", "release"} <= set(gpu.device.taken_log())
    assert len(gpu.device.graphs) == 0
    restorer.close()
    assert gpu.device.taken_log() == []
    gpu.device.wait(gpu.device.default)
    assert restored.numpy().std() > 1
    for call in (
        lambda: restorer.restore(image),
        lambda: restorer.restore(image.numpy()),
        lambda: restorer.warm_up(8, 8),
        restorer.synchronize,
    ):
        with pytest.raises(InputError, match="closed"):
            call()


def test_closing_waits_for_what_another_thread_restores(gpu, pictures) -> None:
    lent, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    restorer = gpu.load()
    results = []

    def hold() -> None:
        with restorer.lend(pictures((16, 16))) as view:
            lent.set()
            assert go_on.wait(120)
            results.append((closed.is_set(), view.std()))

    def close() -> None:
        restorer.close()
        closed.set()

    threads = [threading.Thread(target=hold), threading.Thread(target=close)]
    threads[0].start()
    assert lent.wait(120)
    threads[1].start()
    # Once it is closing, calls are refused at once and no longer too late.
    while "closed" not in str(refusal(restorer, pictures((16, 16)))):
        assert not closed.is_set()
    go_on.set()
    for thread in threads:
        thread.join(120)
    assert closed.is_set()
    assert results[0][0] is False
    assert results[0][1] > 1


CALLS: dict[str, Any] = {
    "load": lambda gpu, restorer, image, out: gpu.load(),
    "restore": lambda gpu, restorer, image, out: restorer.restore(image),
    "an array": lambda gpu, restorer, image, out: restorer.restore(image.numpy()),
    "restore into": lambda gpu, restorer, image, out: restorer.restore_into(image, out),
    "bound": lambda gpu, restorer, image, out: restorer.restore_into(image, out, bound=True),
    "lend": lambda gpu, restorer, image, out: restorer.lend(image),
    "warm up": lambda gpu, restorer, image, out: restorer.warm_up(8, 8),
    "synchronize": lambda gpu, restorer, image, out: restorer.synchronize(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_caller_who_captures_is_refused_and_his_capture_goes_on(restorer, gpu, pictures, call: str) -> None:
    image = gpu.device.upload(pictures((16, 16)))
    out, stream = torch.zeros_like(image), gpu.device.stream()
    gpu.device.taken_log()

    def work() -> None:
        gpu.device.give("before")
        with pytest.raises(InputError, match="while the caller's stream captures a CUDA graph") as error:
            CALLS[call](gpu, restorer, image, out)
        assert "before or after the capture" in error.value.hint
        gpu.device.give("after")

    assert gpu.device.capture(stream, work).names == ["before", "after"]
    assert gpu.device.taken_log() == [f"capture on {stream.name}"]
    restorer.restore(image)
