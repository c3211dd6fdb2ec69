"""What of quality a user wants to know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """On what to measure quality, and how.

    Attributes:
        data: clean pictures; or pairs of degraded and clean ones (see `pairing`).
        clean: the clean ones, where `data` holds only the degraded ones.
        degradation: what is done to clean pictures, by a name of `mrs.degradations`; None for the plan's own.
        severity: of it, 0 to 1; None draws it for each picture.
        data_seed: of it.
        pictures: at most; those used lie evenly over the list by name.
        middle: side of the middle that is used of each picture, in pixels of the clean one; None for whole pictures.
        border: pixels at the rim that do not count; None for as many as the plan enlarges by, as papers on
            super-resolution do, and none for other plans.
        seeds: how many noises each picture is restored with, from 0 on.
        solvers: others to measure on the same network, as `solvers.parse` reads them.
        lpips: weights of LPIPS; None measures none.
    """

    data: Path
    clean: Path | None = None
    degradation: str | None = None
    severity: float | None = None
    data_seed: int = 0
    pictures: int = 24
    middle: int | None = None
    border: int | None = None
    seeds: int = 1
    solvers: tuple[str, ...] = ()
    lpips: Path | None = None
