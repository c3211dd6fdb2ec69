"""Tiles cover every pixel, have one size and overlap enough; blending weights never vanish."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrs.runtime.errors import InputError
from mrs.runtime.pace import default_overlap
from mrs.runtime.tiling import blend_weights, check_tiles, tiles


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """(height, width, tile, overlap) that check_tiles lets pass."""
    tile = draw(st.integers(1, 40))
    overlap = draw(st.integers(0, tile // 2))
    return draw(st.integers(1, 150)), draw(st.integers(1, 150)), tile, overlap


@given(cuts())
def test_every_pixel_is_covered_and_tiles_have_one_size(cut: tuple[int, int, int, int]) -> None:
    height, width, tile, overlap = cut
    covered = np.zeros((height, width), int)
    for rows, columns in tiles(height, width, tile, overlap):
        assert covered[rows, columns].shape == (min(tile, height), min(tile, width))
        covered[rows, columns] += 1
    assert covered.min() >= 1


@given(cuts())
def test_neighbours_share_at_least_the_overlap(cut: tuple[int, int, int, int]) -> None:
    height, width, tile, overlap = cut
    cut_tiles = list(tiles(height, width, tile, overlap))
    for axis in (0, 1):
        starts = sorted({(entry[axis].start, entry[axis].stop) for entry in cut_tiles})
        for (_, stop), (start, _) in pairwise(starts):
            assert stop - start >= overlap
            assert start > 0


@given(cuts())
def test_no_more_tiles_than_needed(cut: tuple[int, int, int, int]) -> None:
    height, width, tile, overlap = cut
    count = len(list(tiles(height, width, tile, overlap)))
    fresh = tile - overlap
    assert count == max(1, -(-(height - overlap) // fresh)) * max(1, -(-(width - overlap) // fresh))


@given(cuts())
def test_blend_weights_are_positive_and_flat_at_the_border(cut: tuple[int, int, int, int]) -> None:
    height, _, tile, overlap = cut
    for rows, _ in tiles(height, 1, tile, overlap):
        weights = blend_weights(height, rows, overlap)
        assert weights.shape == (rows.stop - rows.start,)
        assert weights.min() > 0
        assert weights.max() <= 1
        assert rows.start > 0 or weights[0] == 1
        assert rows.stop < height or weights[-1] == 1


def test_two_neighbours_weigh_one_together() -> None:
    left, right = (blend_weights(12, part, 4) for part in (slice(0, 8), slice(4, 12)))
    np.testing.assert_allclose(left[4:] + right[:4], 1, rtol=1e-6)
    np.testing.assert_allclose(right[:4], [0.2, 0.4, 0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("tile", range(1, 70))
def test_the_default_overlap_is_always_allowed(tile: int) -> None:
    check_tiles(tile, default_overlap(tile), 1)
    assert default_overlap(tile) > 0 or tile == 1


def test_the_default_overlap_has_a_ceiling() -> None:
    assert [default_overlap(tile) for tile in (16, 256, 512, 4096)] == [2, 32, 64, 64]


@pytest.mark.parametrize("tile", [0, -4, 2, 6, 7])
def test_a_tile_that_is_no_multiple_is_refused(tile: int) -> None:
    with pytest.raises(InputError, match=f"tile {tile} is not a positive multiple of 4"):
        check_tiles(tile, 0, 4)


@pytest.mark.parametrize("overlap", [-1, 5, 8, 100])
def test_an_overlap_outside_half_a_tile_is_refused(overlap: int) -> None:
    with pytest.raises(InputError, match=rf"overlap {overlap} is outside 0\.\.4"):
        check_tiles(8, overlap, 4)
