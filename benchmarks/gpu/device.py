"""The GPU that is measured: whether there is one, and what a row says of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mrs.runtime.errors import InputError

if TYPE_CHECKING:
    from mrs.runtime.manifest import JsonObject

PACKAGES = ("numpy", "torch", "triton", "onnx", "PIL", "pytest")
ANOTHER = "name a Python that has it: make gpu GPU_PYTHON=/path/to/python3"


def need_packages() -> None:
    """Check what can be checked without loading anything.

    Raises:
        InputError: for a package that is missing.
    """
    for name in PACKAGES:
        if find_spec(name) is None:
            raise InputError(f"{name} is not installed for {sys.executable}", hint=ANOTHER)
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        raise InputError("TRITON_INTERPRET is set, so that no kernel would run on the GPU", hint="unset it")


def need() -> None:
    """Check what the measurements need.

    Raises:
        InputError: for a package that is missing, or no GPU that torch can use.
    """
    need_packages()
    import torch

    if torch.version.cuda is None:
        raise InputError(f"torch {torch.__version__} for {sys.executable} is built without CUDA", hint=ANOTHER)
    with warnings.catch_warnings():
        # What it would warn of is said below.
        warnings.simplefilter("ignore")
        available = torch.cuda.is_available()
    if not available:
        raise InputError(
            "torch finds no NVIDIA GPU here", hint="nvidia-smi must list one, with a driver as new as torch's CUDA"
        )


def about(commit: str = "") -> JsonObject:
    """What a row says of the GPU, the machine and the libraries; `commit` where the checkout cannot tell."""
    import torch

    from benchmarks import rows

    here = rows.about()
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "commit": commit or here.pop("commit"),
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_mib": properties.total_memory >> 20,
        "cache_mib": properties.L2_cache_size >> 20,
        "driver": driver(),
        **{key: here[key] for key in ("processor", "threads")},
        "versions": {**here["versions"], "torch": torch.__version__, "cuda": torch.version.cuda},
    }


def driver(loaded: Path = Path("/proc/driver/nvidia/version")) -> str:
    """Version of the driver; "" where nothing tells."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        text = loaded.read_text() if loaded.exists() else ""
    found = re.search(r"\d{3,}\.\d+(\.\d+)?", text)
    return found.group() if found else ""


def engines(precision: str) -> dict[str, str | None]:
    """Backends for NVIDIA GPUs by name, each with the reason why it cannot run here; None where it can."""
    from mrs.runtime import backends

    found: dict[str, str | None] = {}
    for name, engine in backends.BACKENDS.items():
        if engine.device == "cuda":
            found[name] = engine.missing()
            if found[name] is None and precision not in engine.precisions():
                found[name] = f"no {precision} on this GPU"
    return found
