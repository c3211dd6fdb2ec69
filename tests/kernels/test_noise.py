"""Noise is Philox's and normal, and every window of a picture draws what the whole picture draws."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrs.kernels.noise import box_muller, normal, philox
from mrs.kernels.seeds import SEEDS

# Known answers that its authors publish with Philox4x32-10: counter, key, words.
KNOWN = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}
LARGEST = math.sqrt(2 * 24 * math.log(2))
words = st.integers(0, SEEDS - 1)


@pytest.mark.parametrize("name", KNOWN)
def test_philox_known_answers(name: str) -> None:
    counter, key, expected = KNOWN[name]
    assert tuple(philox([np.array(part, np.uint64) for part in counter], key).tolist()) == expected


def test_philox_of_many_counters_is_philox_of_each() -> None:
    counters = [np.array([KNOWN[name][0][part] for name in KNOWN] * 2, np.uint64) for part in range(4)]
    for name in ("zeros", "pi"):
        _, key, expected = KNOWN[name]
        result = philox(counters, key)
        assert result.shape == (4, 6)
        assert int(result.max()) < SEEDS
        assert tuple(result[:, list(KNOWN).index(name)].tolist()) == expected
        np.testing.assert_array_equal(result[:, :3], result[:, 3:])


def test_box_muller_by_hand() -> None:
    # u = (upper 24 bits + 1) / 2^24 is never 0; u = 1 gives the radius 0.
    top = 2**24 - 1
    first = np.array([0, top, 2**23 - 1, 2**23 - 1, 2**23 - 1], np.uint64) << np.uint64(8)
    second = np.array([0, 12345, 0, 2**22, 2**23], np.uint64) << np.uint64(8)
    middle = math.sqrt(2 * math.log(2))
    c, s = box_muller(first, second)
    np.testing.assert_allclose(c, [LARGEST, 0, middle, 0, -middle], rtol=0, atol=1e-15)
    np.testing.assert_allclose(s, [0, 0, 0, middle, 0], rtol=0, atol=1e-15)
    low = box_muller(first | np.uint64(0xFF), second | np.uint64(0xFF))
    np.testing.assert_array_equal(low, (c, s))


@given(words, words, st.tuples(words, words), words, st.integers(0, 5))
@settings(max_examples=50)
def test_every_number_by_its_definition(
    seed: int, draw: int, corner: tuple[int, int], image: int, channel: int
) -> None:
    """The stream is part of the format: one seed must give one picture in every later version."""
    y, x = corner
    counter = [np.array(part, np.uint64) for part in (x // 4, y, channel, image)]
    w = [int(word) >> 8 for word in philox(counter, (seed, draw))]
    pair = 2 * (x % 4 // 2)
    radius = math.sqrt(-2 * math.log((w[pair] + 1) / 2**24))
    turn = 2 * math.pi * w[pair + 1] / 2**24
    expected = radius * (math.sin(turn) if x % 2 else math.cos(turn))
    z = normal(seed, draw, (1, channel + 1, 1, 1), origin=corner, image=image)[0, channel, 0, 0]
    assert float(z) == pytest.approx(expected, rel=1e-6, abs=1e-15)


@given(
    words,
    words,
    st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)),
    st.integers(0, 2**31),
    st.tuples(st.integers(0, 2), st.integers(0, 8), st.integers(0, 22)),
    st.data(),
)
@settings(max_examples=50)
def test_a_window_is_a_crop_of_the_whole(
    seed: int, draw: int, corner: tuple[int, int], image: int, start: tuple[int, int, int], data: st.DataObject
) -> None:
    shape = (3, 2, 9, 23)
    whole = normal(seed, draw, shape, origin=corner, image=image)
    n, y, x = start
    count, height, width = (data.draw(st.integers(1, size - first)) for size, first in ((3, n), (9, y), (23, x)))
    window = normal(seed, draw, (count, 2, height, width), origin=(corner[0] + y, corner[1] + x), image=image + n)
    assert window.dtype == np.float32
    assert window.flags.c_contiguous
    np.testing.assert_array_equal(window, whole[n : n + count, :, y : y + height, x : x + width])


def test_every_argument_changes_every_number() -> None:
    shape = (1, 3, 16, 16)
    variants = [
        normal(*arguments, shape, origin=origin, image=image)
        for arguments, origin, image in (
            ((0, 0), (0, 0), 0),
            ((1, 0), (0, 0), 0),
            ((0, 1), (0, 0), 0),
            ((1, 1), (0, 0), 0),
            ((2**31, 0), (0, 0), 0),
            ((0, 0), (16, 0), 0),
            ((0, 0), (0, 16), 0),
            ((0, 0), (0, 0), 1),
        )
    ]
    for one, other in itertools.combinations(variants, 2):
        # Of 768 pairs of 24-bit numbers, hardly one is equal by chance.
        assert (one == other).sum() <= 1


SAMPLE = (4, 3, 256, 256)
# Five standard deviations, with fixed seeds: holds for good or fails for good.
SIGMAS = 5


@pytest.mark.parametrize(("seed", "draw"), [(0, 0), (1, 0), (2**32 - 1, 7)])
def test_moments(seed: int, draw: int) -> None:
    z = normal(seed, draw, SAMPLE).astype(np.float64)
    # Variances of the mean, the second, third and fourth moment of n normal numbers.
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < SIGMAS * math.sqrt(variance / z.size), power
    assert np.abs(z).max() <= LARGEST


def test_the_distribution_is_normal() -> None:
    """Chi-squared over 64 intervals of equal probability."""
    z = normal(3, 1, SAMPLE)
    edges = [NormalDist().inv_cdf(k / 64) for k in range(1, 64)]
    counts = np.bincount(np.searchsorted(edges, z.ravel()), minlength=64)
    expected = z.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + SIGMAS * math.sqrt(2 * 63)


def pairs() -> dict[str, tuple[Any, Any]]:
    z = normal(11, 0, SAMPLE)
    return {
        **{f"x+{lag}": (z[..., :-lag], z[..., lag:]) for lag in (1, 2, 3, 4, 5, 8)},
        "y+1": (z[:, :, :-1], z[:, :, 1:]),
        "y+1 x+1": (z[:, :, :-1, :-1], z[:, :, 1:, 1:]),
        "channel+1": (z[:, :-1], z[:, 1:]),
        "image+1": (z[:-1], z[1:]),
        "draw+1": (z, normal(11, 1, SAMPLE)),
        "seed+1": (z, normal(12, 0, SAMPLE)),
        "seed and draw exchanged": (normal(5, 6, SAMPLE), normal(6, 5, SAMPLE)),
    }


def test_neighbours_are_independent() -> None:
    """Neither they nor their squares are correlated (the two normals of one Box-Muller pair share their radius)."""
    for name, (one, other) in pairs().items():
        for power in (1, 2):
            a, b = (values.astype(np.float64).ravel() ** power for values in (one, other))
            assert abs(np.corrcoef(a, b)[0, 1]) < SIGMAS / math.sqrt(a.size), (name, power)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"seed": SEEDS},
        {"draw": -1},
        {"draw": SEEDS},
        {"image": -1},
        {"image": SEEDS},
        {"origin": (-1, 0)},
        {"origin": (0, -4)},
        {"origin": (SEEDS, 0)},
    ],
    ids=str,
)
def test_numbers_beyond_32_bits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"outside 0 to 2\^32 - 1"):
        normal(**{"seed": 0, "draw": 0, "shape": (1, 1, 1, 1), **wrong})
