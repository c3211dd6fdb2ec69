"""`mrs-trt doctor`: what this machine can run. Never crashes: whatever fails becomes a line of the report."""

from __future__ import annotations

import argparse
import platform
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version

from mrs._version import __version__
from mrs.commands import arguments
from mrs.kernels.terminal import emit

MISSING = "not installed"
# Distribution and what it is for.
LIBRARIES = (
    ("numpy", "restoring"),
    ("pillow", "restoring"),
    ("openvino", "restoring on CPUs (default backend)"),
    ("onnxruntime", "restoring on CPUs (fallback backend)"),
    ("onnxruntime-gpu", "restoring on NVIDIA GPUs; instead of onnxruntime"),
    ("tensorrt", "restoring on NVIDIA GPUs by compiled engines"),
    ("nvidia-modelopt", "building plans in int8 and fp8 for tensorrt"),
    ("torch", "building plans, training"),
    ("onnx", "building plans"),
    ("safetensors", "building plans from .safetensors, training"),
    ("triton", "the sampler's kernels for NVIDIA GPUs"),
)


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "doctor", help="report what this machine can run",
        description="Report versions, processor, memory and backends, and what is missing for what.",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report; 0 where at least one backend can run, else 1."""
    emit(f"mrs-trt      {__version__}, Python {platform.python_version()} at {sys.executable}")
    emit(f"system       {_safely(platform.platform)}")
    for label, probe in (
        ("processor", _processor), ("memory", _memory), ("kernels", _kernels), ("gpu", _gpu), ("cache", _cache),
    ):  # fmt: skip
        emit(f"{label:<12} {_safely(probe)}")
    emit("\nlibraries")
    for name, purpose in LIBRARIES:
        found = _safely(partial(_version, name))
        how = _safely(partial(_extra, name)) if found == MISSING else ""
        emit(f"  {name:<15} {found:<14} {purpose}{': ' if how else ''}{how}")
    emit("\nbackends (those on cuda need the gpu above, too)")
    usable, lines = _backends()
    emit("\n".join(lines))
    advice = [line for line in (_safely(probe) for probe in (_torch, _tools, _two_runtimes)) if line]
    if advice:
        emit("\n  ".join(["\nto do", *advice]))
    if not usable:
        emit("\nno backend can run here: pip install openvino")
    return 0 if usable else 1


def _processor() -> str:
    from mrs.runtime.system import machine

    known = " ".join(machine.instructions()) or "no instruction set of interest"
    return f"{machine.processor()}, {machine.threads()} threads usable ({known})"


def _memory() -> str:
    from mrs.runtime.system import machine

    free = machine.free_memory()
    return "unknown" if free is None else f"{free / 2**30:.1f} GiB free"


def _gpu() -> str:
    from mrs.runtime.errors import BackendError
    from mrs.runtime.system.nvidia_driver import read_driver

    try:
        driver = read_driver()
    except BackendError as error:
        return f"none: {error.message}: {error.hint}"
    gpus = (f"{gpu.name}, compute capability {gpu.capability}, {gpu.memory / 2**30:.1f} GiB" for gpu in driver.gpus)
    return f"{'; '.join(gpus)}; driver {driver.version or 'of unknown version'} for CUDA up to {driver.cuda}"


def _kernels() -> str:
    from mrs.kernels import cpu

    return "compiled" if cpu.compiled() else "NumPy (slower): install a C compiler and reinstall mrs-trt"


def _cache() -> str:
    from mrs.runtime.network_cache import NetworkCache

    cache = NetworkCache()
    found = cache.contents()
    if found.trouble:
        return f"not used: {found.folder or ''} {found.trouble}".replace("  ", " ")
    networks = f"{found.count} compiled network{'s' * (found.count != 1)}"
    beside = ", the largest aside" if found.size > cache.most else ""
    return f"{found.folder}: {networks}, {found.size / 2**20:.1f} MiB of at most {cache.most >> 20}{beside}"


def _torch() -> str:
    """What to do about torch on a machine with a GPU; a backend would tell the first reason that it meets, not all."""
    if not _has_gpu():
        return ""
    try:
        import torch
    except (ImportError, OSError):
        # Why is said above.
        return ""
    from mrs.runtime.backends.torch import FOR_CPUS

    return FOR_CPUS if torch.version.cuda is None and torch.version.hip is None else ""


def _tools() -> str:
    """What to install for Triton on a machine with a GPU."""
    from mrs.runtime.system.toolchain import missing_tool

    return (missing_tool() or "") if _has_gpu() else ""


def _two_runtimes() -> str:
    """What to do where both builds of ONNX Runtime are installed: they have the same files, and one lost its own."""
    if MISSING in (_version("onnxruntime"), _version("onnxruntime-gpu")):
        return ""
    both, one = "pip uninstall -y onnxruntime onnxruntime-gpu", "pip install 'mrs-trt[onnxruntime-gpu]'"
    return f"onnxruntime and onnxruntime-gpu are installed over each other: {both}, then {one}, which serves CPUs too"


def _has_gpu() -> bool:
    from mrs.runtime.errors import BackendError
    from mrs.runtime.system.nvidia_driver import read_driver

    try:
        read_driver()
    except BackendError:
        return False
    return True


def _backends() -> tuple[bool, list[str]]:
    try:
        from mrs.runtime.backends import BACKENDS
    except Exception as error:  # noqa: BLE001 (a broken installation is what doctor is for)
        return False, [f"  not loadable: {_reason(error)}"]
    usable, lines = False, []
    width = max(map(len, BACKENDS))
    for backend in BACKENDS.values():
        try:
            reason = backend.missing()
            state = f"runs {' '.join(backend.precisions())}" if reason is None else reason
            usable = usable or reason is None
        except Exception as error:  # noqa: BLE001 (see above)
            state = f"fails: {_reason(error)}"
        lines.append(f"  {backend.name:<{width}} {backend.device:<4} {_safely(backend.version):<14} {state}")
    return usable, lines


def _version(name: str) -> str:
    try:
        # Damaged metadata have none.
        return version(name) or "unknown"
    except PackageNotFoundError:
        return MISSING


def _extra(name: str) -> str:
    """How to get a distribution: the first of our extras that brings it; "" where none does."""
    try:
        lines = requires("mrs-trt") or []
    except PackageNotFoundError:
        # Run from its folder, without an install.
        lines = []
    for line in lines:
        found = re.match(r"([\w.-]+).*\bextra == ['\"]([\w-]+)", line)
        if found and found[1].lower() == name:
            return f"pip install 'mrs-trt[{found[2]}]'"
    return ""


def _safely(probe: Callable[[], str]) -> str:
    try:
        return probe()
    except Exception as error:  # noqa: BLE001 (see above)
        return f"unknown ({_reason(error)})"


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
