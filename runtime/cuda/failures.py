"""Errors of a GPU as ours, which say what to do."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mrs.runtime.device import Device, Stream
from mrs.runtime.errors import BackendError, DeviceError, DeviceMemoryError, MrsError
from mrs.runtime.system.handlers import let_through
from mrs.runtime.system.libraries import first_line
from mrs.runtime.system.toolchain import missing_tool

if TYPE_CHECKING:
    from mrs.runtime.cuda.nodes import Node

# What Triton raises besides classes of its own: where it cannot build or load a launcher, or finds a kernel wrong.
KINDS = (RuntimeError, AssertionError, OSError, ImportError, subprocess.SubprocessError)
# How it begins what CUDA says.
OF_CUDA = "Triton Error [CUDA]: "


@contextmanager
def translate_errors(device: Device, shape: Sequence[int], when: str) -> Iterator[None]:
    """Turn errors of a device, and of Triton that compiles and launches our kernels, into ours.

    Args:
        device: a `Cuda`.
        shape: (N, C, H, W) of the pictures.
        when: such as `during its first run`.

    Raises:
        DeviceMemoryError: where memory did not suffice.
        BackendError: where anything else failed.
    """
    try:
        yield
    except MrsError:
        raise
    except device.OutOfMemory as error:
        raise out_of_memory(shape, error) from error
    except Exception as error:
        let_through(error)
        if raised_by_triton(error) and not str(error).startswith(OF_CUDA):
            raise _not_built(when, error) from error
        if not isinstance(error, device.Failure):
            raise
        if str(error).startswith(f"{OF_CUDA}out of memory"):
            raise out_of_memory(shape, error) from error
        raise BackendError(f"the GPU failed {when}: {first_line(error)}") from error


def raised_by_triton(error: Exception) -> bool:
    """Whether an error is Triton's, or of what it called in Python's own library.

    The handler of a signal may raise the like anywhere, but from code of its own.
    """
    if not isinstance(error, KINDS) and _package(type(error).__module__) != "triton":
        return False
    packages = [_package(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    # Code that Triton makes as it runs has no name.
    while packages and (packages[-1] == "" or packages[-1] in sys.stdlib_module_names):
        packages.pop()
    return packages[-1:] == ["triton"]


def _package(module: str) -> str:
    return module.partition(".")[0]


def _not_built(when: str, error: BaseException) -> BackendError:
    # A function that a kernel calls comes first, without a reason.
    while error.__cause__ is not None:
        error = error.__cause__
    kind = type(error).__name__
    if isinstance(error, subprocess.CalledProcessError):
        command = error.cmd if isinstance(error.cmd, str) else error.cmd[0]
        said = f"{Path(command).name} ended with {error.returncode}"
    else:
        # Otherwise it would begin with the kernel's source.
        said = first_line(RuntimeError(getattr(error, "error_message", None) or str(error) or kind))
        said = said if said == kind or type(error) is RuntimeError else f"{kind}: {said}"
    return BackendError(
        f"Triton cannot compile a kernel {when}: {said}",
        hint=missing_tool() or "see mrs-trt doctor; a backend for CPUs (--backend) needs no Triton",
    )


def failure_of(
    device: Device,
    stream: Stream,
    nodes: Sequence[Node],
    working: Callable[[], AbstractContextManager[None]],
    error: Exception,
) -> DeviceError:
    """What to raise for an error of the device: where it happened, as far as a second run can find that out.

    Args:
        device: a `Cuda`.
        stream: on which it failed.
        nodes: what was carried out.
        working: a context in which they are.
        error: what the device failed with.
    """
    reason = first_line(error)
    try:
        device.wait(stream)
    except device.Failure as again:
        let_through(again)
        return DeviceError(
            f"the GPU failed and does not recover: {reason}",
            hint="end this process; nothing on the GPU can be used by it any more",
        )
    try:
        with working():
            for node in nodes:
                where = f"{node.name} of step {node.step}" if node.step >= 0 else node.name
                node.work()
                device.wait(stream)
    except device.Failure as again:
        let_through(again)
        return DeviceError(f"the GPU failed in {where}: {reason}", hint="restore again, or on another backend")
    return DeviceError(f"the GPU failed, but not again in the same restore: {reason}", hint="restore again")


def out_of_memory(shape: Sequence[int], error: Exception) -> DeviceMemoryError:
    """For pictures of a shape (N, C, H, W)."""
    count, _, height, width = shape
    return DeviceMemoryError(
        f"the GPU's memory does not suffice for {count} x {height}x{width}: {first_line(error)}",
        hint="restore in tiles, or in smaller batches; by way of latents, smaller pictures",
    )
