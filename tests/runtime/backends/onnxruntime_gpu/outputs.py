"""What a network gives on the double of a GPU, and on a CPU."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from mrs.runtime.backends.onnxruntime import OnnxRuntime
from mrs.runtime.backends.onnxruntime_gpu import installation
from mrs.runtime.backends.settings import CompileSettings
from tests.runtime.backends.onnxruntime_double import Gpu

SHAPE = (2, 6, 16, 24)
PROVIDERS = {"onnxruntime-cuda": installation.CUDA, "onnxruntime-tensorrt": installation.TENSORRT}


def output(gpu: Gpu, network: Any, packed: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    """What a network gives to whoever works on the default stream."""
    gpu.wait(gpu.default)
    network.packed.copy_(torch.from_numpy(packed))
    network.output.fill_(float("nan"))
    network.evaluate(step)
    gpu.wait(gpu.default)
    return network.output.float().numpy().copy()


def compiled_for_cpu(graph: bytes, modulation: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", onnxruntime)
        return OnnxRuntime().compile(graph, modulation, SHAPE, "fp32", CompileSettings(1))


def by_cpu(graph: bytes, modulation: Any, packed: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    network = compiled_for_cpu(graph, modulation)
    network.packed[...] = packed
    network.evaluate(step)
    return network.output.copy()
