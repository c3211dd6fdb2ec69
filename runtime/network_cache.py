"""Networks that this machine compiled, kept on disk for the next process.

One file per network in a folder of the user's own. A file is `MAGIC`, the 32 bytes of its key, the SHA-256 of key and
engine, and the engine as `protocol.Network.export` gives it. An engine is native code, or nearly so: nothing is read
from a folder that somebody else may write to. Files appear whole or not at all; what is missing, damaged, of another
version or refused by the engine is compiled and replaced. A cache costs time where it fails, never a restore.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mrs.runtime.errors import InputError
from mrs.runtime.system.atomic import replacing
from mrs.runtime.system.user_cache import NO_FOLDER, user_cache

log = logging.getLogger("mrs")

MAGIC = b"mrs-trt network 1\n"
SUFFIX = ".network"
DIGEST = hashlib.sha256().digest_size
# Bytes kept, of all plans together, but for one network that is larger than half of that: an encoder of pictures may
# fill it alone, and would else go whenever anything is kept beside it.
MOST = 1 << 30


def key_of(**facts: object) -> str:
    """The SHA-256, in hexadecimal digits, of all that a compiled network depends on, as JSON values by name."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, allow_nan=False).encode()).hexdigest()


@dataclass(frozen=True)
class Contents:
    """What a cache holds.

    Attributes:
        folder: None where there is none.
        count, size: files and their bytes together.
        trouble: why it is not used; "" where it is.
    """

    folder: Path | None
    count: int
    size: int
    trouble: str


class NetworkCache:
    """The networks of this user.

    Processes and threads may use one folder at the same time.

    Args:
        most: bytes; the least recently used files go first. The largest of those above half of it does not count.
        largest: bytes that one network may have, where that is more.
    """

    def __init__(self, most: int = MOST, largest: int = 0) -> None:
        self._most, self.largest = most, max(most, largest)

    def read(self, key: str) -> bytes | None:
        """The engine of a key; None where there is none that can be used."""
        path = self._path(key)
        if path is None or _trouble(path.parent):
            return None
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > self.largest:
                raise ValueError("no file of ours")
            with path.open("rb") as file:
                header, engine = file.read(len(MAGIC) + 2 * DIGEST), file.read()
            if header != _header(key, engine):
                raise ValueError("damaged")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.info("a compiled network is made anew: %s: %s", path, error)
            self.remove(key)
            return None
        # The time of the last use decides what goes first; a disk that is read-only keeps its order.
        with suppress(OSError):
            os.utime(path)
        return engine

    def write(self, key: str, engine: bytes) -> None:
        """Keep an engine, as far as that is possible, and let go of the oldest beyond the limit."""
        path = self._path(key)
        if path is None or len(engine) + len(MAGIC) + 2 * DIGEST > self.largest:
            return
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            trouble = _trouble(path.parent)
            if trouble:
                raise InputError(f"{path.parent} {trouble}")
            with replacing(path) as file:
                file.write(_header(key, engine))
                file.write(engine)
            self._prune(path.parent)
        except (OSError, InputError) as error:
            log.info("a compiled network is not kept: %s", error)

    def remove(self, key: str) -> None:
        """Let go of an engine, for example because its library refuses it."""
        path = self._path(key)
        if path is not None:
            # It is another user's, or gone already.
            with suppress(OSError):
                path.unlink()

    def contents(self) -> Contents:
        """What there is."""
        folder = _folder()
        if folder is None:
            return Contents(None, 0, 0, NO_FOLDER)
        trouble = _trouble(folder)
        files = [] if trouble else _files(folder)
        return Contents(folder, len(files), sum(size for _, size, _ in files), trouble)

    @property
    def most(self) -> int:
        """Bytes that are kept, but for the largest network."""
        return self._most

    def _path(self, key: str) -> Path | None:
        folder = _folder()
        return None if folder is None else folder / f"{key}{SUFFIX}"

    def _prune(self, folder: Path) -> None:
        """Delete the files used longest ago, until the rest is within the limit; another process may do so, too."""
        files = sorted(_files(folder))
        largest = max(files, key=lambda file: file[1], default=None)
        if largest is not None and 2 * largest[1] > self._most:
            files.remove(largest)
        size = sum(size for _, size, _ in files)
        for _, length, path in files:
            if size <= self._most:
                break
            with suppress(OSError):
                os.unlink(path)
            size -= length


def _folder() -> Path | None:
    base = user_cache()
    return None if base is None else base / "networks"


def _header(key: str, engine: bytes) -> bytes:
    name = bytes.fromhex(key)
    digest = hashlib.sha256(name)
    digest.update(engine)
    return MAGIC + name + digest.digest()


def _trouble(folder: Path) -> str:
    """Why nothing in a folder is trusted; "" where all is, or where there is no such folder yet."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"cannot be used: {error.strerror}"
    if not stat.S_ISDIR(status.st_mode):
        return "is no folder"
    # Other systems have neither numbers of users nor these permissions.
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return "belongs to another user"
    if os.name == "posix" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "may be written by others: chmod 700 it"
    return ""


def _files(folder: Path) -> list[tuple[int, int, str]]:
    """(time of last use, bytes, path) of every file in a folder; what processes that were killed left there, too."""
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            # Another process may have deleted it meanwhile.
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found.append((status.st_mtime_ns, status.st_size, entry.path))
    return found
