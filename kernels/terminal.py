"""Standard streams that may be closed, full, or led to a reader that went away, and texts that may hold anything.

Every command writes here, in the lowest layer because the kernels have a command, too. Results (`emit`) must arrive, or
the command has failed. Notes (`note`: progress, warnings, errors) are lost where they cannot be written, and the work
goes on. Either way nothing is left for Python to fail on when it ends.
"""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import suppress
from typing import TextIO

# What a terminal, or a reader's eye, would take for a command: control characters but line feed and tab, marks that
# turn the direction of writing, separators of lines; and halves of characters, as names that are no text have them.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class OutputError(Exception):
    """Results cannot be written; its text says why.

    Attributes:
        unread: whether the reader went away, such as `head`.
    """

    def __init__(self, reason: str, unread: bool = False) -> None:
        super().__init__(reason)
        self.unread = unread


def prepare() -> None:
    """Call this first, where a process begins.

    Descriptors 0 to 2 that are closed lead nowhere from now on: otherwise the next file that is opened would get such a
    number, and libraries would write their warnings into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                # The lowest number that is free, which is this one.
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(ValueError, OSError):
                # Not every locale has every letter.
                stream.reconfigure(errors="backslashreplace")


def emit(text: str) -> None:
    """Write a result and a line feed to standard output.

    Raises:
        OutputError: where that cannot be done.
    """
    write(sys.stdout, f"{shown(text)}\n")


def note(text: str) -> None:
    """Write one line to standard error, if that can be done."""
    line = " ".join(part for part in map(str.rstrip, text.splitlines()) if part)
    with suppress(OutputError):
        write(sys.stderr, f"{shown(line)}\n")


def shown(text: str) -> str:
    """A text with its control characters as escapes, which are those of JSON and of Python."""
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write(stream: TextIO | None, text: str) -> None:
    """Write to a stream that may be None, and flush it.

    Raises:
        OutputError: where that cannot be done; what the stream still holds is dropped.
    """
    if stream is None:
        raise OutputError("it is closed")
    try:
        stream.write(text)
        stream.flush()
    except ValueError:  # a closed file of Python
        raise OutputError("it is closed") from None
    except OSError as error:
        _drop(stream)
        raise OutputError(error.strerror or str(error), isinstance(error, BrokenPipeError)) from None


def finish() -> None:
    """Call this last: what Python could not write when it ends is dropped, and its exit code stays."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OutputError):
            write(stream, "")


def interactive() -> bool:
    """Whether somebody sees standard error as it is written."""
    with suppress(ValueError, OSError):
        return sys.stderr is not None and sys.stderr.isatty()
    return False


class Notes(io.TextIOBase):
    """Standard error for libraries that write to a file, such as a progress bar; as `note`, but as it is."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What the bar draws itself with."""
        return getattr(sys.stderr, "encoding", None) or "ascii"

    def write(self, text: str) -> int:
        """Write text, if that can be done."""
        with suppress(OutputError):
            write(sys.stderr, text)
        return len(text)

    def isatty(self) -> bool:
        """As `interactive`."""
        return interactive()

    def fileno(self) -> int:
        """Of standard error; OSError where it has none."""
        if sys.stderr is None:
            raise OSError("standard error is closed")
        return sys.stderr.fileno()


def _drop(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere, and all that follows."""
    with suppress(OSError, ValueError, AttributeError):  # not a file, or closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
        stream.flush()
