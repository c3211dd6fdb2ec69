"""Every backend keeps the protocol: its buffers stay, a step's modulation is that step's, and failures are one line."""

from __future__ import annotations

import gc
import importlib.util
import sys
from importlib.metadata import PackageNotFoundError
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.runtime import backends
from mrs.runtime.backends import Backend, onnxruntime, openvino
from mrs.runtime.errors import BackendError, InputError

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (2, 6, 8, 12)
FILES: dict[str, ModuleType] = {"openvino": openvino, "onnxruntime": onnxruntime}


@pytest.fixture(params=list(backends.BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    return backends.get(request.param)


@pytest.fixture(scope="module")
def packed() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(SHAPE, np.float32)


def expected(tiny, packed: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    difference, mu = packed[:, :3], packed[:, 3:]
    return tiny.denoise(difference + mu, mu, tiny.table.times[step])


def refused(call: Any, match: str) -> None:
    with pytest.raises(BackendError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


# What works


def test_every_step_has_its_own_modulation(backend: Backend, tiny, packed) -> None:
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", 1)
    network.packed[...] = packed
    # Back and forth, and twice the same.
    for step in (2, 0, 0, 1, 2):
        network.output.fill(np.nan)
        network.evaluate(step)
        wanted = expected(tiny, packed, step)
        np.testing.assert_allclose(network.output, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    steps = [expected(tiny, packed, step) for step in range(3)]
    assert np.abs(steps[0] - steps[1]).max() > 1e-2


def test_the_buffers_stay_where_they_are(backend: Backend, tiny, packed) -> None:
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", 1)
    buffers = network.packed, network.output
    addresses = [buffer.ctypes.data for buffer in buffers]
    assert not network.packed.any()
    assert [buffer.shape for buffer in buffers] == [SHAPE, (2, 3, 8, 12)]
    assert all(buffer.dtype == np.float32 and buffer.flags.c_contiguous for buffer in buffers)
    for scale in (1.0, -0.5):
        buffers[0][...] = scale * packed
        network.evaluate(1)
        np.testing.assert_allclose(buffers[1], expected(tiny, buffers[0], 1), rtol=0, atol=1e-4)
    assert network.packed is buffers[0]
    assert network.output is buffers[1]
    assert [buffer.ctypes.data for buffer in buffers] == addresses


def outputs(network: Any, packed: np.ndarray[Any, Any], steps: int) -> list[bytes]:
    """What a network gives at each step, to the last bit."""
    network.packed[...] = packed
    found = []
    for step in range(steps):
        network.output.fill(np.nan)
        network.evaluate(step)
        found.append(network.output.tobytes())
    return found


@pytest.fixture(scope="module")
def longer(tiny) -> np.ndarray[Any, Any]:
    """The modulation of five other times."""
    from mrs.export.modulation import modulation_table

    return modulation_table(tiny.net, [97.0, 55.5, 30.0, 12.0, 3.0])


@pytest.mark.parametrize("count", [5, 3, 1], ids=["more rows", "as many", "fewer"])
def test_a_retimed_network_is_one_compiled_for_these_times(backend: Backend, tiny, packed, longer, count: int) -> None:
    times = longer[-count:]
    fresh = backend.compile(tiny.graph, times, SHAPE, "fp32", 1)
    retimed = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", 1)
    before = outputs(retimed, packed, 3)
    retimed.retime(times)
    assert outputs(retimed, packed, count) == outputs(fresh, packed, count)
    assert before[0] != outputs(fresh, packed, 1)[0]
    # None of the old rows is left behind the new ones.
    with pytest.raises((IndexError, BackendError), match="range"):
        retimed.evaluate(count)
    # And back.
    retimed.retime(tiny.modulation)
    assert outputs(retimed, packed, 3) == before


def test_retiming_leaves_the_buffers_and_compiles_nothing(
    backend: Backend, tiny, packed, longer, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", 1)
    buffers = network.packed, network.output
    network.packed[...] = packed
    monkeypatch.setattr(type(backend), "compile", lambda *_: pytest.fail("compiled"))
    network.retime(longer)
    assert network.packed is buffers[0]
    assert network.output is buffers[1]
    np.testing.assert_array_equal(network.packed, packed)


def test_rows_in_another_order_of_memory_are_the_same_rows(backend: Backend, tiny, packed, longer) -> None:
    network = backend.compile(tiny.graph, longer, SHAPE, "fp32", 1)
    plain = outputs(network, packed, 5)
    wide = np.zeros((10, 2 * longer.shape[1]), np.float32)
    wide[::2, ::2] = longer
    for turned in (np.asfortranarray(longer), wide[::2, ::2]):
        network.retime(turned)
        assert outputs(network, packed, 5) == plain


def test_rows_outlive_the_array_they_came_from(backend: Backend, tiny, packed, longer) -> None:
    """Engines hold addresses; the network must hold the memory."""
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", 1)
    network.retime(longer.copy())
    gc.collect()
    # Would be given the memory that was freed.
    others = [np.full(longer.shape, np.nan, np.float32) for _ in range(20)]
    fresh = backend.compile(tiny.graph, longer, SHAPE, "fp32", 1)
    assert outputs(network, packed, 5) == outputs(fresh, packed, 5)
    assert len(others) == 20


def test_two_networks_share_nothing(backend: Backend, tiny, packed) -> None:
    one, other = (backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", 1) for _ in range(2))
    one.packed[...] = packed
    one.evaluate(0)
    before = one.output.copy()
    other.evaluate(0)
    np.testing.assert_array_equal(one.output, before)
    assert np.abs(other.output - before).max() > 1e-3


def test_it_says_what_it_is(backend: Backend) -> None:
    assert backend.missing() is None
    assert backend in backends.available()
    assert backend.version()[0].isdigit()
    assert backend.precisions()[0] == "fp32"


def test_openvino_restores_what_it_exported(tiny, packed) -> None:
    backend = backends.get("openvino")
    first = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", 1)
    engine = first.export()
    assert engine
    again = backend.restore(engine, tiny.modulation, SHAPE, "fp32", 1)
    for network in (first, again):
        network.packed[...] = packed
        network.evaluate(2)
    np.testing.assert_array_equal(again.output, first.output)


def test_onnxruntime_has_no_engines(tiny) -> None:
    backend = backends.get("onnxruntime")
    assert backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", 1).export() is None
    refused(lambda: backend.restore(b"engine", tiny.modulation, SHAPE, "fp32", 1), "no compiled engines")


def test_bf16_is_near_float32_where_the_processor_has_it(tiny, packed) -> None:
    backend = backends.get("openvino")
    if "bf16" not in backend.precisions():
        pytest.skip("this processor has no bf16")
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "bf16", 1)
    network.packed[...] = packed
    network.evaluate(0)
    wanted = expected(tiny, packed, 0)
    error = np.abs(network.output - wanted).max() / np.abs(wanted).max()
    assert 1e-5 < error < 0.1


# What does not


@pytest.mark.parametrize("precision", ["fp16", "int8", ""])
def test_a_precision_that_it_does_not_run(backend: Backend, tiny, precision: str) -> None:
    refused(lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, precision, 1), f"runs no {precision}")


def test_bf16_is_refused_where_the_processor_lacks_it(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.get("openvino")
    monkeypatch.setattr(type(backend), "precisions", lambda self: ("fp32",))
    refused(lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, "bf16", 1), "runs no bf16")
    refused(lambda: backend.restore(b"engine", tiny.modulation, SHAPE, "bf16", 1), "runs no bf16")


@pytest.mark.parametrize(
    ("native", "precisions"), [(["FP32", "INT8"], ("fp32",)), (["FP32", "BF16"], ("fp32", "bf16"))], ids=str
)
def test_openvino_tells_what_the_processor_computes(
    monkeypatch: pytest.MonkeyPatch, native: list[str], precisions: tuple[str, ...]
) -> None:
    monkeypatch.setattr(openvino, "_core", lambda: SimpleNamespace(get_property=lambda device, name: native))
    assert backends.get("openvino").precisions() == precisions


@pytest.mark.parametrize("graph", [b"", b"garbage" * 10, b"<net/>", "half"], ids=["empty", "garbage", "XML", "half"])
def test_a_graph_that_is_broken(backend: Backend, tiny, graph: Any) -> None:
    graph = tiny.graph[: len(tiny.graph) // 2] if graph == "half" else graph
    refused(lambda: backend.compile(graph, tiny.modulation, SHAPE, "fp32", 1), f"{backend.name} cannot compile")


@pytest.mark.parametrize("shape", [(1, 6, 7, 12), (1, 4, 8, 12)], ids=["no multiple", "channels"])
def test_a_shape_that_the_graph_does_not_have(backend: Backend, tiny, shape: Any) -> None:
    refused(lambda: backend.compile(tiny.graph, tiny.modulation, shape, "fp32", 1).evaluate(0), backend.name)


@pytest.mark.parametrize("size", [-4, 4, 0], ids=["shorter", "longer", "empty"])
def test_a_modulation_that_the_graph_does_not_have(backend: Backend, tiny, size: int) -> None:
    steps, own = tiny.modulation.shape
    modulation = np.zeros((steps, own + size if size else 0), np.float32)
    refused(lambda: backend.compile(tiny.graph, modulation, SHAPE, "fp32", 1).evaluate(0), backend.name)

    def retimed() -> None:
        network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", 1)
        network.retime(modulation)
        network.evaluate(0)

    refused(retimed, backend.name)


@pytest.mark.parametrize("damage", [lambda e: b"", lambda e: b"garbage" * 99, lambda e: e[: len(e) // 2]], ids=range(3))
def test_an_engine_that_is_damaged(tiny, damage: Any) -> None:
    backend = backends.get("openvino")
    engine = damage(backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", 1).export())
    refused(lambda: backend.restore(engine, tiny.modulation, SHAPE, "fp32", 1), "openvino cannot load its engine")


def test_an_engine_for_another_shape_or_network(tiny) -> None:
    backend = backends.get("openvino")
    engine = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", 1).export()
    assert engine is not None
    refused(lambda: backend.restore(engine, tiny.modulation, (1, 6, 8, 8), "fp32", 1), "cannot load its engine")
    other = backend.restore(engine, tiny.modulation[:, :-4], SHAPE, "fp32", 1)
    refused(lambda: other.evaluate(0), "openvino failed at step 0")


def test_an_engine_that_fails_while_running(backend: Backend, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("\n  out of luck\nat line 3")

    network: Any = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", 1)
    broken = SimpleNamespace(set_tensor=lambda *_: None, infer=fail, run_with_iobinding=fail)
    monkeypatch.setattr(network, "_request" if backend.name == "openvino" else "_session", broken)
    refused(lambda: network.evaluate(1), f"^{backend.name} failed at step 1: out of luck$")


# Libraries that are not there


def test_a_library_that_is_not_installed(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(FILES[backend.name], "version", absent)
    assert backend.missing() == f"{backend.name} is not installed: pip install {backend.name}"
    assert backend.version() == ""
    assert backend not in backends.available()


@pytest.mark.parametrize("error", [ImportError("libwhat.so.1: not found\nmore"), RuntimeError("no plugins")], ids=repr)
def test_openvino_that_does_not_load(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(openvino, "_core", fail)
    assert backends.get("openvino").missing() == f"openvino does not load: {str(error).splitlines()[0]}"


def test_openvino_without_its_cpu_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "_core", lambda: SimpleNamespace(available_devices=["GPU"]))
    assert "no CPU plugin" in str(backends.get("openvino").missing())


def test_onnxruntime_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    # None in this table makes the import fail.
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert str(backends.get("onnxruntime").missing()).startswith("onnxruntime does not load: ")


def test_onnxruntime_without_a_cpu_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(get_available_providers=lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    assert "no CPU provider" in str(backends.get("onnxruntime").missing())


def test_a_backend_that_nobody_knows() -> None:
    with pytest.raises(InputError, match=r"backend 'tensorrt' is unknown \(use one of openvino, onnxruntime\)"):
        backends.get("tensorrt")


def test_backends_are_listed_by_their_names_in_order_of_preference() -> None:
    assert list(backends.BACKENDS) == ["openvino", "onnxruntime"]
    assert [backend.name for backend in backends.BACKENDS.values()] == list(backends.BACKENDS)
