"""Pictures are cut where memory or caches ask for it, into tiles that overlap no more than they need to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrs.runtime import backends
from mrs.runtime.backends import Backend
from mrs.runtime.pace import FASTEST, Pace, best_tile, crossings, default_overlap, starts
from mrs.runtime.placement import Choice, pace_of
from mrs.runtime.plan import Plan
from mrs.runtime.tiling import Budget, check_tiles
from tests.runtime.restores import changed

# The shipped network on two cores with AVX2.
SLOWER = Pace([(256, 4.67), (512, 5.1), (1024, 6.69)])


def area(size: tuple[int, int], side: int) -> int:
    """Pixels of all tiles."""
    along = [len(starts(length, side, default_overlap(side))) * min(side, length) for length in size]
    return along[0] * along[1]


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([1, 2, 4, 16]), st.integers(1, 10**6))
def test_tiles_keep_to_the_memory(height: int, width: int, multiple: int, pixels: int) -> None:
    side = best_tile((1, height, width), multiple, pixels, Pace())
    padded = -(-height // multiple) * multiple * -(-width // multiple) * multiple
    if side is None:
        assert padded <= max(pixels, multiple**2)
        return
    assert padded > pixels
    assert side % multiple == 0
    # No smaller tile than the network's own step exists.
    largest = max(multiple, math.isqrt(pixels) // multiple * multiple)
    assert 0.6 * largest <= side <= largest
    assert height > side or width > side
    check_tiles(side, default_overlap(side), multiple)
    if multiple == 1:
        assert area((height, width), side) <= area((height, width), largest)


def test_tiles_overlap_no_more_than_they_need_to() -> None:
    # Three by three of 512 where two by two of 544 or three by three of 384 would do.
    assert best_tile((1, 1024, 1024), 16, 512**2, Pace()) == 384
    assert area((1024, 1024), 384) < 0.6 * area((1024, 1024), 512)
    assert best_tile((1, 1024, 1024), 16, 600**2, Pace()) == 544
    # A batch shares the memory.
    assert best_tile((4, 1024, 1024), 16, 4 * 600**2, Pace()) == 544
    # Tiles that fit already stay as large as they are.
    assert best_tile((1, 944, 944), 16, 512**2, Pace()) == 512


def test_large_pictures_are_cut_for_speed() -> None:
    room = 1 << 30
    assert best_tile((1, 1024, 1024), 16, room, SLOWER) == 544
    # As much work, and nothing to gain; and what gains too little.
    assert best_tile((1, 1024, 1024), 16, room, Pace()) is None
    assert best_tile((1, 1024, 1024), 16, room, Pace([(256, 5.0), (1024, 6.0)])) is None
    assert best_tile((1, 640, 640), 16, room, SLOWER) is None
    # Never into tiles that show, however fast they would be.
    assert best_tile((1, 2048, 2048), 16, room, Pace([(128, 1.0), (1024, 100.0)])) == FASTEST
    # A batch fills the caches as one large picture does, and so do its tiles.
    assert best_tile((16, 1024, 1024), 16, room, SLOWER) is None
    assert crossings(SLOWER, 16)[0] == (1024, 544)
    assert crossings(Pace(), 16) == []


def test_time_between_and_beyond_what_was_measured() -> None:
    pace = Pace([(100, 2.0), (400, 4.0)])
    assert [pace.of(side**2) / side**2 for side in (50, 100, 200, 400, 800)] == pytest.approx([2, 2, 3, 4, 4])
    assert Pace().of(7) == 7
    assert not Pace([(256, 1.0)])


def test_what_was_asked_for_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    from mrs.runtime.request import Request

    caplog.set_level("INFO", "mrs")
    budget = Budget(1 << 30, 16, pace=SLOWER)
    assert budget.tile((1, 1024, 1024), Request()) == 544
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "1024x1024 is faster in tiles of 544")
    ]
    assert budget.tile((1, 1024, 1024), Request(tile=0)) is None
    assert budget.tile((1, 1024, 1024), Request(tile=256)) == 256
    assert budget.warm_tile((1, 1024, 1024)) == 544
    # Latents are made of whole pictures.
    assert Budget(1 << 30, 16, True, SLOWER).tile((1, 1024, 1024), Request()) is None


def test_a_pace_counts_where_it_was_measured(fake: Any, fake_plan: Plan) -> None:
    plan = changed(fake_plan, pace=[[256, 4.0], [1024, 8.0]])
    backend: Backend = backends.get("fake")
    assert pace_of(plan, Choice(backend, "fp32", False)).of(1024**2) == 8 * 1024**2
    assert not pace_of(fake_plan, Choice(backend, "fp32", False))
    assert not pace_of(plan, Choice(backend, "bf16", False))
    assert not pace_of(plan, Choice(backends.get("openvino"), "fp32", False))
    elsewhere = {**plan.manifest["fingerprint"], "processor": "another"}
    assert not pace_of(changed(plan, fingerprint=elsewhere), Choice(backend, "fp32", False))
    fake.device = "cuda"
    assert not pace_of(plan, Choice(backend, "fp32", False))


def test_a_restorer_cuts_by_it(fake: Any, fake_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    from mrs.runtime.session import Restorer

    monkeypatch.setattr("mrs.runtime.pace.FASTEST", 16)
    with Restorer(changed(fake_plan, pace=[[16, 1.0], [64, 9.0]])) as restorer:
        assert restorer.tile_of(64, 64) == 16
        restorer.restore(np.zeros((64, 64, 3), np.uint8))
        assert fake.networks[-1].packed.shape == (1, 6, 16, 16)
    with Restorer(fake_plan) as restorer:
        assert restorer.tile_of(64, 64) is None
