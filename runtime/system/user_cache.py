"""Where this user's programs keep what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

# What is said where there is no folder.
NO_FOLDER = "this user has no home folder, and XDG_CACHE_HOME is not set"


def user_cache() -> Path | None:
    """This project's folder there, which need not exist: `mrs-trt` below XDG_CACHE_HOME, or below `~/.cache`.

    A relative XDG_CACHE_HOME does not count, as the XDG Base Directory Specification says.

    Returns:
        None where this user has no home, as in containers under a number that no passwd entry names. Whoever keeps
        something there does without.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "mrs-trt"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    # HOME may say anything, too.
    return home / ".cache" / "mrs-trt" if home.is_absolute() else None
