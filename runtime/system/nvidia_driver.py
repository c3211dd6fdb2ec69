"""NVIDIA's driver and the GPUs it serves, asked without torch and without starting a program.

Numbers and functions are those of CUDA's driver API (cuda.h).
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mrs.runtime.errors import BackendError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
KERNEL_MODULE = Path("/proc/driver/nvidia/version")
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
# Of a stream that neither waits for the default one nor is waited for.
NON_BLOCKING = 1
NAME_LENGTH = 256
# Of a thread: captures of other threads do not count.
THREAD_LOCAL = 1
# What the driver refuses to start with, and what helps.
ADVICE = {
    34: "a stub of the driver comes first on the loader's path: take it off LD_LIBRARY_PATH",
    100: "in a container, start it with the GPUs (docker run --gpus all)",
    802: "wait until it is ready; a machine with NVSwitch needs nvidia-fabricmanager",
    803: "the driver was updated while it ran: reboot, or make the container's libraries fit the driver",
    804: "take CUDA's compatibility libraries off LD_LIBRARY_PATH, or update the driver",
}


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name, compute capability such as `9.0`, and bytes of memory."""

    name: str
    capability: str
    memory: int


@dataclass(frozen=True)
class Driver:
    """A driver that works.

    Attributes:
        version: of the driver, such as `580.95.05`; "" where the system does not tell.
        cuda: the newest CUDA that it serves, such as `13.0`.
        gpus: at least one.
    """

    version: str
    cuda: str
    gpus: tuple[Gpu, ...]


def read_driver() -> Driver:
    """The driver and its GPUs. Takes no memory on them.

    Raises:
        BackendError: where there is none, or no GPU: why, and what to do.
    """
    library = _library()
    number, text = ctypes.c_int(), ctypes.create_string_buffer(NAME_LENGTH)
    _call(library, "cuDriverGetVersion", ctypes.byref(number))
    cuda = f"{number.value // 1000}.{number.value % 1000 // 10}"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        raise BackendError("CUDA_VISIBLE_DEVICES hides every GPU", hint="unset it")
    _call(library, "cuInit", 0)
    _call(library, "cuDeviceGetCount", ctypes.byref(number))
    gpus = []
    for index in range(number.value):
        device, memory = ctypes.c_int(), ctypes.c_size_t()
        _call(library, "cuDeviceGet", ctypes.byref(device), index)
        _call(library, "cuDeviceGetName", text, NAME_LENGTH, device)
        _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
        capability = []
        for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR):
            _call(library, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
            capability.append(str(number.value))
        gpus.append(Gpu(text.value.decode(errors="replace"), ".".join(capability), memory.value))
    return Driver(_version(), cuda, tuple(gpus))


def new_stream(index: int) -> int:
    """A new stream of a GPU, as CUDA numbers it, which no library knows of.

    Args:
        index: the GPU's number.

    Raises:
        BackendError: where the driver refuses.
    """
    library = _library()
    device, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
    _call(library, "cuInit", 0)
    _call(library, "cuDeviceGet", ctypes.byref(device), index)
    # The one in which libraries above the runtime API work; a thread has it only once it has called that.
    _call(library, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    _call(library, "cuCtxPushCurrent_v2", context)
    try:
        _call(library, "cuStreamCreate", ctypes.byref(stream), NON_BLOCKING)
    finally:
        _call(library, "cuCtxPopCurrent_v2", ctypes.byref(context))
    assert stream.value is not None
    return stream.value


@contextmanager
def apart_from_captures() -> Iterator[None]:
    """A context in which captures of other threads do not concern the calling one, nor it them.

    A library may capture in CUDA's global mode. Allocating and waiting are refused then in all threads that are in the
    mode in which each begins, and end the capture. Where the driver does not change that, nothing is done: what fails
    next tells why.
    """
    before = _exchanged(THREAD_LOCAL)
    try:
        yield
    finally:
        if before is not None:
            _exchanged(before)


def _exchanged(mode: int) -> int | None:
    """Give the calling thread a mode; the one that it had, None where that cannot be."""
    exchange, value = _exchange(), ctypes.c_int(mode)
    return value.value if exchange is not None and exchange(ctypes.byref(value)) == 0 else None


@cache
def _exchange() -> Callable[..., int] | None:
    """The driver's function; None where there is none."""
    try:
        return getattr(_library(), "cuThreadExchangeStreamCaptureMode", None)
    except BackendError:
        return None


def why_unseen(cuda: str) -> str:
    """Why a library does not see a GPU, and what to do, in one line.

    Args:
        cuda: the version of CUDA that the library is built for.
    """
    try:
        driver = read_driver()
    except BackendError as error:
        return f"{error.message}: {error.hint}"
    if int(driver.cuda.split(".")[0]) < int(cuda.split(".")[0]):
        return f"the driver serves CUDA up to {driver.cuda}, and this is a build for {cuda}: update the driver"
    return f"{driver.gpus[0].name} cannot be used: check it with nvidia-smi"


def _library() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        raise BackendError("no NVIDIA driver is found", hint="install it; CPUs need none") from None


def _call(library: ctypes.CDLL, name: str, *arguments: object) -> None:
    function = getattr(library, name, None)
    code = 1 if function is None else function(*arguments)
    if code == 0:
        return
    text = ctypes.c_char_p()
    if function is not None and library.cuGetErrorString(code, ctypes.byref(text)) == 0 and text.value:
        what = text.value.decode(errors="replace")
    else:
        what = f"{name} fails with {code}"
    advice = ADVICE.get(code, "check it with nvidia-smi")
    raise BackendError(f"the NVIDIA driver does not work: {what}", hint=advice)


def _version() -> str:
    """From the kernel module, for the API does not tell."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", KERNEL_MODULE.read_text())
    except OSError:
        return ""
    return found[1] if found else ""
