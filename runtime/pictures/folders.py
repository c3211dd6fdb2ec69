"""Pictures in folders, found by what they hold, and what beside them was passed over."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mrs.runtime.errors import PictureError
from mrs.runtime.pictures.decoding import KINDS, format_of_file
from mrs.runtime.pictures.formats import bmp, jpeg, png, tiff, webp

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""Pillow's name of the format that is written under each suffix (in lower case)."""

SUFFIXES = tuple(FORMATS)
"""Suffixes, in lower case, under which pictures can be written."""

_SUFFIX = {png: ".png", jpeg: ".jpg", webp: ".webp", tiff: ".tif", bmp: ".bmp"}
# Raw pictures of cameras begin as TIFF does.
_RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw",
    ".pef", ".raw", ".rwl", ".sr2", ".srf", ".srw",
)  # fmt: skip
_OTHER, _RAW, _FOLDER_LINK, _DEAD_LINK, _SPECIAL = (
    "another format", "raw from a camera", "link to a folder", "link to nothing", "no regular file",
)  # fmt: skip
_NAMED = 3


@dataclass
class Found:
    """What a search gave.

    Attributes:
        pictures: each picture file with the relative path that its result should have.
        skipped: what is no picture to be read, by the reason.
        unreadable: what could not be looked at, each with an error.
    """

    pictures: list[tuple[Path, Path]] = field(default_factory=list)
    skipped: dict[str, list[Path]] = field(default_factory=dict)
    unreadable: list[tuple[Path, PictureError]] = field(default_factory=list)

    def told(self) -> str:
        """What was skipped, in one line: how many, the reasons, and the first names for each; "" for nothing."""
        count = sum(map(len, self.skipped.values()))
        reasons = ", ".join(f"{reason} ({_named(paths)})" for reason, paths in self.skipped.items())
        return f"skipped {count}: {reasons}" if count else ""


def find_pictures(inputs: Sequence[Path], exclude: Path | None = None) -> Found:
    """The picture files that `inputs` name.

    A file stands for itself, whatever it holds. A folder is searched as `search` does. A result gets its picture's
    name, or its path within the folder searched; where pictures cannot be written under the suffix of that name, one
    that fits the picture is added: `photo.dat` becomes `photo.dat.jpg`.

    Raises:
        PictureError: for a missing or unreadable input, a folder without pictures, no input at all, or two pictures
            whose results would have the same path.
    """
    found = Found()
    sources: dict[Path, Path] = {}  # by relative path of the result
    for path in inputs:
        try:
            pictures = _pictures_of(path, exclude, found)
            for source, relative in pictures:
                other = sources.setdefault(relative, source)
                if other != source and not other.samefile(source):
                    raise PictureError(
                        f"{other} and {source} would both be written as {relative}",
                        hint="restore them in separate runs",
                    )
        except OSError as error:
            raise _unreadable(Path(error.filename or path), error) from error
    if not sources:
        raise PictureError("no pictures given", hint="name picture files or folders of them")
    found.pictures = [(source, relative) for relative, source in sources.items()]
    return found


def search(folder: Path, exclude: Path | None = None) -> Found:
    """The pictures in a folder, recursively and in sorted order, with their paths within it as their results'.

    A file is taken where its suffix is a picture's, so that a damaged one is noticed, or else where its first bytes
    are. Hidden entries and the folder `exclude` (where results go) are left out. Links to folders are not followed.

    Raises:
        OSError: where the folder itself cannot be listed.
    """
    found = Found()
    excluded = None if exclude is None else exclude.resolve()
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        try:
            with os.scandir(parent) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if parent == folder:
                raise
            found.unreadable.append((parent, _unreadable(parent, error)))
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.name[0] == "." or (excluded is not None and path.resolve() == excluded):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                    continue
                reason = _reason_to_skip(entry)
            except OSError as error:
                found.unreadable.append((path, _unreadable(path, error)))
                continue
            if reason:
                found.skipped.setdefault(reason, []).append(path.relative_to(folder))
            else:
                found.pictures.append((path, path.relative_to(folder)))
    found.pictures.sort()
    for paths in found.skipped.values():
        paths.sort()
    return found


def _named(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(map(str, paths[:_NAMED])) + more


def _reason_to_skip(entry: os.DirEntry[str]) -> str:
    """Why an entry that is no folder is no picture; "" where it is one."""
    if not entry.is_file():
        if not entry.is_symlink():
            return _SPECIAL
        if entry.is_dir():
            return _FOLDER_LINK
        return _SPECIAL if os.path.exists(entry.path) else _DEAD_LINK
    suffix = Path(entry.name).suffix.lower()
    if suffix in SUFFIXES:
        return ""
    form = format_of_file(Path(entry.path))
    if form is tiff and suffix in _RAW_SUFFIXES:
        return _RAW
    return "" if form is not None else _OTHER


def _pictures_of(path: Path, exclude: Path | None, found: Found) -> list[tuple[Path, Path]]:
    if path.is_file():
        return [(path, _with_suffix(path, Path(path.name)))]
    if path.is_dir():
        here = search(path, exclude)
        if not here.pictures:
            if here.unreadable:
                raise here.unreadable[0][1]
            passed = f"; {here.told()}" if here.skipped else ""
            raise PictureError(f"folder {path} holds no pictures{passed}", hint=f"supported are {KINDS}")
        for reason, paths in here.skipped.items():
            found.skipped.setdefault(reason, []).extend(paths)
        found.unreadable += here.unreadable
        return [(source, _with_suffix(source, relative)) for source, relative in here.pictures]
    if path.exists():
        raise PictureError(f"{path} is neither a file nor a folder", hint="give picture files or folders of them")
    raise PictureError(f"picture {path} does not exist", hint="check the path")


def _with_suffix(source: Path, relative: Path) -> Path:
    if relative.suffix.lower() in SUFFIXES:
        return relative
    form = format_of_file(source)
    # What is wrong with a file that is no picture is told when it is read.
    return relative if form is None else relative.with_name(relative.name + _SUFFIX[form])


def _unreadable(path: Path, error: OSError) -> PictureError:
    return PictureError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions")
