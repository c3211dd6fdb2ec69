"""Whole restores compiled, and timed interleaved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.update import Pixels
from mrs.runtime.backends import Backend, Network, mixed
from mrs.runtime.backends.protocol import F32
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Chain, Loop, device_of, make_chain
from mrs.runtime.cpu_chain import Condition
from mrs.runtime.measure import interleaved

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
    dtypes: tuple[str, str] = ("uint8", "uint8"),
    graphs: bool = True,
    wrap: Callable[[Network], Network] = lambda network: network,
) -> Chain:
    """A chain for pictures (N, H, W, C) on a freshly compiled network, or on what `wrap` makes of that.

    The other arguments are as of `make_chain`.
    """
    count, height, width, channels = shape
    planes = count, channels, height, width
    device = device_of(backend)
    if device is not None and loop.condition is not None:
        loop = replace(loop, condition=remembered(loop.condition))
    return make_chain(
        device,
        lambda: wrap(mixed.compile_network(backend, graph, loop.modulation, loop.packed(planes), precision, settings)),
        loop,
        planes,
        settings.threads,
        dtypes=dtypes,
        graphs=graphs,
    )


def remembered(condition: Condition) -> Condition:
    """The same, computed once for each picture.

    A build has the conditioner on the CPU, a restore on a GPU has it there: in the times of a GPU's candidates it would
    be most, and how it varies would hide by what they differ.
    """
    made: dict[object, F32] = {}

    def told(pictures: Pixels) -> F32:
        key = pictures.shape, pictures.dtype.str, hashlib.sha256(pictures.tobytes()).digest()
        if key not in made:
            made[key] = condition(pictures)
        return made[key]

    return told


def time_interleaved(
    chains: Mapping[Key, tuple[Chain, NDArray[np.uint8]]],
    rounds: tuple[int, int] | None = None,
    seconds: float | None = None,
    before: Callable[[], None] | None = None,
) -> dict[Key, list[float]]:
    """Milliseconds of whole restores of warm chains, see `interleaved`.

    Args:
        chains: each with the pictures that it restores.
        rounds: at least, at most; `ROUNDS` by default.
        seconds: after which, beyond the least rounds, no other begins; `SECONDS` by default.
        before: called before each evaluation.
    """
    least, most = rounds or ROUNDS

    def work(chain: Chain, picture: NDArray[np.uint8]) -> Callable[[], object]:
        return lambda: chain.restore_into(picture, np.empty_like(picture), seed=0, before=before)

    works = {key: work(*pair) for key, pair in chains.items()}
    return interleaved(works, least=least, most=most, seconds=SECONDS if seconds is None else seconds)
