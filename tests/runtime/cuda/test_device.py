"""What is asked of torch and of the driver, as both are in their sources; a GPU is not needed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from mrs.runtime.cuda import device, streams
from mrs.runtime.cuda.device import Cuda


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that numbers streams, and torch's class of those that it did not make itself."""
    numbers = itertools.count(1000)

    class External:
        def __init__(self, stream_ptr: int, device: torch.device) -> None:
            self.cuda_stream, self.device = stream_ptr, device

    monkeypatch.setattr(streams, "new_stream", lambda index: next(numbers) + 100 * index)
    monkeypatch.setattr(streams, "_FREE", {})
    monkeypatch.setattr(torch.cuda, "ExternalStream", External)


@pytest.mark.usefixtures("driver")
def test_no_two_streams_that_live_are_one() -> None:
    # torch itself has 32.
    living = [Cuda(0).stream() for _ in range(100)]
    assert len({stream.cuda_stream for stream in living}) == 100
    assert all(stream.device == torch.device("cuda", 0) for stream in living)


@pytest.mark.usefixtures("driver")
def test_a_stream_whose_owner_is_gone_is_used_again_on_its_gpu() -> None:
    first: Any = Cuda(0).stream()
    number = first.cuda_stream
    other = Cuda(0).stream()
    del first
    assert Cuda(1).stream().cuda_stream >= 1100
    assert Cuda(0).stream().cuda_stream == number
    assert other.cuda_stream != number


def test_what_only_a_graph_can_use_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its activations are freed blocks, in a pool of its own."""
    segments = [
        {"device": 1, "segment_pool_id": (0, 0), "total_size": 1000, "allocated_size": 600},
        {"device": 1, "segment_pool_id": (0, 3), "total_size": 200, "allocated_size": 50},
        {"device": 1, "segment_pool_id": (4, 0), "total_size": 30, "allocated_size": 0},
        {"device": 0, "segment_pool_id": (0, 5), "total_size": 7, "allocated_size": 0},
    ]
    whole = [segment for segment in segments if segment["device"] == 1]
    sums = {name: sum(segment[name] for segment in whole) for name in ("total_size", "allocated_size")}  # type: ignore[misc]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (5000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda place: sums["total_size"])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda place: sums["allocated_size"])
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: segments)
    assert Cuda(1).free_memory() == 5000 + 400


def test_what_happens_on_a_stream_is_apart_from_captures_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    depth = [0]

    @contextmanager
    def apart() -> Iterator[None]:
        depth[0] += 1
        yield
        depth[0] -= 1

    monkeypatch.setattr(device, "apart_from_captures", apart)
    monkeypatch.setattr(torch.cuda, "device", lambda place: nullcontext())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    with Cuda(0).on("stream"):
        assert depth == [1]
    with Cuda(0).apart():
        assert depth == [1]
    assert depth == [0]
