"""OpenVINO: the engines that it exports, what it refuses of them, and what the processor computes with it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.runtime import backends
from mrs.runtime.backends import openvino
from mrs.runtime.backends.settings import CompileSettings
from tests.runtime.evaluations import SHAPE, refused

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(4)]


def test_openvino_restores_what_it_exported(tiny, packed) -> None:
    backend = backends.get("openvino")
    first = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    engine = first.export()
    assert engine
    again = backend.restore(engine, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    for network in (first, again):
        network.packed[...] = packed
        network.evaluate(2)
    np.testing.assert_array_equal(again.output, first.output)


def test_bf16_is_refused_where_the_processor_lacks_it(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.get("openvino")
    monkeypatch.setattr(type(backend), "precisions", lambda self: ("fp32",))
    refused(lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, "bf16", CompileSettings(1)), "runs no bf16")
    refused(lambda: backend.restore(b"engine", tiny.modulation, SHAPE, "bf16", CompileSettings(1)), "runs no bf16")


@pytest.mark.parametrize(
    ("native", "precisions"), [(["FP32", "INT8"], ("fp32",)), (["FP32", "BF16"], ("fp32", "bf16"))], ids=str
)
def test_openvino_tells_what_the_processor_computes(
    monkeypatch: pytest.MonkeyPatch, native: list[str], precisions: tuple[str, ...]
) -> None:
    monkeypatch.setattr(openvino, "core", lambda: SimpleNamespace(get_property=lambda device, name: native))
    assert backends.get("openvino").precisions() == precisions


@pytest.mark.parametrize("damage", [lambda e: b"", lambda e: b"garbage" * 99, lambda e: e[: len(e) // 2]], ids=range(3))
def test_an_engine_that_is_damaged(tiny, damage: Any) -> None:
    backend = backends.get("openvino")
    engine = damage(backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)).export())
    refused(
        lambda: backend.restore(engine, tiny.modulation, SHAPE, "fp32", CompileSettings(1)),
        "openvino cannot load its engine",
    )


def test_an_engine_for_another_shape_or_network(tiny) -> None:
    backend = backends.get("openvino")
    engine = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)).export()
    assert engine is not None
    refused(
        lambda: backend.restore(engine, tiny.modulation, (1, 6, 8, 8), "fp32", CompileSettings(1)),
        "cannot load its engine",
    )
    other = backend.restore(engine, tiny.modulation[:, :-4], SHAPE, "fp32", CompileSettings(1))
    refused(lambda: other.evaluate(0), "openvino failed at step 0")


def test_an_engine_whose_error_quotes_its_bytes(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO's messages hold names out of the file, and Python cannot decode them."""
    backend = backends.get("openvino")

    def fail(*_: object) -> None:
        b"core.cpp:217:\nno layer \xff\xfe here\n".decode()

    core = SimpleNamespace(import_model=fail, read_model=fail, get_property=lambda *_: [])
    monkeypatch.setattr(openvino, "core", lambda: core)
    for call, says in (
        (
            lambda: backend.restore(b"engine", tiny.modulation, SHAPE, "fp32", CompileSettings(1)),
            "cannot load its engine for .*: no layer",
        ),
        (
            lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)),
            "cannot compile the graph .*: no layer",
        ),
    ):
        refused(call, says)


def test_bfloat16_that_openvino_does_not_compute(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would compute in float32 without a word."""
    backend = backends.get("openvino")
    if "bf16" in backend.precisions():
        pytest.skip("this processor has bfloat16")
    refused(
        lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, "bf16", CompileSettings(1)),
        "runs no bf16 .*use precision fp32",
    )
    monkeypatch.setattr(type(backend), "precisions", lambda self: ("fp32", "bf16"))
    refused(
        lambda: backend.compile(tiny.graph, tiny.modulation, SHAPE, "bf16", CompileSettings(1)),
        "computes in float32 here",
    )


@pytest.mark.parametrize("limit", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_a_variable_that_hides_instructions_is_named(tiny, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv(limit, "AVX2")
    backend = backends.get("openvino")
    refused(
        lambda: backend.compile(tiny.graph, tiny.modulation, (1, 4, 8, 12), "fp32", CompileSettings(1)),
        f".unset {limit}, which",
    )


@pytest.mark.parametrize("error", [ImportError("libwhat.so.1: not found\nmore"), RuntimeError("no plugins")], ids=repr)
def test_openvino_that_does_not_load(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(openvino, "core", fail)
    assert backends.get("openvino").missing() == f"openvino does not load: {str(error).splitlines()[0]}"


def test_openvino_without_its_cpu_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "core", lambda: SimpleNamespace(available_devices=["GPU"]))
    assert "no CPU plugin" in str(backends.get("openvino").missing())
