"""One who restores, or evaluates the network, beside the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrs.benchmarking.results import Parity
from mrs.runtime.errors import BackendError, MrsError
from mrs.runtime.system.handlers import let_through
from mrs.runtime.system.libraries import first_line

Pictures = NDArray[np.uint8]
# Of the noise of everyone's restores.
SEED = 0


def nothing() -> None:
    """What there is to close where memory goes with the object."""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """Compiled, warm and ready to be timed in turn with others.

    Attributes:
        name: as `--against` takes it.
        label: who that is, in words.
        backend, precision: that evaluate the network.
        evaluations: of the network in each restore.
        setup_seconds: to prepare and compile, up to the end of the first evaluations, in which lazy libraries compile;
            without what is read from files.
        bar_db: PSNR that its result must reach.
        run: pictures (N, H, W, C) uint8 to their results of the same shape, with everything between; it returns when
            the result is on the host. None for bare evaluations.
        evaluate: as many bare evaluations as a restore has, one after the other. None for whole restores.
        close: to let go of what it holds.
        rounds: the most samples to take of it, where one takes very long; None for one in every round.
        own_parity: of one that computes another solver, which was judged when it was opened; None where its result must
            be the plan's own in float32.

    `run` and `evaluate` raise BackendError where memory, device or library fail.
    """

    name: str
    label: str
    backend: str
    precision: str
    evaluations: int
    setup_seconds: float
    bar_db: float
    run: Callable[[Pictures], Pictures] | None = None
    evaluate: Callable[[], None] | None = None
    close: Callable[[], None] = nothing
    rounds: int | None = None
    own_parity: Parity | None = None


@dataclass(frozen=True)
class Companions:
    """What stands beside a checkpoint whose network is not all that restores.

    Attributes:
        encoder: checkpoint of DA-CLIP's image encoder, for a network that is told of features.
        encoder_heads: of its attention; None for CLIP's own rule.
        autoencoder: checkpoint of the UNet that makes latents, for a network that restores these.
    """

    encoder: Path | None = None
    encoder_heads: int | None = None
    autoencoder: Path | None = None


@contextmanager
def failures(who: str) -> Iterator[None]:
    """Make a BackendError of one line of what a library raises inside the block, whatever it is.

    Compilers raise nearly every class there is. Our own errors, and what a signal's handler raised, are let through.

    Args:
        who: fails, such as "torch.compile".
    """
    try:
        yield
    except MrsError:
        raise
    except Exception as error:
        let_through(error)
        cause = _cause(error)
        raise BackendError(f"{who} failed: {type(cause).__name__}: {first_line(cause)}") from error


def _cause(error: BaseException) -> BaseException:
    """Where an error came from; torch has that as an attribute of its own, too."""
    seen = {id(error)}
    while True:
        inner = getattr(error, "inner_exception", None) or error.__cause__
        if inner is None or id(inner) in seen:
            return error
        seen.add(id(inner))
        error = inner
