"""ONNX Runtime on a CPU: it has no engines, and says why it does not load."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import pytest

from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from tests.runtime.evaluations import SHAPE, refused


def test_onnxruntime_has_no_engines(tiny) -> None:
    backend = backends.get("onnxruntime")
    assert backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1)).export() is None
    refused(
        lambda: backend.restore(b"engine", tiny.modulation, SHAPE, "fp32", CompileSettings(1)), "no compiled engines"
    )


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
