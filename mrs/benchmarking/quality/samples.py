"""Degraded pictures with their clean ones, read or made one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mrs import degradations
from mrs.benchmarking.quality import pairing
from mrs.benchmarking.quality.wanted import Wanted
from mrs.degradations.severity import checked
from mrs.folders import read_bytes
from mrs.runtime.errors import InputError
from mrs.runtime.pictures.writing import picture_size
from mrs.runtime.plan import Plan

U8 = NDArray[np.uint8]
Degrade = Callable[[U8, np.random.Generator], U8]

# What SSIM, piq's metrics and AlexNet need.
LEAST = 32


@dataclass(frozen=True)
class Sample:
    """A picture.

    Attributes:
        name: of its file, in text that any file can hold.
        degraded: (H, W, 3) uint8.
        clean: (factor H, factor W, 3) uint8.
    """

    name: str
    degraded: U8
    clean: U8


class Samples:
    """The pictures that were asked for; each pass reads and degrades them anew, always alike.

    Args:
        wanted: which, and how they are degraded.
        plan: for whose own degradation and factor of enlargement.

    Attributes:
        factor: by which clean pictures are larger.
        border: pixels of the clean ones that do not count.
        said: what they are, in words.

    Raises:
        InputError: for folders without pictures or partners, a degradation that is unknown or not said, or one that is
            said for pairs.
    """

    def __init__(self, wanted: Wanted, plan: Plan) -> None:
        self.factor = plan.facts.upscale
        self.border = wanted.border if wanted.border is not None else self.factor if self.factor > 1 else 0
        self._middle, self._seed = wanted.middle, wanted.data_seed
        found = pairing.find(wanted.data, wanted.clean)
        count = min(wanted.pictures, len(found))
        self._files = [found[index * len(found) // count] for index in range(count)]
        paired = self._files[0].degraded is not None
        if paired and (wanted.degradation is not None or wanted.severity is not None):
            raise InputError(
                f"the pictures of {wanted.data} are degraded already", hint="leave --degradation and --severity out"
            )
        if wanted.middle is not None and wanted.middle - 2 * self.border < LEAST:
            raise InputError(
                f"the middle {wanted.middle} pixels of pictures without {self.border} on each side are too small",
                hint=f"give at least {LEAST + 2 * self.border}",
            )
        made: tuple[str, Degrade | None] = ("pairs", None) if paired else _own(wanted, plan)
        self._task, self._degrade = made
        for files in self._files:
            self._check_ahead(files)
        strength = "" if wanted.severity is None else f" of severity {wanted.severity:g}"
        how = "in pairs" if paired else f"degraded by {self._task}{strength}, seed {wanted.data_seed}"
        part = "" if wanted.middle is None else f", at most the middle {wanted.middle} pixels of each"
        rim = "" if not self.border else f", {self.border} pixels at the border not counted"
        self.said = (
            f"{count} of {len(found)} pictures of {_text(wanted.data.name or str(wanted.data))} {how}{part}{rim}"
        )

    def _check_ahead(self, files: pairing.Files) -> None:
        """Refuse by what headers say, before other pictures are restored; sides may be swapped when they are read."""
        clean = picture_size(files.clean)
        if clean is not None:
            _check_size(_text(files.name), clean, self.border)
        degraded = None if files.degraded is None else picture_size(files.degraded)
        if clean is not None and degraded is not None:
            (low, high), (clean_low, clean_high) = sorted(degraded), sorted(clean)
            self._check_fit(_text(files.name), (low, high), (clean_low, clean_high))

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Sample]:
        for files in self._files:
            clean = read_bytes(files.clean)
            name = _text(files.name)
            if files.degraded is not None:
                degraded = read_bytes(files.degraded)
            else:
                assert self._degrade is not None
                height, width = (side // self.factor * self.factor for side in clean.shape[:2])
                clean = clean[:height, :width]
                _check_size(name, clean.shape[:2], self.border)
                degraded = self._degrade(clean, degradations.generator(self._seed, self._task, files.name))
            yield self._cut(name, degraded, clean)

    def _check_fit(self, name: str, degraded: tuple[int, int], clean: tuple[int, int]) -> None:
        """Sides that the factor does not divide are spare: the small picture was made of what it does divide."""
        spare = (have - self.factor * small for have, small in zip(clean, degraded, strict=True))
        if not all(0 <= each < self.factor for each in spare):
            plan = f"a plan that enlarges {self.factor} times" if self.factor > 1 else "this plan"
            raise InputError(
                f"{name}: {degraded[0]}x{degraded[1]} pixels degraded and {clean[0]}x{clean[1]} clean do not fit {plan}"
            )

    def _cut(self, name: str, degraded: U8, clean: U8) -> Sample:
        """Both to fit each other, and to their middle."""
        factor = self.factor
        self._check_fit(name, degraded.shape[:2], clean.shape[:2])
        clean = clean[: factor * degraded.shape[0], : factor * degraded.shape[1]]
        if self._middle is not None:
            small = self._middle // factor
            (y, h), (x, w) = ((max(0, (side - small) // 2), min(side, small)) for side in degraded.shape[:2])
            degraded = degraded[y : y + h, x : x + w]
            clean = clean[factor * y : factor * (y + h), factor * x : factor * (x + w)]
        _check_size(name, clean.shape[:2], self.border)
        return Sample(name, np.ascontiguousarray(degraded), np.ascontiguousarray(clean))


def _own(wanted: Wanted, plan: Plan) -> tuple[str, Degrade]:
    """What is done to clean pictures, in words that name its random numbers too, and as a function."""
    factor, sigma = plan.facts.upscale, plan.manifest.get("noise_sigma")
    name = wanted.degradation
    if factor > 1:
        if name is not None or wanted.severity is not None:
            raise InputError(
                f"the plan enlarges {factor} times: its pictures are clean ones made smaller",
                hint="leave --degradation and --severity out, or give pairs",
            )
        return f"bicubic reduction by {factor}", lambda clean, rng: _smaller(clean, factor)
    if name is None and isinstance(sigma, (int, float)):
        if wanted.severity is not None:
            raise InputError(f"the plan says how noisy its pictures are: {sigma:g}", hint="leave --severity out")
        return f"noise of {sigma:g}", lambda clean, rng: _levels(clean / 255 + rng.normal(0, sigma / 255, clean.shape))
    name = name if name is not None else plan.manifest.get("degradation")
    if not isinstance(name, str):
        raise InputError(
            "the plan does not say what degrades its pictures",
            hint="give --degradation NAME, or pairs: a folder with LQ and GT, or --clean FOLDER beside --data",
        )
    degrade, severity = degradations.get(name), wanted.severity
    if severity is not None:
        checked(severity)
    return name, lambda clean, rng: _levels(degrade(clean.astype(np.float32) / np.float32(255), rng, severity))


def _smaller(clean: U8, factor: int) -> U8:
    """As the published small pictures were made: bicubic with a = -0.5, widened against aliasing."""
    height, width = clean.shape[0] // factor, clean.shape[1] // factor
    return np.asarray(Image.fromarray(np.ascontiguousarray(clean)).resize((width, height), Image.Resampling.BICUBIC))


def _levels(picture: NDArray[np.floating]) -> U8:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _check_size(name: str, clean: tuple[int, int], border: int) -> None:
    height, width = clean
    if min(height, width) - 2 * border < LEAST:
        raise InputError(
            f"{name} has {height}x{width} pixels, of which metrics need {LEAST} a side within a border of {border}",
            hint="leave it out",
        )


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")
