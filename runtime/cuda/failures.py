"""Errors of a GPU as ours, which say what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mrs.runtime.errors import BackendError, DeviceMemoryError, MrsError
from mrs.runtime.libraries import first_line


@contextmanager
def told(device: Any, shape: Sequence[int], when: str) -> Iterator[None]:
    """Turn a device's errors into ours.

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
    except device.Failure as error:
        raise BackendError(f"the GPU failed {when}: {first_line(error)}") from error


def out_of_memory(shape: Sequence[int], error: Exception) -> DeviceMemoryError:
    """For pictures of a shape (N, C, H, W)."""
    count, _, height, width = shape
    return DeviceMemoryError(
        f"the GPU's memory does not suffice for {count} x {height}x{width}: {first_line(error)}",
        hint="restore in tiles, or in smaller batches",
    )
