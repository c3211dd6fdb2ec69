"""Whole restores compiled and timed by turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrs.runtime.backends import Backend, Network, mixed
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Loop, device_of, make_chain

# Rounds: at least the first number, then on until the seconds are spent or the second number is reached.
ROUNDS = (3, 15)
SECONDS = 20.0

Key = TypeVar("Key", bound=Hashable)


def chain_of(
    backend: Backend,
    graph: bytes,
    precision: str,
    loop: Loop,
    shape: tuple[int, ...],
    settings: CompileSettings,
    *,
    kinds: tuple[str, str] = ("uint8", "uint8"),
    graphs: bool = True,
    wrap: Callable[[Network], Network] = lambda network: network,
) -> Any:
    """A chain for pictures (N, H, W, C) on a freshly compiled network, or on what `wrap` makes of that.

    The other arguments are as of `make_chain`.
    """
    count, height, width, channels = shape
    packed = (count, 2 * channels, height, width)
    return make_chain(
        device_of(backend),
        lambda: wrap(mixed.compile_network(backend, graph, loop.modulation, packed, precision, settings)),
        loop,
        (count, channels, height, width),
        settings.threads,
        kinds=kinds,
        graphs=graphs,
    )


def time_interleaved(
    chains: Mapping[Key, tuple[Any, NDArray[np.uint8]]],
    rounds: tuple[int, int] | None = None,
    seconds: float | None = None,
) -> dict[Key, list[float]]:
    """Milliseconds of whole restores of warm chains, by turns, so that a drifting machine hits all alike.

    Args:
        chains: each with the pictures that it restores.
        rounds: at least, at most; `ROUNDS` by default.
        seconds: after which, beyond the least rounds, no other begins; `SECONDS` by default.
    """
    least, most = rounds or ROUNDS
    times: dict[Key, list[float]] = {key: [] for key in chains}
    end = time.perf_counter() + (SECONDS if seconds is None else seconds)
    for round_ in range(most):
        if round_ >= least and time.perf_counter() > end:
            break
        for key, (chain, picture) in chains.items():
            out = np.empty_like(picture)
            begin = time.perf_counter()
            chain.restore_into(picture, out, seed=0)
            times[key].append(1e3 * (time.perf_counter() - begin))
    return times


def quartiles(times: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third."""
    if len(times) < 2:
        return times[0], times[0], times[0]
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return low, median, high
