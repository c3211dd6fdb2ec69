"""ONNX Runtime's double in the place of the module, with a GPU's double below it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrs.runtime.backends.onnxruntime_gpu import OnnxRuntimeGpu
from mrs.runtime.backends.torch import Torch
from tests.runtime.left_out import lacking, left_out

MISSING = lacking("torch", "triton", "onnx", "onnxruntime")
if not MISSING:
    from tests import interpreter

    interpreter.choose()
    from tests.runtime.backends.onnxruntime_double import Gpu, module_for
    from tests.runtime.backends.onnxruntime_gpu.outputs import PROVIDERS, SHAPE


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module | None:
    return left_out(MISSING, module_path, parent)


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


@pytest.fixture(params=["onnxruntime-cuda", "onnxruntime-tensorrt"])
def engine(request: pytest.FixtureRequest, gpu: Gpu, runtime: Any) -> OnnxRuntimeGpu:
    return OnnxRuntimeGpu(request.param, PROVIDERS[request.param], lambda: gpu)


@pytest.fixture(scope="module")
def packed() -> np.ndarray[Any, Any]:
    """The input of a network."""
    return np.random.default_rng(0).standard_normal(SHAPE, np.float32)
