"""Streams of our own.

`torch.cuda.Stream()` deals out the same 32 streams of a GPU again and again, to everybody: two chains, or a chain and
the caller, would work on one, and what the one does would end the other's capture.
"""

from __future__ import annotations

import weakref

import torch

from mrs.runtime.system.nvidia_driver import new_stream

# Of each GPU, as CUDA numbers them, those whose owners are gone. None is ever destroyed: memory that was used on one
# may still wait for it.
_FREE: dict[int, list[int]] = {}


def own_stream(place: torch.device) -> torch.cuda.Stream:
    """A stream of a GPU, not the default one, that nobody else has as long as this object lives."""
    free = _FREE.setdefault(place.index, [])
    try:
        handle = free.pop()
    except IndexError:
        handle = new_stream(place.index)
    stream = torch.cuda.ExternalStream(handle, device=place)
    weakref.finalize(stream, free.append, handle).atexit = False
    return stream
