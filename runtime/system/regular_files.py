"""Files that are read whole: a pipe would make the reader wait for ever, a device never end."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file for reading; links to one are followed.

    Raises:
        OSError: as `open` does; for pipes, sockets and devices one whose `strerror` says what it is.
    """
    _refuse(path, os.stat(path).st_mode)
    # It may be a pipe by now: O_NONBLOCK opens one without waiting for its writer, and means nothing for a file.
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (the caller's to close)
    try:
        _refuse(path, os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _refuse(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "no file")
        raise OSError(errno.EINVAL, f"it is {kind}, and only files are read", str(path))
