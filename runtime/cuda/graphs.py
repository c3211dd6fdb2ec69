"""A list of launches as one CUDA graph, or why it cannot be one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mrs.runtime.cuda.failures import out_of_memory
from mrs.runtime.device import Device, Graph, Stream
from mrs.runtime.errors import CaptureError, MrsError
from mrs.runtime.system.handlers import let_through
from mrs.runtime.system.libraries import first_line

# What CUDA says of a capture that another thread ended, by a wait for the whole device most often (901), or by work for
# the default stream (906).
DISTURBED = (
    "operation failed due to a previous error during capture",
    "operation would make the legacy stream depend on a capturing blocking stream",
)


def graph_of(device: Device, stream: Stream, work: Callable[[], None], shape: Sequence[int]) -> Graph:
    """A graph of what `work` does on a stream.

    Args:
        device: a `Cuda`.
        stream: the current one.
        work: has run before; it is called again where another thread disturbed its capture.
        shape: (N, C, H, W) of the pictures.

    Raises:
        CaptureError: where it cannot be captured; says why.
        DeviceMemoryError: where the device's memory does not suffice.
    """
    try:
        try:
            return device.capture(stream, work)
        except device.Failure as error:
            let_through(error)
            if not any(reason in str(error) for reason in DISTURBED):
                raise
        # What another thread disturbed says nothing about the work.
        return device.capture(stream, work)
    except device.OutOfMemory as error:
        raise out_of_memory(shape, error) from error
    except MrsError as error:
        raise _not_captured(error.message) from error
    except device.Failure as error:
        let_through(error)
        raise _not_captured(first_line(error)) from error


def _not_captured(reason: str) -> CaptureError:
    return CaptureError(
        f"the restore cannot be captured as a CUDA graph: {reason}",
        hint="load the plan with graphs=False (--no-graphs) to launch one by one, with the same result",
    )
