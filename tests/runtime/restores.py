"""Pictures, what the reference loop makes of them, and plans that differ from those of the fixtures."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.numerics.reference import sample
from mrs.runtime.plan import Plan


def bytes_of(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def by_reference(tiny, picture: NDArray[np.uint8], seed: int = 0) -> NDArray[np.float32]:
    """The restored picture as the reference loop gives it, with torch."""
    batch = picture if picture.ndim == 4 else picture[None]
    mu = np.ascontiguousarray((batch / np.float32(255)).transpose(0, 3, 1, 2))
    out = sample(tiny.denoise, mu, tiny.table, seed=seed).transpose(0, 2, 3, 1)
    return out if picture.ndim == 4 else out[0]


def changed(plan: Plan, engine: bytes | None = b"engine", **fields: Any) -> Plan:
    return replace(plan, manifest={**plan.manifest, **fields}, engine=engine)


def entered(result: Any) -> Any:
    """What a call gave as a context."""
    return result if hasattr(result, "__enter__") else nullcontext(result)
