"""What ONNX Runtime needs on a GPU, and which of it is not there; no session is made to find out.

ONNX Runtime itself would write a warning and run on the CPU.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

from mrs.runtime.backends.torch import Torch
from mrs.runtime.system import libraries
from mrs.runtime.system.libraries import first_line, import_onnxruntime

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
DISTRIBUTION = "onnxruntime-gpu"
INSTALL = "pip install 'mrs-trt[onnxruntime-gpu]'"
# Replays of its graphs wait for the device in older ones, and there is no other way to stop them.
OLDEST = (1, 31)
# All builds for CUDA 12 and 13 want these very numbers.
CUDNN, CURAND = 9, 10
TF32 = "NVIDIA_TF32_OVERRIDE"
NEEDED = re.compile(rb"\0lib(nvinfer|nvonnxparser)\.so\.(\d+)\0")


def missing(provider: str) -> str | None:
    """Why a provider cannot run here and what to do about it, in one line; None where it can.

    Args:
        provider: CUDA or TENSORRT.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return f"{DISTRIBUTION} is not installed: {INSTALL}"
    try:
        onnxruntime = import_onnxruntime()
    except (ImportError, OSError) as error:
        return f"onnxruntime does not load: {first_line(error)}"
    found = re.match(r"(\d+)\.(\d+)", onnxruntime.__version__)
    if found is None or tuple(map(int, found.groups())) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return f"onnxruntime {onnxruntime.__version__} is too old, {oldest} is needed: pip install -U {DISTRIBUTION}"
    if provider not in onnxruntime.get_available_providers():
        return _wrong_build(onnxruntime, provider)
    # The chain and its kernels work with torch, whatever evaluates the network.
    reason = Torch("torch", compiled=False).missing() or _missing_library(onnxruntime, provider)
    if reason is None and provider == TENSORRT and os.environ.get(TF32) != "0":
        return f"TensorRT in onnxruntime would round float32 to TF32: set {TF32}=0 before the process starts"
    return reason


def installed_version() -> str:
    """Of the build for GPUs; "" where it is not installed."""
    return libraries.installed_version(DISTRIBUTION)


def _wrong_build(onnxruntime: ModuleType, provider: str) -> str:
    if provider == TENSORRT and CUDA in onnxruntime.get_available_providers():
        return f"this onnxruntime is built without TensorRT: {INSTALL}"
    if installed_version():
        # Both have the same module, and the one that was installed last overwrote the other.
        return f"onnxruntime hides {DISTRIBUTION}: pip uninstall both, then {INSTALL}"
    return f"this onnxruntime is a build for CPUs: pip uninstall onnxruntime, then {INSTALL}"


def _missing_library(onnxruntime: ModuleType, provider: str) -> str | None:
    """The first library of NVIDIA's that does not load, if any."""
    major = str(onnxruntime.cuda_version).split(".")[0]
    # Elsewhere they are called otherwise, and only a session tells.
    if sys.platform != "linux" or not major.isdigit():
        return None
    names = [f"lib{name}.so.{major}" for name in ("cudart", "cublasLt", "cublas")]
    names += [f"libcurand.so.{CURAND}", f"libcudnn.so.{CUDNN}"]
    if not all(map(_loads, names)):
        # Those that pip installs lie where the loader does not look. It reports on standard output, which is data.
        with redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls(directory="")
    for name in names:
        if not _loads(name):
            return f"{name} does not load{_other_cuda(major)}: pip install '{DISTRIBUTION}[cuda,cudnn]'"
    if provider == CUDA:
        return None
    for name, number in _tensorrt_libraries(Path(str(onnxruntime.__file__)).parent):
        library = f"lib{name}.so.{number}"
        if not _loads(library) and not (_preloaded_tensorrt() and _loads(library)):
            return f"{library} does not load: pip install 'tensorrt-cu{major}=={number}.*'"
    return None


def _other_cuda(major: str) -> str:
    """Where torch is for another CUDA than ONNX Runtime: the reason why its libraries do not serve."""
    import torch

    its = (torch.version.cuda or major).split(".")[0]
    return "" if its == major else f", as onnxruntime is built for CUDA {major} and torch for CUDA {its}"


def _tensorrt_libraries(folder: Path) -> Iterator[tuple[str, int]]:
    """Names and numbers of the libraries that the provider was linked with."""
    try:
        content = (folder / "capi" / "libonnxruntime_providers_tensorrt.so").read_bytes()
    except OSError:
        return
    # Neighbours share the zero between them.
    for name, number in sorted(set(NEEDED.findall(content.replace(b"\0", b"\0\0")))):
        yield name.decode(), int(number)


def _preloaded_tensorrt() -> bool:
    """Load the libraries that pip installed; whether there are some."""
    try:
        importlib.import_module("tensorrt_libs")
    except (ImportError, OSError):
        return False
    return True


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
