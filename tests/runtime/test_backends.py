"""Every backend keeps the protocol: its buffers stay, a step's modulation is that step's, and failures are one line."""

from __future__ import annotations

import gc
import importlib.util
import inspect
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.runtime import backends
from mrs.runtime.backends import Backend
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError, InputError
from tests.runtime.evaluations import CPU, SHAPE, address, expected, fill, output, outputs, read, refused

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(12)]


def test_every_backend_compiles_graphs_around_the_network() -> None:
    for each in backends.BACKENDS.values():
        assert list(inspect.signature(each.compile_graph).parameters) == ["graph", "inputs", "sides", "settings"]  # type: ignore[attr-defined]


# What works


def test_every_step_has_its_own_modulation(backend: Backend, tiny, packed) -> None:
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    # Back and forth, and twice the same.
    for step in (2, 0, 0, 1, 2):
        wanted = expected(tiny, packed, step)
        np.testing.assert_allclose(output(network, packed, step), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    steps = [expected(tiny, packed, step) for step in range(3)]
    assert np.abs(steps[0] - steps[1]).max() > 1e-2


def test_the_buffers_stay_where_they_are(backend: Backend, tiny, packed) -> None:
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    buffers = network.packed, network.output
    addresses = [address(buffer) for buffer in buffers]
    assert not read(network.packed).any()
    assert [tuple(buffer.shape) for buffer in buffers] == [SHAPE, (2, 3, 8, 12)]
    assert [str(buffer.dtype).removeprefix("torch.") for buffer in buffers] == ["float32"] * 2
    for scale in (1.0, -0.5):
        fill(network, scale * packed)
        network.evaluate(1)
        np.testing.assert_allclose(read(buffers[1]), expected(tiny, scale * packed, 1), rtol=0, atol=1e-4)
    assert network.packed is buffers[0]
    assert network.output is buffers[1]
    assert [address(buffer) for buffer in buffers] == addresses


def test_arrays_of_the_host_are_dense_planes(tiny) -> None:
    for backend in CPU.values():
        network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        assert network.packed.flags.c_contiguous
        assert network.output.flags.c_contiguous


@pytest.mark.parametrize("count", [5, 3, 1], ids=["more rows", "as many", "fewer"])
def test_a_retimed_network_is_one_compiled_for_these_times(
    backend: Backend, tiny, packed, longer_modulation, count: int
) -> None:
    times = longer_modulation[-count:]
    fresh = backend.compile(tiny.graph, times, SHAPE, "fp32", CompileSettings(1))
    retimed = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    before = outputs(retimed, packed, 3)
    retimed.retime(times)
    assert outputs(retimed, packed, count) == outputs(fresh, packed, count)
    assert before[0] != outputs(fresh, packed, 1)[0]
    # None of the old rows is left behind the new ones.
    with pytest.raises((IndexError, BackendError), match=r"range|bounds"):
        retimed.evaluate(count)
    # And back.
    retimed.retime(tiny.modulation)
    assert outputs(retimed, packed, 3) == before


def test_retiming_leaves_the_buffers_and_compiles_nothing(
    backend: Backend, tiny, packed, longer_modulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    buffers = network.packed, network.output
    fill(network, packed)
    monkeypatch.setattr(type(backend), "compile", lambda *_: pytest.fail("compiled"))
    network.retime(longer_modulation)
    assert network.packed is buffers[0]
    assert network.output is buffers[1]
    np.testing.assert_array_equal(read(network.packed), packed)


def test_rows_in_another_order_of_memory_are_the_same_rows(backend: Backend, tiny, packed, longer_modulation) -> None:
    network = backend.compile(tiny.graph, longer_modulation, SHAPE, "fp32", CompileSettings(1))
    plain = outputs(network, packed, 5)
    wide = np.zeros((10, 2 * longer_modulation.shape[1]), np.float32)
    wide[::2, ::2] = longer_modulation
    for turned in (np.asfortranarray(longer_modulation), wide[::2, ::2]):
        network.retime(turned)
        assert outputs(network, packed, 5) == plain


def test_rows_outlive_the_array_they_came_from(backend: Backend, tiny, packed, longer_modulation) -> None:
    """Engines hold addresses; the network must hold the memory."""
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    network.retime(longer_modulation.copy())
    gc.collect()
    # Would be given the memory that was freed.
    others = [np.full(longer_modulation.shape, np.nan, np.float32) for _ in range(20)]
    fresh = backend.compile(tiny.graph, longer_modulation, SHAPE, "fp32", CompileSettings(1))
    assert outputs(network, packed, 5) == outputs(fresh, packed, 5)
    assert len(others) == 20


def test_two_networks_share_nothing(backend: Backend, tiny, packed) -> None:
    one, other = (backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)) for _ in range(2))
    before = output(one, packed, 0)
    # Its own input is still empty.
    other.evaluate(0)
    np.testing.assert_array_equal(read(one.output), before)
    assert np.abs(read(other.output) - before).max() > 1e-3


