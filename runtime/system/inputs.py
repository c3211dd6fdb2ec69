"""Paths that a caller gives: of what type they are, and whether what is written would replace what is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mrs.runtime.errors import InputError


def path_of(what: str, value: object) -> Path:
    """A path that a caller gave.

    Args:
        what: it is of, for the error.
        value: a text or a path.

    Raises:
        InputError: for anything else, an empty text, and one with a zero, which no system takes.
    """
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"the path of the {what} is a {type(value).__name__}", hint="give a text or a pathlib.Path")
    text = os.fspath(value)
    if not isinstance(text, str):
        raise InputError(f"the path of the {what} is bytes", hint="decode it by os.fsdecode")
    if not text or "\0" in text:
        raise InputError(f"the path of the {what} is {'not a path' if text else 'empty'}", hint="name a file")
    return Path(text)


def check_not_read(output: str | Path, *inputs: object) -> None:
    """Refuse to write what is read: what it is made of would be lost.

    Args:
        output: to be written.
        inputs: paths of files and of folders, of which each file counts; what is no path, None above all, or leads
            nowhere is passed over.

    Raises:
        InputError: where the output is one of these files, by this name, another, or through a link.
    """
    written = _stat(output)
    if written is None:
        return
    for given in inputs:
        if not isinstance(given, str | os.PathLike):
            continue
        for path in _files(Path(given)):
            read = _stat(path)
            if read is not None and os.path.samestat(read, written):
                other = "" if os.fspath(path) == os.fspath(output) else f" (as {path})"
                raise InputError(
                    f"{output} is read, too{other}: it would be lost", hint="name another file for the result"
                )


def _stat(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _files(path: Path) -> Iterator[Path]:
    if not os.path.isdir(path):
        yield path
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)
