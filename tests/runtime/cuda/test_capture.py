"""A captured restore gives the bytes of one launched one by one; what cannot be captured is told when it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mrs.runtime.errors import CaptureError

pytestmark = pytest.mark.slow(9)

CASES = [
    # shape, kind, solver, clamp, origin
    ((1, 16, 16), "uint8", ("sde", 2), "none", (0, 0)),
    ((1, 16, 16), "float32", ("ode", 1), "threshold", (0, 0)),
    ((3, 7, 5), "uint8", ("ode", 3), "unit", (9, 2)),
    ((2, 1, 33), "float32", ("ipndm", 4), "none", (2**31, 0)),
    ((2, 5, 6), "uint8", ("sde", 1), "threshold", (0, 1)),
]


@pytest.mark.parametrize(("shape", "kind", "solver", "clamp", "origin"), CASES, ids=lambda value: str(value))
def test_the_graph_gives_the_bytes_of_the_loop(
    make_chain, device, pictures, table, shape, kind, solver, clamp, origin
) -> None:
    given = [pictures(shape, kind, seed) for seed in (1, 2)]
    make: Callable[[bool], Any] = lambda graphs: make_chain(  # noqa: E731  # one call, twice
        table(*solver, 5), shape, clamp, dtypes=(kind, kind), graphs=graphs
    )
    graph, loop = make(True), make(False)
    assert (graph.captured, loop.captured) == (True, False)
    for seed, each in ((0, given[0]), (2**32 - 1, given[0]), (0, given[1]), (0, given[0])):
        np.testing.assert_array_equal(
            graph.restore_into(each, None, seed, origin), loop.restore_into(each, None, seed, origin)
        )
    assert device.captures == 1


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_for_tensors_too(make_chain, device, pictures, kind: str) -> None:
    given = device.upload(pictures((2, 5, 16), kind))
    results = []
    for graphs in (True, False):
        chain = make_chain(shape=(2, 5, 16), dtypes=(kind, kind), graphs=graphs)
        result = chain.restore_tensor(given, None, 3, device.default)
        chain.check()
        results.append(result.numpy().copy())
        np.testing.assert_array_equal(chain.restore_into(given.numpy(), None, 3), results[-1])
    np.testing.assert_array_equal(*results)


@pytest.mark.skipif("os.environ.get('TRITON_INTERPRET') != '1'", reason="the kernels are compiled for the GPU here")
def test_with_the_kernels_themselves(make_chain, pictures) -> None:
    from tests.runtime.cuda.double import Double

    given = pictures((1, 4, 16))
    graph, loop = (make_chain(shape=(1, 4, 16), on=Double(interpreted=True), graphs=graphs) for graphs in (True, False))
    np.testing.assert_array_equal(graph.restore_into(given, None, 5), loop.restore_into(given, None, 5))


def test_a_restore_of_the_host_is_one_replay(restorer, gpu, pictures) -> None:
    given = pictures((1, 16, 16))[0]
    for seed in (0, 1, 2):
        restorer.restore(given, seed)
        assert gpu.device.taken_log() == ["stream 1: replay", "wait for stream 1"]


def test_neither_a_seed_nor_an_origin_is_captured_anew(make_chain, device, pictures, table) -> None:
    chain, given = make_chain(table("ode", 2, 4)), pictures((1, 16, 16))
    results = [chain.restore_into(given, None, 0).copy(), chain.restore_into(given, None, 1).copy()]
    results.append(chain.restore_into(given, None, 0, (0, 1)).copy())
    assert len({result.tobytes() for result in results}) == 3
    assert device.captures == 1


def test_it_is_captured_when_it_is_loaded(gpu) -> None:
    with gpu.load(workers=2):
        assert gpu.device.captures == 2
    assert [line for line in gpu.device.taken_log() if line.startswith("capture")] == [
        "capture on stream 1", "capture on stream 2",
    ]  # fmt: skip


def test_it_runs_before_it_is_captured(make_chain, device) -> None:
    make_chain()
    log = device.taken_log()
    before = log[: log.index("capture on stream 1")]
    assert before.count("stream 1: start_pixels") == 2
    assert before[-1] == "wait for stream 1"


@pytest.mark.parametrize("bound", [False, True])
def test_a_graph_is_uploaded_before_the_first_restore(make_chain, device, pictures, bound: bool) -> None:
    image = device.upload(pictures((1, 16, 16)))
    chain = make_chain(bound=(image, torch.zeros_like(image)) if bound else None)
    chain.warm_up(tensors=True)
    assert [graph.uploaded for graph in device.graphs] == [True] * (1 if bound else 2)
    log = device.taken_log()
    while "stream 1: upload of a graph" in log:
        log = log[log.index("stream 1: upload of a graph") + 1 :]
        assert "wait for stream 1" in log


def test_what_is_bound_is_not_restored_before_it_is_asked_for(make_chain, device, pictures) -> None:
    given = device.upload(pictures((1, 16, 16)))
    expected = given.numpy().copy()
    chain = make_chain(bound=(given, given))
    device.wait(chain.stream)
    np.testing.assert_array_equal(given.numpy(), expected)


def test_with_graphs_false_nothing_is_captured(gpu, pictures) -> None:
    with gpu.load(graphs=False) as restorer:
        restorer.restore(pictures((1, 16, 16))[0])
        restorer.warm_up(8, 8, tensors=True)
    assert gpu.device.captures == 0


# What a network may do otherwise, but not in a capture


def other_stream(network: Any, step: int) -> None:
    with network.device.on(network.device.stream()):
        network.device.give("elsewhere")


def default_stream(network: Any, step: int) -> None:
    with network.device.on(network.device.default):
        network.device.give("elsewhere")


TROUBLE: dict[str, tuple[Callable[[Any, int], object], str]] = {
    "allocation": (lambda network, step: network.device.memory(16), "memory of the device kind is allocated"),
    "pinned allocation": (lambda network, step: network.device.host_memory(16), "memory of the pinned kind"),
    "waiting": (lambda network, step: network.device.wait(network.device.current()), "the host waits"),
    "default stream": (default_stream, "elsewhere on the default stream"),
    "other stream": (other_stream, "elsewhere on a stream that is not captured"),
    "unpinned": (
        lambda network, step: network.device.copy(network.output, torch.from_numpy(np.zeros((1, 3, 16, 16)))),
        "memory that is not pinned",
    ),
    "item": (lambda network, step: network.output.max().item(), "aten::item"),
}


@pytest.mark.parametrize("what", TROUBLE)
def test_what_cannot_be_captured_says_why_and_what_works(gpu, pictures, what: str) -> None:
    given = pictures((1, 16, 16))[0]
    with gpu.load() as restorer:
        expected = restorer.restore(given, 4)
    gpu.backend.trouble, cause = TROUBLE[what]
    with pytest.raises(CaptureError, match=r"^the restore cannot be captured as a CUDA graph: operation not") as error:
        gpu.load()
    assert cause in error.value.message
    assert "graphs=False" in error.value.hint
    assert "--no-graphs" in error.value.hint
    assert isinstance(error.value.__cause__, gpu.device.Failure)
    with gpu.load(graphs=False) as restorer:
        np.testing.assert_array_equal(restorer.restore(given, 4), expected)


def test_an_error_of_the_engine_in_a_capture_is_its_cause(gpu) -> None:
    from mrs.runtime.errors import BackendError

    def refuse(network: Any, step: int) -> None:
        if network.device.capturing:
            raise BackendError("the engine enqueues nothing", hint="try another")

    gpu.backend.trouble = refuse
    with pytest.raises(CaptureError, match="as a CUDA graph: the engine enqueues nothing") as error:
        gpu.load()
    assert "graphs=False" in error.value.hint


def test_a_bug_of_ours_in_a_capture_stays_what_it_is(gpu) -> None:
    def stumble(network: Any, step: int) -> None:
        if network.device.capturing:
            raise TypeError("a bug")

    gpu.backend.trouble = stumble
    with pytest.raises(TypeError, match="a bug"):
        gpu.load()


def test_what_cannot_be_captured_for_tensors_is_told_every_time(restorer, gpu, pictures) -> None:
    image = gpu.device.upload(pictures((1, 16, 16))[0])
    gpu.device.fail["capture"] = RuntimeError("CUDA error: out of luck\nCompile with TORCH_USE_CUDA_DSA")
    for _ in range(2):
        with pytest.raises(CaptureError, match=r"as a CUDA graph: CUDA error: out of luck \("):
            restorer.restore(image)
    gpu.device.fail.clear()
    restored = restorer.restore(image)
    gpu.device.wait(gpu.device.default)
    assert gpu.device.captures == 2
    np.testing.assert_array_equal(restored.numpy(), restorer.restore(image.numpy()))
