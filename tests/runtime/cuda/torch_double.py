"""What torch keeps of captures, in the order in which each version of it does: CUDAGraph.cpp and its two allocators.

The rest of a capture is torch's own code in torch/cuda/graphs.py.
"""

from __future__ import annotations

import itertools
import weakref
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from mrs.runtime.cuda import capture

INVALIDATED = "CUDA error: operation failed due to a previous error during capture"
Pool = tuple[int, int]


class Memory:
    """The states of allocators, generator and stream.

    Attributes:
        underway: pools of the captures that the allocator knows of.
        asked: graphs that the allocator of pinned memory asks at each capture.
        uses: of each pool.
        drawing: whether the generator believes that a graph draws from it.
        status: of the stream: `none`, `active` or `invalidated`.
        interrupt: raised once, when a capture has just begun.
    """

    def __init__(self, version: tuple[int, int]) -> None:
        self.version = version
        self.underway: list[Pool] = []
        self.asked: dict[Pool, weakref.ref[Graph]] = {}
        self.uses: dict[Pool, int] = {}
        self.drawing = False
        self.status = "none"
        self.interrupt: BaseException | None = None
        self.numbers = itertools.count(1)

    def begin(self, graph: Graph) -> None:
        assert graph.at not in self.underway, "already recording to mempool_id"
        self.uses[graph.at] = self.uses.get(graph.at, 0) + 1
        self.underway.append(graph.at)
        self.asked[graph.at] = weakref.ref(graph)

    def end(self, device: int, pool: Pool) -> None:
        """In Python, the allocator of the device alone."""
        assert device == 1
        if pool not in self.underway:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.underway.remove(pool)

    def release(self, device: int, pool: Pool) -> None:
        assert device == 1
        if pool not in self.uses:
            raise RuntimeError("it != graph_pools.end() INTERNAL ASSERT FAILED")
        self.uses[pool] -= 1

    def check(self) -> None:
        """Whether nothing is left of what failed."""
        assert self.status == "none"
        assert self.underway == []
        # Below 0 the next call of empty_cache would fail, above it gives nothing back.
        assert set(self.uses.values()) <= {0}
        assert not self.drawing
        assert all(graph() is not None for graph in self.asked.values())


class Graph:
    """As `torch.cuda.CUDAGraph`."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.begun = self.ended = False

    def capture_begin(self, pool: Pool | None = None, capture_error_mode: str = "global", **more: bool) -> None:
        assert capture_error_mode == "thread_local"
        memory = self.memory
        self.at = pool or (next(memory.numbers), 0)
        # Up to 2.11 generators are told before anything else.
        memory.drawing = memory.version < (2, 12)
        memory.begin(self)
        self.begun = True
        memory.status = "active"
        if memory.interrupt is not None:
            interrupt, memory.interrupt = memory.interrupt, None
            raise interrupt

    def capture_end(self) -> None:
        memory = self.memory
        valid, memory.status = memory.status == "active", "none"
        if valid or memory.version >= (2, 13):
            memory.end(1, self.at)
            del memory.asked[self.at]
        if not valid:
            raise torch.AcceleratorError(INVALIDATED)
        self.ended = True
        memory.drawing = False

    def pool(self) -> Pool:
        if not self.ended:
            raise RuntimeError("Called CUDAGraph::pool() without a preceding successful capture.")
        return self.at

    def reset(self) -> None:
        if self.ended and self.memory.status == "active":
            # cudaGraphExecDestroy, and cudaFree of its pool.
            self.memory.status = "invalidated"
        if self.ended or (self.begun and self.memory.version >= (2, 14)):
            self.memory.release(1, self.at)
        self.begun = self.ended = False

    def __del__(self) -> None:
        self.reset()


@pytest.fixture(params=[(2, 10), (2, 11), (2, 12), (2, 13), (2, 14)], ids=lambda version: ".".join(map(str, version)))
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Memory:
    """In place of torch's, on a GPU with the number 1."""
    made = Memory(request.param)

    @contextmanager
    def on(stream: Any):
        yield

    monkeypatch.setattr(capture, "VERSION", made.version)
    monkeypatch.setattr(capture, "_FAILED", [])
    for name, value in {
        "CUDAGraph": lambda: Graph(made),
        "graph_pool_handle": lambda: (0, next(made.numbers)),
        "is_current_stream_capturing": lambda: made.status != "none",
        "stream": on,
        "device": on,
        "synchronize": lambda: None,
        "empty_cache": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    for name, value in {
        "_cuda_endAllocateToPool": made.end,
        "_cuda_releasePool": made.release,
        "_host_emptyCache": lambda: None,
    }.items():
        monkeypatch.setattr(torch._C, name, value, raising=False)
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: zeros(*shape))
    return made
