"""What this machine is, as far as a plan depends on it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from mrs.runtime.errors import InputError

# Variables that let oneDNN, on which engines rest, use fewer instructions than there are: other code is compiled then.
INSTRUCTION_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


@cache
def processor() -> str:
    """Name of the processor, such as `Intel(R) Xeon(R) Processor`."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


@cache
def instructions() -> tuple[str, ...]:
    """The instruction sets that decide how engines compile, of those that this processor has."""
    flags = set((_cpuinfo().get("flags") or _cpuinfo().get("Features") or "").split())
    telling = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "sve")
    return tuple(name for name in telling if name in flags)


def threads() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes of memory that can be had without swapping; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    kilobytes = fields.get("MemAvailable", "").split()
    return int(kilobytes[0]) * 1024 if kilobytes else None


def check_memory(what: str, needed: int, hint: str) -> None:
    """Refuse what does not fit into the free memory, before any of it is taken.

    Args:
        what: of that size, such as `size 512x512`.
        needed: bytes.
        hint: what to do instead.

    Raises:
        InputError: where it does not fit; never where the system does not tell.
    """
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(f"{what} needs {needed / 2**30:.0f} GiB of memory, {free / 2**30:.0f} are free", hint=hint)


def gpu() -> str:
    """Name and compute capability of the current NVIDIA GPU, such as `NVIDIA H200 9.0`; "" without one, or torch."""
    try:
        import torch
    except (ImportError, OSError):
        return ""
    return _gpu(torch.cuda.current_device()) if torch.cuda.is_available() else ""


@cache
def _gpu(index: int) -> str:
    import torch

    return "{} {}.{}".format(torch.cuda.get_device_name(index), *torch.cuda.get_device_capability(index))


def fingerprint(backend: str, version: str, device: str = "cpu") -> dict[str, str]:
    """What a compiled engine depends on; a plan's engine is used only where all of it is equal.

    Args:
        backend, version: of the engine.
        device: `cpu` or `cuda`.
    """
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": gpu() if device == "cuda" else processor(),
        "instructions": "" if device == "cuda" else " ".join(instructions()),
        "backend": f"{backend} {version}",
    }


def capability() -> tuple[int, int] | None:
    """Compute capability of the current NVIDIA GPU; None where there is none."""
    return _capability(gpu())


def serves(made_for: Mapping[str, str], here: Mapping[str, str]) -> bool:
    """Whether an engine with one fingerprint runs on a machine with another.

    All must be equal. An engine that was built for more than one GPU says so in a field `compatible`: then the
    processors may differ, as long as both have the same compute `capability`, or are both from `ampere` on.
    """
    own, other = dict(made_for), dict(here)
    how = own.pop("compatible", "")
    gpus = own.pop("processor", ""), other.pop("processor", "")
    if own != other or how not in ("", "capability", "ampere"):
        return False
    if not how or gpus[0] == gpus[1]:
        return gpus[0] == gpus[1]
    first, second = (_capability(gpu) for gpu in gpus)
    return first is not None and second is not None and (first == second if how == "capability" else second >= (8, 0))


def _capability(gpu: str) -> tuple[int, int] | None:
    """Compute capability at the end of a GPU's name."""
    found = re.search(r" (\d+)\.(\d+)$", gpu)
    return (int(found[1]), int(found[2])) if found else None


@cache
def _cpuinfo() -> dict[str, str]:
    """The first processor's entry of /proc/cpuinfo; empty on other systems."""
    try:
        entry = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in entry.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
