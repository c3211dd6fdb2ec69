"""Pictures on which a build measures what reduced precision costs."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mrs import degradations
from mrs.export.autotune.workload import Pair
from mrs.folders import paths_below, read_bytes
from mrs.runtime.enlarging import enlarged_levels
from mrs.runtime.errors import InputError
from mrs.runtime.system.inputs import path_of

BUNDLED = Path(__file__).parent / "pictures"
# What stands in for an unknown degradation; the clean pictures then say nothing about quality.
STAND_IN = "rain"
# A build evaluates each picture a hundred times: a few small ones are enough to rank rounding errors.
LARGEST = 256
MOST = 4


def calibration_pairs(
    folder: str | Path | None,
    degradation: str | None,
    multiple: int,
    noise_sigma: float | None = None,
    side: int | None = None,
    upscale: int = 1,
) -> list[Pair]:
    """Calibration pictures, cropped in their middle to a multiple of the network's and at most `side` pixels.

    Args:
        folder: degraded pictures of the user's; the first `MOST` by name that are large enough are used. None for the
            bundled ones.
        degradation: what the checkpoint was trained on, by a name of `mrs.degradations`, or None where that is
            unknown. Bundled pictures are degraded so; only where it is known do they count as ground truth.
        multiple: of the network's sizes.
        noise_sigma: of noisy pictures, in 0..255 units: bundled ones get so much.
        side: by default, and at most, `LARGEST`.
        upscale: by what pictures are enlarged before they are restored: bundled ones are scaled down by that and
            enlarged again, those of a folder enlarged, in 256 levels, which costs their rounding alone.

    Raises:
        InputError: for a folder without a picture that is large enough, or with one that cannot be read.
    """
    side = LARGEST if side is None else min(side, LARGEST)
    if folder is None:
        return [
            _bundled(path, i, degradation, multiple, side, noise_sigma, upscale)
            for i, path in enumerate(sorted(BUNDLED.glob("*.png")))
        ]
    folder = path_of("calibration folder", folder)
    if not folder.is_dir():
        raise InputError(f"calibration folder {folder} does not exist", hint="give a folder of degraded pictures")
    paths = paths_below(folder)
    if not paths:
        raise InputError(f"calibration folder {folder} holds no pictures", hint="give a folder of degraded pictures")
    # Of so many pixels the large pictures are multiples of the network's.
    least = multiple // math.gcd(multiple, upscale)
    crops = (_crop(read_bytes(path), least, max(least, side // upscale)) for path in paths)
    found = islice((crop for crop in crops if crop.size), MOST)
    pairs = [Pair(crop if upscale == 1 else enlarged_levels(crop, upscale)) for crop in found]
    if not pairs:
        raise InputError(f"calibration folder {folder} holds no picture of at least {least}x{least} pixels")
    return pairs


def tuning_pictures(
    folder: Path | None, degradation: str | None, side: int, most: int, multiple: int
) -> NDArray[np.uint8]:
    """Degraded pictures of one size on which to search a solver, (N, side, side, 3).

    Args:
        folder: pictures, or None for the bundled ones; those used lie evenly over its list by name, with others in the
            place of those that are too small.
        degradation: what to do to the pictures of the folder first, by a name of `mrs.degradations`; None where they
            are degraded already.
        side: of the crops, rounded down to a multiple of the network's.
        most: pictures.
        multiple: of the network's sizes.

    Raises:
        InputError: for a folder without a picture that is large enough, with one that cannot be read, or an unknown
            degradation.
    """
    if side < multiple:
        raise InputError(f"crops of {side} pixels are too small", hint=f"this network needs at least {multiple}")
    if folder is None:
        if degradation is not None:
            raise InputError("the bundled pictures are degraded already", hint="give a folder with the degradation")
        bundled = [pair.degraded for pair in calibration_pairs(None, None, multiple)]
        side = min(side, *(length for picture in bundled for length in picture.shape[:2]))
        crops = [_crop(picture, multiple, side) for picture in bundled]
        return np.stack(crops[:most])
    degrade = degradations.get(degradation) if degradation is not None else None
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist", hint="give a folder of pictures")
    side -= side % multiple
    found = []
    for index, path in enumerate(_spread(paths_below(folder), most)):
        crop = _crop(read_bytes(path), multiple, side)
        if min(crop.shape[:2]) < side:
            continue
        if degrade is not None:
            # Another stream than the one for training and measuring.
            rain = degrade(crop.astype(np.float32) / np.float32(255), np.random.default_rng([1, index]))
            crop = np.rint(rain * 255).astype(np.uint8)
        found.append(crop)
        if len(found) == most:
            break
    if not found:
        raise InputError(
            f"folder {folder} holds no picture of at least {side}x{side} pixels", hint="use a smaller crop"
        )
    return np.stack(found)


def _spread(paths: list[Path], most: int) -> list[Path]:
    """All paths, `most` that lie evenly over the list before the others."""
    count = min(most, len(paths))
    chosen = [paths[index * len(paths) // count] for index in range(count)]
    return chosen + sorted(set(paths) - set(chosen))


def _bundled(
    path: Path,
    index: int,
    degradation: str | None,
    multiple: int,
    side: int,
    noise_sigma: float | None,
    upscale: int,
) -> Pair:
    multiple = math.lcm(multiple, upscale)
    clean = _crop(read_bytes(path), multiple, side)
    if not clean.size:
        raise InputError(
            f"the bundled calibration pictures are smaller than {multiple}x{multiple} pixels",
            hint="give a folder of larger degraded pictures",
        )
    if upscale > 1:
        small = Image.fromarray(clean).resize(
            (clean.shape[1] // upscale, clean.shape[0] // upscale), Image.Resampling.BICUBIC
        )
        return Pair(enlarged_levels(np.asarray(small), upscale), clean)
    if noise_sigma is not None:
        noise = np.random.default_rng([0, index]).normal(0, noise_sigma, clean.shape)
        return Pair(np.rint(np.clip(clean + noise, 0, 255)).astype(np.uint8), clean)
    degrade = degradations.get(degradation or STAND_IN)
    degraded = degrade(clean.astype(np.float32) / np.float32(255), np.random.default_rng([0, index]))
    return Pair(np.rint(degraded * 255).astype(np.uint8), clean if degradation else None)


def _crop(picture: NDArray[np.uint8], multiple: int, largest: int) -> NDArray[np.uint8]:
    """The middle of a picture, in sides of a multiple; empty where the picture is smaller than that."""
    sides = [min(side, largest) // multiple * multiple for side in picture.shape[:2]]
    y, x = ((whole - side) // 2 for whole, side in zip(picture.shape[:2], sides, strict=True))
    return np.ascontiguousarray(picture[y : y + sides[0], x : x + sides[1]])
