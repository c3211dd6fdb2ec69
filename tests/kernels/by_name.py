"""Arguments of a CPU's kernels under a name of their own each, so that a test can vary one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mrs.kernels.noise import Draw


def start(kernel: Callable[..., None], *, seed: int, origin: Any = (0, 0), image: int = 0, **others: Any) -> None:
    """`start` of kernels/update.py or kernels/cpu.py."""
    kernel(draw=Draw(seed, 0, origin, image), **others)


def step(
    kernel: Callable[..., None],
    *,
    q1: Any, q2: Any, q3: Any, seed: int, draw: int, origin: Any = (0, 0), image: int = 0,
    **others: Any,
) -> None:  # fmt: skip
    """`step` of kernels/update.py or kernels/cpu.py."""
    kernel(latest=(q1, q2, q3), draw=Draw(seed, draw, origin, image), **others)
