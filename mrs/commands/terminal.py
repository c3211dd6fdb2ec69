"""What the commands say on standard error: errors and progress."""

from __future__ import annotations

from collections.abc import Callable

from mrs.kernels.terminal import note
from mrs.runtime.errors import MrsError


def print_error(error: MrsError, prefix: str = "error") -> None:
    """One line on stderr: what was wrong, and the hint."""
    text = f"{prefix}: {error.message}" + (f"; hint: {error.hint}" if error.hint else "")
    # Names of files and texts of libraries may hold line breaks.
    note(" ".join(text.split()))


def progress(quiet: bool) -> Callable[[str], None]:
    """What takes lines of progress; where `quiet`, nothing is said."""
    return _nothing if quiet else note


def _nothing(line: str) -> None:
    pass
