"""Errors that a user can act on, apart from our own bugs.

Every error of this package that a caller may want to catch derives from `MrsError`. Its text is one line without a
full stop; `hint` says what to do next and is printed after the error by the command line.
"""

from __future__ import annotations


class MrsError(Exception):
    """Base of all errors raised on purpose; `hint` is the next thing to try."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message

    @property
    def message(self) -> str:
        """The error without its hint."""
        return super().__str__()


class InputError(MrsError, ValueError):
    """An argument, a file or a setting given by the user is wrong."""


class PictureError(InputError):
    """A picture cannot be read, understood or written."""


class CheckpointError(InputError):
    """A checkpoint cannot be read, or its keys do not fit the network."""


class PlanError(InputError):
    """A plan file is missing, foreign, damaged or of another format version."""


class BackendError(MrsError, RuntimeError):
    """A backend is not installed, or failed to compile or run a graph."""


class DeviceMemoryError(BackendError, MemoryError):
    """A GPU has not enough memory for pictures of this size."""


class DeviceError(BackendError):
    """A GPU failed during a restore."""


class CaptureError(BackendError):
    """A restore could not be captured as one CUDA graph."""


class BusyError(MrsError, RuntimeError):
    """As many calls as may wait for a worker are waiting already."""


class DeadlineError(MrsError, TimeoutError):
    """The time that a call gave itself was over before its restore was launched."""


class CancelledError(MrsError, RuntimeError):
    """A call was cancelled before its restore was complete."""
