"""What commands that read pictures and write pictures have in common: which file goes where, and what cannot be."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mrs.runtime.errors import InputError
from mrs.runtime.system.inputs import check_not_read

if TYPE_CHECKING:
    from mrs.runtime.pictures.writing import Found

# A picture and where its result goes.
Job = tuple[Path, Path]


def _unchanged(relative: Path) -> Path:
    return relative


def find_jobs(
    inputs: Sequence[Path], output: str, overwrite: bool, name: Callable[[Path], Path] = _unchanged
) -> tuple[list[Job], bool, Found]:
    """What to do, whether it is a single picture, and all that was found.

    Args:
        inputs: pictures and folders.
        output: a file for a single picture, or a folder: one that exists, ends with a slash, or is for several.
        overwrite: whether results may be replaced, and pictures by their own.
        name: of a result in a folder, from the picture's.

    Raises:
        InputError: for inputs that are not there, a folder without pictures, two results of one name, or an output
            that cannot be written.
    """
    from mrs.runtime.pictures.writing import check_target, find_pictures

    target = Path(output)
    found = find_pictures(inputs, exclude=target)
    single = len(inputs) == 1 and inputs[0].is_file()
    # Path drops the slash.
    is_folder = output.endswith(("/", os.sep)) or os.path.isdir(target)
    if single and not is_folder:
        check_target(target, overwrite)
        return [(inputs[0], target)], single, found
    _check_folder(target, is_folder)
    jobs = [(source, target / name(relative)) for source, relative in found.pictures]
    sources: dict[Path, Path] = {}
    for source, result in jobs:
        if not overwrite and os.path.exists(result) and result.samefile(source):
            raise InputError(
                f"{source} would be replaced by its own result", hint="name another folder, or pass --overwrite"
            )
        if (other := sources.setdefault(result, source)) != source:
            raise InputError(f"{other} and {source} would both be written as {result}", hint="rename one of them")
    return jobs, single, found


def check_inputs_stay(jobs: Sequence[Job], *others: Path) -> None:
    """Refuse results that would replace what is still to be read: a plan, or another picture than their own.

    Args:
        jobs: pictures and their results.
        others: files that are read besides the pictures.

    Raises:
        InputError: naming both.
    """
    for _, target in jobs:
        check_not_read(target, *others)
    # Few results exist already: only these can be one of the pictures.
    there = {_identity(target): (source, target) for source, target in jobs if os.path.exists(target)}
    for source, _ in jobs if there else ():
        own, target = there.get(_identity(source), (source, source))
        if own != source:
            raise InputError(
                f"{target}, the result of {own}, is {source}, which is read, too", hint="name another folder"
            )


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def make_room(target: Path) -> None:
    """Make the folder that a result goes to.

    Raises:
        InputError: where the system refuses.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make folder {target.parent}: {error.strerror}") from None


def summary(done: str, found: Found, pictures: int, failed: int, seconds: float, output: str) -> str:
    """The last line: what was done to how many of the pictures."""
    counted = "1 picture" if pictures == 1 else f"{pictures} pictures"
    unreadable = f", {len(found.unreadable)} unreadable" if found.unreadable else ""
    return f"{done} {pictures - failed} of {counted} in {seconds:.1f} s, {failed} failed{unreadable} -> {output}"


def _check_folder(folder: Path, is_folder: bool) -> None:
    """Refuse a folder for results that cannot be made."""
    from mrs.runtime.pictures.writing import SUFFIXES

    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not os.path.isdir(nearest):
        raise InputError(f"cannot write into {folder}: {nearest} is a file", hint="name a folder for the results")
    if not is_folder and folder.suffix.lower() in SUFFIXES:
        raise InputError(f"{folder} is the name of one picture", hint="several pictures need a folder to go to")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"cannot write into {folder}: {nearest} is read-only", hint="name another folder")
