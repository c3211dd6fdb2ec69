"""Settings of torch that change what a network computes, as a restore needs them while it evaluates.

They belong to the whole process. Each is read, set and put back by itself: the older names of a setting, such as
`torch.backends.cudnn.flags` and `allow_tf32`, cannot say float32 where `torch.backends.fp32_precision` is `tf32`, and
raise where both kinds were used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Where a setting lies in torch.backends, its name, and what it must be: float32 is not rounded to ten bits, sums are
# float32, and the same algorithm runs each time.
FLAGS: tuple[tuple[str, str, bool], ...] = (
    ("cudnn", "enabled", True),
    ("cudnn", "benchmark", False),
    ("cudnn", "deterministic", True),
    ("cuda.matmul", "allow_fp16_accumulation", False),
    ("cuda.matmul", "allow_fp16_reduced_precision_reduction", False),
    ("cuda.matmul", "allow_bf16_reduced_precision_reduction", False),
)
# What inherits the precision of all of CUDA, unless it has its own.
HEIRS = ("cudnn.conv", "cuda.matmul")
PRECISION, EXACT = "fp32_precision", "ieee"

Found = list[tuple[object, str, object]]
_LOCK = threading.Lock()
# Threads that are inside, and what the first of them found.
_inside = 0
_found: Found = []


@contextmanager
def exactly() -> Iterator[None]:
    """Compute exactly; the last thread that leaves puts back what the first one found.

    What another thread sets meanwhile holds until then, for everybody.
    """
    global _inside, _found
    with _LOCK:
        if _inside == 0:
            _found = _set()
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0:
                for owner, name, value in reversed(_found):
                    setattr(owner, name, value)


def _set() -> Found:
    """Set everything; returns who had which value."""
    import torch

    # Typed as modules, whose attributes these are not.
    backends: Any = torch.backends
    found: Found = []

    def change(owner: object, name: str, own: object, value: object) -> None:
        found.append((owner, name, own))
        setattr(owner, name, value)

    # One that has no value of its own reads as that of everything: without that it shows.
    everything = backends.fp32_precision
    backends.fp32_precision = "none"
    own = backends.cudnn.fp32_precision
    backends.fp32_precision = everything
    change(backends.cudnn, PRECISION, own, EXACT)
    for place in HEIRS:
        heir = _at(place)
        # Those that inherit are left alone: how torch begins cannot be set again once something else was.
        if heir.fp32_precision != EXACT:
            change(heir, PRECISION, heir.fp32_precision, EXACT)
    for place, name, value in FLAGS:
        owner = _at(place)
        own = getattr(owner, name)
        # A reduction has a second part, which is set with the first.
        more = getattr(owner, f"{name}_split_k", None) if name.endswith("reduction") else None
        change(owner, name, own if more is None else (own, more), value if more is None else (value, more))
    return found


def _at(place: str) -> Any:
    import torch

    found: Any = torch.backends
    for name in place.split("."):
        found = getattr(found, name)
    return found
