"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mrs.runtime.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` when the block ends well, and vanishes when it does not.

    The content goes to a temporary file in the same folder, is flushed to disk and renamed, so that a killed process
    leaves either the old file or the new one. An old file hands its permissions on. Errors of the block are passed on,
    but for OSError, which is taken for a failed write (a full disk).

    Raises:
        InputError: where `path` is a folder, or its folder does not exist or cannot be written.
    """
    # Part of the name, so that a name of the longest length allowed still has a temporary one.
    temporary = path.parent / f".{path.name[:32]}.{secrets.token_hex(6)}.part"
    try:
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder", hint="give the name of a file")
        file = temporary.open("xb")
    except OSError as error:
        raise InputError(f"cannot write {path}: {_reason(error)}", hint="check that its folder exists") from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # No old file, or a file system without permissions.
        with suppress(OSError):
            os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"cannot write {path}: {_reason(error)}") from None
        raise


def _reason(error: OSError) -> str:
    # Libraries raise OSError with a text and no errno, too.
    return error.strerror or str(error) or type(error).__name__
