"""What is timed: restores as a user calls them, and the network's evaluations alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mrs.benchmarking.results import Case
from mrs.benchmarking.settings import Size
from mrs.runtime.errors import InputError
from mrs.runtime.padding import padded_size
from mrs.runtime.session import Restorer
from mrs.runtime.system import machine

Work = Callable[[], object]


@dataclass(frozen=True)
class Entrant:
    """Something to be timed in turn with others.

    Attributes:
        case: what is known of it, without times.
        work: that is timed.
        rounds: the most samples of it; None for one in every round.
    """

    case: Case
    work: Work
    rounds: int | None = None


def main_size(restorer: Restorer, size: tuple[int, int] | None, batch: int | None) -> Size:
    """What is measured where nothing else is said: the plan's own size, as large pictures that were enlarged can be."""
    count, height, width = restorer.plan.facts.picture_shape
    by = restorer.upscale
    if size is None:
        return batch or count, max(by, height // by * by), max(by, width // by * by)
    return batch or count, *size


def check_size(restorer: Restorer, size: Size) -> None:
    """Refuse what cannot be restored here.

    Raises:
        InputError: for sides that no enlarged picture has, and for more than fits into the memory.
    """
    count, height, width = size
    if height % restorer.upscale or width % restorer.upscale:
        raise InputError(
            f"size {height}x{width} is no multiple of {restorer.upscale}",
            hint="sizes are those of the large pictures, which this plan makes of small ones",
        )
    whole = restorer.tile_of(height, width, count) is None
    channels = restorer.channels
    # Picture and result, as bytes, and the sum of tiles, or enlarged pictures, as floats. A GPU has memory of its own
    # for the rest, and tells when that is too little.
    each = 2 * channels + (4 * channels if not whole or restorer.upscale > 1 else 0)
    if whole and restorer.device == "cpu":
        each += restorer.plan.facts.bytes_on(restorer.backend, restorer.precision)
    pixels = count * math.prod(padded_size(height, width, restorer.multiple))
    machine.check_memory(
        f"size {height}x{width} at batch {count}", pixels * each, hint="give a smaller --size or --batch"
    )


def picture_of(restorer: Restorer, size: Size) -> NDArray[np.uint8]:
    """Degraded pictures (N, h, w, C) whose results have a size; noise, for nothing here depends on what they show."""
    count, height, width = size
    small = (count, height // restorer.upscale, width // restorer.upscale, restorer.channels)
    return np.random.default_rng(0).integers(0, 256, small, np.uint8)


def restoring(restorer: Restorer, size: Size) -> Work:
    """A whole restore, pictures in memory to results in memory, enlarged and tiled as they are for every caller."""
    picture = picture_of(restorer, size)
    out = np.empty((*size, restorer.channels), np.uint8)
    return partial(restorer.restore_into, picture, out)


def evaluating(restorer: Restorer, size: Size) -> Work | None:
    """As many bare evaluations as a restore has; None where it has those of tiles."""
    count, height, width = size
    if restorer.tile_of(height, width, count) is not None:
        return None
    # The chain that restores, so that nothing is compiled twice.
    dtypes = ("uint8" if restorer.upscale == 1 else "float32", "uint8")

    def work() -> None:
        with restorer.chain(size, dtypes) as chain:
            chain.evaluate_all()

    return work
