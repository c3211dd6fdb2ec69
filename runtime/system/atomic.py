"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from mrs.runtime.errors import InputError

# What a killed process leaves beside its target bears such a name.
LEFTOVER = re.compile(r"\..{0,32}\.mrs-[0-9a-f]{12}\.part", re.DOTALL)
# Seconds after which it is removed: one that a living process writes is younger, or locked.
ABANDONED = 600.0
# Entries of a folder that are looked at for leftovers: writing into a huge folder must not take seconds.
LOOKED_AT = 10_000
# What the system says where there is no room.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def replacing(path: Path, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` when the block ends well, and vanishes when it does not.

    The content goes to a temporary file in the same folder, is flushed to disk and renamed, so that a killed process
    leaves either the old file or the new one. An old file hands its permissions on. What processes that were killed
    left in the folder is removed. Errors of the block are passed on, but for OSError, which is taken for a failed write
    (a full disk).

    Args:
        path: of the file.
        overwrite: whether a file of that name may be replaced. Otherwise the name is taken only where nothing bears it
            at the end, even if that has appeared meanwhile.

    Raises:
        InputError: where `path` is a folder or no regular file, exists and may not be replaced, or its folder does not
            exist or cannot be written.
    """
    # Part of the name, so that a name of the longest length allowed still has a temporary one.
    temporary = path.parent / f".{path.name[:32]}.mrs-{secrets.token_hex(6)}.part"
    try:
        with _opened(temporary, path, overwrite) as file:
            remove_leftovers(str(path.parent))
            yield file
            file.flush()
            os.fsync(file.fileno())
        # No old file, or a file system without permissions.
        with suppress(OSError):
            os.chmod(temporary, path.stat().st_mode & 0o777)
        publish(temporary, path, overwrite)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise InputError(f"cannot write {path}: {_reason(error)}", hint=_advice(error)) from None
        raise


@contextmanager
def _opened(temporary: Path, path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """The temporary file, locked, where `path` can be written."""
    try:
        _check(path, overwrite)
        file = temporary.open("xb")
    except OSError as error:
        raise InputError(f"cannot write {path}: {_reason(error)}", hint=_advice(error)) from None
    with file:
        _lock(file.fileno())
        yield file


def publish(temporary: Path, path: Path, overwrite: bool) -> None:
    """Give a finished file its name; of several that may not overwrite, one gets it.

    Where a file system has no hard links, the name is taken by an empty file first, which is then replaced: whoever
    looks in between, or whoever kills this process then, sees that.

    Raises:
        InputError: where the name is taken and may not be.
        OSError: where the file system refuses.
    """
    if overwrite:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError:
        try:
            path.open("xb").close()
        except FileExistsError:
            raise _exists(path) from None
        try:
            os.replace(temporary, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    else:
        temporary.unlink()


@lru_cache(maxsize=64)
def remove_leftovers(folder: str) -> None:
    """Remove what processes that were killed while they wrote left in a folder; once per process and folder.

    A file goes where it bears such a name, belongs to this user, was last written some minutes ago and is not locked: a
    writer holds a lock as long as it lives, whatever process, container or machine it is. A file system without locks
    keeps its leftovers.
    """
    if os.name != "posix":
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in islice(entries, LOOKED_AT):
            if LEFTOVER.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    # Neither through a link, nor waiting at the other end of a pipe.
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        own = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        if own and time.time() - found.st_mtime > ABANDONED and _lock(descriptor):
            os.unlink(path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether this descriptor holds its file's lock from now on; not where another does, or files have no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _check(path: Path, overwrite: bool) -> None:
    """Refuse before the work what would be refused after it."""
    try:
        # Where a link leads counts: /dev/stdout must not become a file.
        kind = path.stat().st_mode
    except FileNotFoundError:
        kind = None
    if kind is not None and stat.S_ISDIR(kind):
        raise InputError(f"cannot write {path}: it is a folder", hint="give the name of a file")
    if kind is not None and not stat.S_ISREG(kind):
        raise InputError(f"cannot write {path}: it is not a regular file", hint="give the name of a file")
    if not overwrite and os.path.lexists(path):
        raise _exists(path)


def _exists(path: Path) -> InputError:
    return InputError(f"{path} exists", hint="pass --overwrite to replace it")


def _advice(error: OSError) -> str:
    if error.errno in FULL:
        return "make room, or name a file on another disk"
    return "check that its folder exists and may be written, or choose another"


def _reason(error: OSError) -> str:
    # Libraries raise OSError with a text and no errno, too.
    return error.strerror or str(error) or type(error).__name__
