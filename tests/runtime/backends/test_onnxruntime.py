"""ONNX Runtime on a CPU: it has no engines, and says why it does not load."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mrs
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from tests.golden.networks import weights
from tests.runtime.evaluations import SHAPE, refused

# Peaks of memory, in kB, after each of three evaluations.
PEAKS = """
import sys, numpy as np
from mrs.runtime.backends.onnxruntime import OnnxRuntime
from mrs.runtime.backends.settings import CompileSettings
with open(sys.argv[1], "rb") as file:
    graph = file.read()
modulation = np.zeros((1, int(sys.argv[2])), np.float32)
network = OnnxRuntime().compile(graph, modulation, (1, 6, 256, 256), "fp32", CompileSettings(1))
for _ in range(3):
    network.evaluate(0)
    print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


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


@pytest.mark.slow(4)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from Linux")
def test_no_evaluation_takes_more_memory_than_the_first(tmp_path: Path) -> None:
    """Values of 100 MB here: a plan counts on what one evaluation takes."""
    net: Any = mrs.load_checkpoint(weights("irsde_unet_d2.pth", tmp_path))
    modulation = net.arch.modulation(net, [1.0])
    graph = net.arch.graph({key: value.numpy() for key, value in net.state_dict().items()}, None)
    (tmp_path / "graph.onnx").write_bytes(graph.SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, str(tmp_path / "graph.onnx"), str(modulation.shape[1])],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    first, *_, last = map(int, done.stdout.split())
    assert last - first < 20_000
