"""Where this user's programs keep what can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """This project's folder there, which need not exist: `mrs-trt` below XDG_CACHE_HOME, or below `~/.cache`.

    A relative XDG_CACHE_HOME does not count, as the XDG Base Directory Specification says.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path("~/.cache").expanduser()) / "mrs-trt"
