"""Tiny networks in the published layouts, with what the published code makes of them: tests/golden/README.md."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "networks"
# What the published code and ours may differ by in float32: outputs are of the order of one.
TOLERANCE = 5e-5


@cache
def golden(name: str) -> dict[str, NDArray[Any]]:
    """The arrays of `NAME.npz`, read-only."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = dict(file)
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def weights(name: str, folder: Path) -> Path:
    """The checkpoint `NAME`, as the published code saved it; unpacked into `folder` where it is kept packed."""
    packed = FOLDER / f"{name}.gz"
    if not packed.exists():
        return FOLDER / name
    unpacked = folder / name
    unpacked.write_bytes(gzip.decompress(packed.read_bytes()))
    return unpacked
