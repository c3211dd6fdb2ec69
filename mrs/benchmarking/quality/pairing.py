"""Folders of degraded and clean pictures that belong together, under the names that published test sets give them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mrs.folders import paths_below
from mrs.runtime.errors import InputError

# Words in names of folders and files. Where a name has one of both kinds, as shadow_free has, it is clean.
CLEAN = frozenset({
    "clean", "clear", "free", "gt", "groundtruth", "high", "hq", "hr", "label", "norain", "original", "ref",
    "reference", "sharp", "target", "targets", "truth",
})  # fmt: skip
DEGRADED = frozenset({
    "blur", "blurred", "blurry", "cloudy", "degraded", "haze", "hazy", "input", "inputs", "low", "lowlight", "lq", "lr",
    "masked", "noise", "noisy", "rain", "raindrop", "rainy", "shadow", "snow", "snowy",
})  # fmt: skip
# A folder of such a name can hold no clean pictures, whatever else lies beside it.
SURELY_DEGRADED = frozenset({"degraded", "lq", "lr"})
_SEPARATOR = re.compile(r"[^0-9a-z]+")
# What enlarged sets add to names: 0801x4, x4.
_FACTOR = re.compile(r"(\d*)x[1-8]")
_NAMED = 3

Key = tuple[str, ...]


@dataclass(frozen=True)
class Files:
    """The files of one picture.

    Attributes:
        name: of the clean one in its folder, with slashes.
        clean: it.
        degraded: the other; None where the clean one is to be degraded.
    """

    name: str
    clean: Path
    degraded: Path | None = None


def find(data: Path, clean: Path | None = None) -> list[Files]:
    """The pictures of a folder, by name.

    Paired are: `data` with `clean`, where that is given; two folders in `data` of which one is called as clean
    pictures are (GT, HR, target, norain ...) and one as degraded ones (LQ, LR, input, rain ...); and files in `data`
    all of which are called so (rain-001.png, norain-001.png). In all other cases the pictures of `data` are clean.

    Files of two folders belong together by their paths within them, suffixes aside; or, where these differ, by what is
    left of their names without such words and factors of enlargement.

    Raises:
        InputError: for folders that are missing or hold no pictures, and for pictures that have no partner.
    """
    if clean is not None:
        return _pairs(data, _pictures(data), clean, _pictures(clean))
    found = _pictures(data)
    folders = sorted(path for path in data.iterdir() if path.is_dir() and path.name[0] != ".")
    cleans = [path for path in folders if _kind(path.name) == "clean"]
    degradeds = [path for path in folders if _kind(path.name) == "degraded"]
    if len(cleans) == 1 and len(degradeds) == 1:
        return _pairs(degradeds[0], _pictures(degradeds[0]), cleans[0], _pictures(cleans[0]))
    kinds = {path: _kind(path.stem) for path in found}
    if set(kinds.values()) == {"clean", "degraded"} and len({path.parent for path in found}) == 1:
        sides = {kind: [path for path in found if kinds[path] == kind] for kind in ("degraded", "clean")}
        return _pairs(data, sides["degraded"], data, sides["clean"])
    wrong = [path for path in (data, *folders) if SURELY_DEGRADED & set(_words(path.name))]
    if wrong:
        raise InputError(
            f"{wrong[0]} holds degraded pictures by its name, and no clean ones stand beside it alone",
            hint="name both: --data DEGRADED --clean CLEAN",
        )
    return [Files(path.relative_to(data).as_posix(), path) for path in found]


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist", hint="give a folder of pictures")
    found = paths_below(folder)
    if not found:
        raise InputError(f"folder {folder} holds no pictures", hint="give a folder of pictures")
    return found


def _pairs(folder: Path, degraded: Sequence[Path], clean_folder: Path, clean: Sequence[Path]) -> list[Files]:
    """Each degraded picture with its clean one, in the order of the clean ones."""
    exact = [_by_key(base, paths, _path) for base, paths in ((folder, degraded), (clean_folder, clean))]
    if exact[0].keys() != exact[1].keys():
        exact = [_by_key(base, paths, _rest) for base, paths in ((folder, degraded), (clean_folder, clean))]
    ours, theirs = exact
    for base, here, there in ((folder, ours, theirs), (clean_folder, theirs, ours)):
        alone = [here[key].relative_to(base).as_posix() for key in here if key not in there]
        if alone:
            more = f" and {len(alone) - _NAMED} more" if len(alone) > _NAMED else ""
            what = "clean" if here is ours else "degraded"
            raise InputError(
                f"{', '.join(alone[:_NAMED])}{more} of {base} have no {what} picture of that name",
                hint="remove them, or give both the same names",
            )
    return [Files(path.relative_to(clean_folder).as_posix(), path, ours[key]) for key, path in theirs.items()]


def _by_key(base: Path, paths: Sequence[Path], key: Callable[[Path], Key]) -> dict[Key, Path]:
    found: dict[Key, Path] = {}
    for path in paths:
        name = key(path.relative_to(base).with_suffix(""))
        if name in found:
            raise InputError(
                f"{found[name]} and {path} would have one partner", hint="leave one of them out, or rename it"
            )
        found[name] = path
    return found


def _path(relative: Path) -> Key:
    return relative.parts


def _rest(relative: Path) -> Key:
    """The parts of a path without words of either kind; a folder of which nothing is left does not count."""
    *folders, stem = (_left(part) for part in relative.parts)
    return (*(part for part in folders if part), stem or relative.name.lower())


def _left(name: str) -> str:
    kept = []
    for word in _words(name):
        factor = _FACTOR.fullmatch(word)
        word = factor[1] if factor else word
        if word and word not in CLEAN | DEGRADED:
            kept.append(word)
    return "-".join(kept)


def _words(name: str) -> list[str]:
    return [word for word in _SEPARATOR.split(name.lower()) if word]


def _kind(name: str) -> str | None:
    words = set(_words(name))
    return "clean" if words & CLEAN else "degraded" if words & DEGRADED else None
