"""Who a plan is measured against, in the same rounds as the plan itself: docs/benchmarks.md says what each one is.

Names are loaded when they are first used: a command must know `NAMES` before anything is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mrs.benchmarking.rivals.names import BACKEND, BACKENDS, BARE, IN_TORCH, NAMES

if TYPE_CHECKING:
    from mrs.benchmarking.rivals.gate import float32_reference as float32_reference
    from mrs.benchmarking.rivals.gate import judge as judge
    from mrs.benchmarking.rivals.opening import rivals as rivals
    from mrs.benchmarking.rivals.rival import Companions as Companions
    from mrs.benchmarking.rivals.rival import Rival as Rival

_HOMES = {
    "Companions": "mrs.benchmarking.rivals.rival",
    "Rival": "mrs.benchmarking.rivals.rival",
    "float32_reference": "mrs.benchmarking.rivals.gate",
    "judge": "mrs.benchmarking.rivals.gate",
    "rivals": "mrs.benchmarking.rivals.opening",
}

__all__ = ["BACKEND", "BACKENDS", "BARE", "IN_TORCH", "NAMES", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
