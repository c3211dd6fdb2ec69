"""One capture through torch, and what torch leaves behind where it fails.

Up to torch 2.12 a capture that fails is never ended in torch's allocators: from then on no memory is given back to the
GPU, and none that another stream has used is used again. Up to 2.13 its memory stays taken, and up to 2.11 the
generator of random numbers refuses to draw.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch

from mrs.runtime.cuda.alone import no_collections

VERSION = tuple(map(int, torch.__version__.split(".")[:2]))
# The first whose allocators are told when a capture fails, whose graphs give its memory back, and whose generators know
# nothing of a capture.
ENDS, RELEASES, DRAWS = (2, 13), (2, 14), (2, 12)
# The allocator of pinned memory cannot be told that one of these has failed, and asks it at each capture.
_FAILED: list[torch.cuda.CUDAGraph] = []


def captured(place: torch.device, stream: torch.cuda.Stream, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """A graph of what `work` does on a stream, which is the current one.

    Raises:
        RuntimeError: whatever `work` raises, or torch where it cannot end the capture.
    """
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    raised: list[BaseException] = []
    try:
        with no_collections(), torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            try:
                work()
            except BaseException as error:
                raised.append(error)
                raise
    except BaseException as error:
        with suppress(RuntimeError):
            _clean_up(graph, pool, place, stream)
        if not raised or raised[0] is error:
            # What it holds goes with it.
            raised.clear()
            raise
    else:
        return graph
    # What torch says where it cannot end a capture is always the same, and holds this one.
    raise raised.pop()


def _clean_up(
    graph: torch.cuda.CUDAGraph, pool: tuple[int, int], place: torch.device, stream: torch.cuda.Stream
) -> None:
    if torch.cuda.is_current_stream_capturing():
        # An interrupt came when it had just begun.
        with suppress(RuntimeError):
            graph.capture_end()
    try:
        graph.pool()
    except RuntimeError:
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(place.index, pool)
    else:
        # It was ended as one that succeeds.
        graph.reset()
        return
    graph.reset()
    if VERSION < RELEASES:
        torch._C._cuda_releasePool(place.index, pool)
    if VERSION < ENDS:
        _FAILED.append(graph)
    if VERSION < DRAWS:
        _free_generator(place, stream)


def _free_generator(place: torch.device, stream: torch.cuda.Stream) -> None:
    """Let the default generator draw again: a capture that succeeds tells it so."""
    nothing = torch.zeros(1, device=place)
    with no_collections(), torch.cuda.graph(torch.cuda.CUDAGraph(), stream=stream, capture_error_mode="thread_local"):
        nothing.zero_()
