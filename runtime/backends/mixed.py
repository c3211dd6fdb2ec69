"""Two precisions in one restore: float32 for the first evaluations, half precision after.

Rounding enters through the first evaluations most: there a prediction is the network's error times up to 39. So a few
of them in float32 can make a restore pass parity that would not pass in half precision alone.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Protocol, cast

from mrs.runtime.backends.protocol import F32, Backend, Network, Shape
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError

NAME = re.compile(r"(bf16|fp16)-after-([1-9]\d{0,2})")
# Before the two engines in one: bytes of the first.
LENGTH = struct.Struct("<Q")


class Sharing(Network, Protocol):
    """A network that can work on the buffers of another."""

    def share(self, other: Network) -> None:
        """Work on the buffers of another network of the same shape."""


class MixedNetwork:
    """Two networks on the buffers of the first.

    Args:
        exact, rough: compiled for one shape; `rough` works on the buffers of `exact`.
        after: evaluations that `exact` makes.
    """

    def __init__(self, exact: Network, rough: Sharing, after: int) -> None:
        self._exact, self._rough, self._after = exact, rough, after
        self.packed, self.output, self.context = exact.packed, exact.output, exact.context
        rough.share(exact)

    def evaluate(self, step: int) -> None:
        """See `protocol.Network`."""
        (self._exact if step < self._after else self._rough).evaluate(step)

    def retime(self, modulation: F32) -> None:
        """See `protocol.Network`."""
        self._exact.retime(modulation)
        self._rough.retime(modulation)

    def export(self) -> bytes | None:
        """Both engines; None where one of them has no form."""
        exact, rough = self._exact.export(), self._rough.export()
        return None if exact is None or rough is None else LENGTH.pack(len(exact)) + exact + rough


def split(precision: str) -> tuple[str, int]:
    """A precision's half and how many evaluations come before it: (`bf16`, 2) for `bf16-after-2`, (`bf16`, 0) alone."""
    found = NAME.fullmatch(precision)
    return (found[1], int(found[2])) if found else (precision, 0)


def runs(backend: Backend, precision: str) -> bool:
    """Whether a backend runs a precision here, one alone or two."""
    half, after = split(precision)
    # On a GPU the sampler's kernels read one type.
    return half in backend.precisions() and (not after or backend.device == "cpu")


def longer(precision: str, steps: int) -> str | None:
    """What to try where a precision fails parity: one evaluation more in float32, at most half of them."""
    half, after = split(precision)
    return f"{half}-after-{after + 1}" if half != "fp32" and after + 1 <= steps // 2 else None


def compile_network(
    backend: Backend, graph: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
) -> Network:
    """`Backend.compile`, for two precisions too."""
    return _made(precision, lambda one: backend.compile(graph, modulation, shape, one, settings))


def restore_network(
    backend: Backend, engine: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
) -> Network:
    """`Backend.restore`, for two precisions too."""
    if not split(precision)[1]:
        return backend.restore(engine, modulation, shape, precision, settings)
    if len(engine) < LENGTH.size or LENGTH.unpack_from(engine)[0] > len(engine) - LENGTH.size:
        raise BackendError(f"the engine does not hold two networks for {precision}")
    middle = LENGTH.size + LENGTH.unpack_from(engine)[0]
    parts = {"fp32": engine[LENGTH.size : middle]}
    return _made(
        precision, lambda one: backend.restore(parts.get(one, engine[middle:]), modulation, shape, one, settings)
    )


def _made(precision: str, make: Callable[[str], Network]) -> Network:
    half, after = split(precision)
    # Networks of every backend for CPUs do that, and `runs` knows no other.
    return MixedNetwork(make("fp32"), cast(Sharing, make(half)), after) if after else make(half)
