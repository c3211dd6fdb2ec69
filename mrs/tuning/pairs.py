"""Degraded pictures with their clean ones, cut to one size, to search solvers on; some kept back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrs import degradations
from mrs.benchmarking.quality import pairing
from mrs.building.calibration import BUNDLED
from mrs.folders import read_bytes
from mrs.runtime.errors import InputError
from mrs.tuning.scoring import LEAST_SIDE

U8 = NDArray[np.uint8]
# One picture in so many is not searched on.
KEPT_BACK = 3
# Of the noise that degrades: another stream than those for training and measuring.
STREAM = 1


@dataclass(frozen=True)
class Pairs:
    """Crops.

    Attributes:
        degraded: (N, side, side, 3) uint8.
        clean: the same of the clean ones.
        pictures: the number of the picture that each is of.
        degradation: what was done to the clean ones; None for pairs.
    """

    degraded: U8
    clean: U8
    pictures: tuple[int, ...]
    degradation: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of all pixels: equal for equal pictures."""
        return hashlib.sha256(self.degraded.tobytes() + self.clean.tobytes()).hexdigest()

    def divided(self) -> tuple[Pairs, Pairs]:
        """Those to search on, and those kept back: every third picture with all its crops."""
        kept = np.array([picture % KEPT_BACK == KEPT_BACK - 1 for picture in self.pictures])
        return self._part(~kept), self._part(kept)

    def _part(self, places: NDArray[np.bool_]) -> Pairs:
        pictures = tuple(picture for picture, wanted in zip(self.pictures, places, strict=True) if wanted)
        return replace(self, degraded=self.degraded[places], clean=self.clean[places], pictures=pictures)


def read_pairs(
    folder: Path | None,
    clean: Path | None,
    side: int,
    most: int,
    multiple: int,
    degradation: str | None = None,
    own: str | None = None,
) -> Pairs:
    """Crops that lie evenly over a folder's pictures; several of each where there are fewer pictures than crops.

    Args:
        folder: clean pictures, or pairs as `pairing.find` knows them; None for the bundled clean ones.
        clean: the clean ones, where `folder` holds only the degraded ones.
        side: of the crops, rounded down to a multiple of the network's.
        most: crops.
        multiple: of the network's sizes.
        degradation: what to do to clean pictures, by a name of `mrs.degradations`; None for pairs, or for the
            network's own.
        own: what the network was trained against, where that is known.

    Raises:
        InputError: for folders without enough pictures that are large enough, pairs that do not fit, or a degradation
            that is unknown, missing, or said for pairs.
    """
    side -= side % multiple
    if side < LEAST_SIDE:
        raise InputError(f"crops of {side} pixels are too small", hint=f"use at least {LEAST_SIDE + multiple - 1}")
    if most < KEPT_BACK:
        raise InputError(f"{most} pictures are too few", hint=f"one in {KEPT_BACK} is kept back: use 30 or more")
    files = pairing.find(folder or BUNDLED, clean)
    degradation = _degradation(files[0].degraded is not None, degradation, own)
    found: list[tuple[U8, U8]] = []
    pictures: list[int] = []
    number = 0
    for index in _spread(len(files), most):
        crops = _crops(files[index], side, -(-most // len(files)), degradation)
        found += crops
        pictures += [number] * len(crops)
        number += bool(crops)
        if len(found) >= most:
            break
    if number < KEPT_BACK:
        raise InputError(
            f"{number} pictures of at least {side}x{side} pixels are too few",
            hint=f"one in {KEPT_BACK} is kept back: give more pictures, or a smaller crop",
        )
    degraded, cleans = (np.stack(kind) for kind in zip(*found[:most], strict=True))
    return Pairs(degraded, cleans, tuple(pictures[:most]), degradation)


def _degradation(paired: bool, named: str | None, own: str | None) -> str | None:
    """What is done to the clean pictures; None for pairs."""
    if paired:
        if named is not None:
            raise InputError("the pictures come in pairs: they are degraded already", hint="leave --degradation out")
        return None
    name = named if named is not None else own
    if name is None:
        raise InputError(
            "nothing says what degrades the clean pictures",
            hint="give --degradation NAME, or pairs: a folder with LQ and GT, or --clean FOLDER beside --data",
        )
    degradations.get(name)
    return name


def _crops(files: pairing.Files, side: int, most: int, degradation: str | None) -> list[tuple[U8, U8]]:
    """Of one picture, degraded and clean."""
    clean = read_bytes(files.clean)
    places = _places(clean.shape[:2], side, most)
    if files.degraded is None:
        assert degradation is not None
        degrade, found = degradations.get(degradation), []
        for number, (y, x) in enumerate(places):
            crop = clean[y : y + side, x : x + side]
            random = degradations.generator(STREAM, degradation, f"{files.name}#{number}")
            worse = degrade(crop.astype(np.float32) / np.float32(255), random)
            found.append((np.rint(worse * 255).astype(np.uint8), crop))
        return found
    degraded = read_bytes(files.degraded)
    if degraded.shape != clean.shape:
        (height, width), (clean_height, clean_width) = degraded.shape[:2], clean.shape[:2]
        raise InputError(
            f"{files.name}: {height}x{width} pixels degraded and {clean_height}x{clean_width} clean are no pair",
            hint="give pictures of the same size",
        )
    return [(degraded[y : y + side, x : x + side], clean[y : y + side, x : x + side]) for y, x in places]


def _spread(count: int, most: int) -> list[int]:
    """All places of a list, `most` that lie evenly over it before the others."""
    chosen = [index * count // min(most, count) for index in range(min(most, count))]
    return chosen + sorted(set(range(count)) - set(chosen))


def _places(size: Sequence[int], side: int, most: int) -> list[tuple[int, int]]:
    """Corners of crops that do not overlap, around the middle; `most` of them, spread evenly."""
    rows, columns = (length // side for length in size)
    top, left = ((length - count * side) // 2 for length, count in zip(size, (rows, columns), strict=True))
    places = [(top + y * side, left + x * side) for y in range(rows) for x in range(columns)]
    if len(places) <= most:
        return places
    return [places[(2 * index + 1) * len(places) // (2 * most)] for index in range(most)]
