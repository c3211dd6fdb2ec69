"""Engines that evaluate the network. One file each; a new one is a file with the protocol's two classes, named here."""

from __future__ import annotations

from mrs.runtime.backends.onnxruntime import OnnxRuntime
from mrs.runtime.backends.onnxruntime_gpu.backend import OnnxRuntimeGpu
from mrs.runtime.backends.onnxruntime_gpu.installation import CUDA, TENSORRT
from mrs.runtime.backends.openvino import OpenVino
from mrs.runtime.backends.protocol import Backend, Network
from mrs.runtime.backends.tensorrt.backend import TensorRt
from mrs.runtime.backends.torch import Torch
from mrs.runtime.errors import InputError

# In the order in which a plan falls back from one to another.
# A plan for CPUs must not fall back on a GPU and load torch while another can run.
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        OpenVino(),
        OnnxRuntime(),
        TensorRt(),
        OnnxRuntimeGpu("onnxruntime-cuda", CUDA),
        OnnxRuntimeGpu("onnxruntime-tensorrt", TENSORRT),
        Torch("torch", compiled=True),
        Torch("torch-eager", compiled=False),
    )
}


def get(name: str) -> Backend:
    """The backend called `name`, whether it can run here or not.

    Raises:
        InputError: where there is none of that name.
    """
    if name not in BACKENDS:
        raise InputError(f"backend {name!r} is unknown", hint=f"use one of {', '.join(BACKENDS)}")
    return BACKENDS[name]


def available() -> list[Backend]:
    """The backends that can run on this machine, in the order of preference."""
    return [backend for backend in BACKENDS.values() if backend.missing() is None]


__all__ = ["BACKENDS", "Backend", "Network", "available", "get"]
