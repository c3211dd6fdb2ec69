"""What Triton builds its launchers with, on the machine where a kernel runs: a C compiler and Python's headers."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

# In the order in which Triton looks for them.
COMPILERS = ("gcc", "clang")


def missing_tool() -> str | None:
    """What is not there and what to do about it, in one line; None where nothing is missing."""
    named = os.environ.get("CC")
    if named is not None and shutil.which(named) is None:
        return f"CC names {named}, which is no program: unset CC, or let it name a C compiler (Triton needs one)"
    if named is None and not any(map(shutil.which, COMPILERS)):
        return "there is no C compiler, which Triton needs: install gcc (apt install gcc), or let CC name one"
    header = _headers() / "Python.h"
    if not header.exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return f"Python's headers, which Triton needs, are not there ({header}): apt install python{version}-dev"
    return None


def _headers() -> Path:
    """The folder where Triton looks for them."""
    scheme = sysconfig.get_default_scheme()
    # Debian's own scheme would name a folder of local installs.
    return Path(sysconfig.get_paths(scheme="posix_prefix" if scheme == "posix_local" else scheme)["include"])