def test_it_says_what_it_is(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend.name in CPU:
        assert backend in backends.available()
    else:
        # Triton may be missing where torch runs on a CPU.
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert backend.missing() is None
    assert backend.version()[0].isdigit()
    assert backend.precisions()[0] == "fp32"


def test_bf16_is_near_float32_where_the_processor_has_it(tiny, packed) -> None:
    backend = backends.get("openvino")
    if "bf16" not in backend.precisions():
        pytest.skip("this processor has no bf16")
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "bf16", CompileSettings(1))
    network.packed[...] = packed
    network.evaluate(0)
    wanted = expected(tiny, packed, 0)
    error = np.abs(network.output - wanted).max() / np.abs(wanted).max()
    assert 1e-5 < error < 0.1


# What does not


@pytest.mark.parametrize("precision", ["fp64", "int8", "", "float32"])
def test_a_precision_that_it_does_not_run(backend: Backend, tiny, precision: str) -> None:
    refused(
        lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, precision, CompileSettings(1)),
        f"runs no {precision}",
    )


def test_no_cpu_runs_fp16(tiny) -> None:
    for backend in CPU.values():
        refused(lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp16", CompileSettings(1)), "runs no fp16")  # noqa: B023


@pytest.mark.parametrize("graph", [b"", b"garbage" * 10, b"<net/>", "half"], ids=["empty", "garbage", "XML", "half"])
def test_a_graph_that_is_broken(backend: Backend, tiny, graph: Any) -> None:
    graph = tiny.graph[: len(tiny.graph) // 2] if graph == "half" else graph
    says = f"{backend.name} cannot compile" if backend.name in CPU else r"the graph (cannot be read|is empty)"
    refused(lambda: backend.compile(graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)), says)


@pytest.mark.parametrize("shape", [(1, 6, 7, 12), (1, 4, 8, 12)], ids=["no multiple", "channels"])
def test_a_shape_that_the_graph_does_not_have(backend: Backend, tiny, shape: Any) -> None:
    refused(
        lambda: backend.compile(tiny.graph, tiny.modulation, shape, "fp32", CompileSettings(1)).evaluate(0),
        backend.name.partition("-")[0],
    )


@pytest.mark.parametrize("size", [-4, 4, 0], ids=["shorter", "longer", "empty"])
def test_a_modulation_that_the_graph_does_not_have(backend: Backend, tiny, size: int) -> None:
    steps, own = tiny.modulation.shape
    modulation = np.zeros((steps, own + size if size else 0), np.float32)
    refused(
        lambda: backend.compile(tiny.graph, modulation, SHAPE, "fp32", CompileSettings(1)).evaluate(0),
        backend.name.partition("-")[0],
    )

    def retimed() -> None:
        network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        network.retime(modulation)
        network.evaluate(0)

    refused(retimed, backend.name.partition("-")[0])


def test_an_engine_that_fails_while_running(backend: Backend, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("\n  out of luck\nat line 3")

    network: Any = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    broken: Any = SimpleNamespace(set_tensor=lambda *_: None, infer=fail, run_with_iobinding=fail)
    inside = {"openvino": "_request", "onnxruntime": "_session", "torch-eager": "_into"}[backend.name]
    monkeypatch.setattr(network, inside, fail if inside == "_into" else broken)
    refused(
        lambda: network.evaluate(1),
        f"^{backend.name.partition('-')[0]} failed at step 1: out of luck( .use backend \\w+.)?$",
    )


# Libraries that are not there


@pytest.mark.parametrize("name", CPU)
def test_a_library_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.get(name)

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("mrs.runtime.system.libraries.version", absent)
    assert backend.missing() == f"{backend.name} is not installed: pip install {backend.name}"
    assert backend.version() == ""
    assert backend not in backends.available()


def test_a_backend_that_nobody_knows() -> None:
    with pytest.raises(
        InputError, match=r"'directml' is unknown \(use one of openvino, onnxruntime, tensorrt, onnxruntime-cuda, "
    ):
        backends.get("directml")


def test_backends_are_listed_by_their_names_in_order_of_preference() -> None:
    # Those for CPUs first: a plan for a CPU must not fall back on a GPU while another can run.
    on_gpus = ["tensorrt", "onnxruntime-cuda", "onnxruntime-tensorrt", "torch", "torch-eager"]
    assert list(backends.BACKENDS) == ["openvino", "onnxruntime", *on_gpus]
    assert [backend.device for backend in backends.BACKENDS.values()] == ["cpu"] * 2 + ["cuda"] * 5
    assert [backend.name for backend in backends.BACKENDS.values()] == list(backends.BACKENDS)
