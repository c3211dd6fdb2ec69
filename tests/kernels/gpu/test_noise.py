"""Noise inside a kernel: Philox's words bit for bit, the CPU's normals within 1e-6, any window as in the whole."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from mrs.kernels import noise
from mrs.kernels.gpu import tables
from mrs.kernels.gpu.launch import options
from mrs.kernels.gpu.noise import box_muller, normals

pytestmark = pytest.mark.slow(9)

TOP = 2**32 - 1
BOUND = 1e-6
# As the product's kernels are compiled: with other options there would be other instructions to test.
WARPS, TILE, SIZE = 4, (128, 8), 1024


@triton.jit(do_not_specialize=["draw", "image", "channel", "high", "wide"])
def draw_window(out, key, draw, image, channel, high, wide, T: tl.constexpr, GROUP: tl.constexpr):
    """Tiles of T lines and GROUP columns of one plane of a window, drawn as the kernels draw theirs."""
    row = tl.program_id(0) * T + tl.arange(0, T)[:, None]
    column = (tl.program_id(1) * GROUP + tl.zeros((T, 1), tl.int32)).to(tl.int32)
    z = normals(key, draw, image, channel, row, column, GROUP)
    columns = column + tl.arange(0, GROUP)[None, :]
    tl.store(out + row * wide + columns, z, mask=(row < high) & (columns < wide))


@triton.jit(do_not_specialize=["count"])
def draw_words(out, key, draw, fours, y, channels, images, count, SIZE: tl.constexpr):
    """The four words of each counter, one after the other, with types as in the kernels."""
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    mask = at < count
    seed = tl.load(key).to(tl.uint64) | (draw.to(tl.uint64) << 32)
    words = tl.philox(
        seed, tl.load(fours + at, mask=mask, other=0), tl.load(y + at, mask=mask, other=0),
        tl.load(channels + at, mask=mask, other=0), tl.load(images + at, mask=mask, other=0),
    )  # fmt: skip
    for lane in tl.static_range(4):
        tl.store(out + 4 * at + lane, words[lane], mask=mask)


@triton.jit(do_not_specialize=["count"])
def transform(cosines, sines, first, second, count, SIZE: tl.constexpr):
    """Two normals of each pair of words."""
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    mask = at < count
    c, s = box_muller(tl.load(first + at, mask=mask, other=0), tl.load(second + at, mask=mask, other=0))
    tl.store(cosines + at, c, mask=mask)
    tl.store(sines + at, s, mask=mask)


def drawn(
    device: str, seed: int, draw: int, shape: Any, origin: Any = (0, 0), image: int = 0, block: Any = (8, 16)
) -> Any:
    """As `noise.normal`, by the kernels' functions; `block` is for the interpreter, quickest with large ones."""
    images, channels, high, wide = shape
    key = torch.from_numpy(tables.key(seed, image=image, origin=origin)).to(device)
    out = torch.full(shape, float("nan"), device=device)
    if device == "cuda":
        block = TILE
    grid = (-(-high // block[0]), -(-wide // block[1]))
    for n, c in itertools.product(range(images), range(channels)):
        draw_window[grid](out[n, c], key, draw, n, c, high, wide, T=block[0], GROUP=block[1], **options(WARPS))
    return out.cpu().numpy()


def transformed(device: str, first: Any, second: Any, block: int = SIZE) -> Any:
    """Box-Muller of arrays of words: cosines, sines; `block` is for the interpreter."""
    if device == "cuda":
        block = SIZE
    words = [torch.from_numpy(np.asarray(word, np.uint32)).to(device) for word in (first, second)]
    out = [torch.full((len(first),), float("nan"), device=device) for _ in range(2)]
    transform[(-(-len(first) // block),)](*out, *words, len(first), SIZE=block, **options(WARPS))
    return [part.cpu().numpy() for part in out]


KEYS = {"zeros": (0, 0), "ends": (TOP, 2**31 - 1), "middle": (0xA4093822, 0x299F31D0)}


@pytest.mark.parametrize("name", KEYS)
def test_words_are_the_cpus(device: str, name: str) -> None:
    seed, draw = KEYS[name]
    random = np.random.default_rng(0)
    ends = np.array(list(itertools.product([0, 1, 2**31, TOP], repeat=4)), np.uint32)
    counters = np.concatenate([ends, random.integers(0, 2**32, (200, 4), dtype=np.uint32)]).T.copy()
    key = torch.from_numpy(tables.key(seed)).to(device)
    out = torch.zeros(counters.shape[1] * 4, dtype=torch.int32, device=device)
    arrays = [torch.from_numpy(part).to(device) for part in counters]
    draw_words[(1,)](out, key, draw, *arrays, counters.shape[1], SIZE=512, **options(WARPS))
    expected = noise.philox([part.astype(np.uint64) for part in counters], (seed, draw))
    np.testing.assert_array_equal(out.cpu().numpy().view(np.uint32).reshape(-1, 4).T, expected)


@pytest.mark.parametrize("image", [0, 2**31, TOP - 1])
@pytest.mark.parametrize("corner", [(0, 0), (2**31 - 1, 2**31), (TOP - 9, TOP - 39)], ids=str)
def test_normals_come_of_these_words(device: str, corner: tuple[int, int], image: int) -> None:
    """To the bit: the windows' counters are those of the CPU, at any place and at both ends of their range."""
    draw, shape = 5, (2, 1, 8, 32)
    y, x = corner
    x -= x % 4
    z = drawn(device, TOP, draw, shape, (y, x), image)
    counters = np.meshgrid(
        np.arange(image, image + 2), np.arange(1), np.arange(y, y + 8), np.arange(x // 4, x // 4 + 8), indexing="ij"
    )
    n, c, row, four = (part.ravel().astype(np.uint64) for part in counters)
    words = noise.philox([four, row, c, n], (TOP, draw)).astype(np.uint32)
    pairs = [transformed(device, words[2 * pair], words[2 * pair + 1]) for pair in (0, 1)]
    expected = np.stack([*pairs[0], *pairs[1]], axis=1).reshape(shape)
    np.testing.assert_array_equal(z, expected)


def interesting() -> tuple[Any, Any]:
    """Pairs of words: each end with each end, and all upper bits near powers of two and eighths of a turn."""
    edges = {0, 1, 0xFF, 0x100, 0x101, 0x1FF, TOP, TOP - 1, TOP - 0xFF, TOP - 0x100}
    for power in range(8, 32):
        edges |= {(1 << power) + step for step in (-0x100, -1, 0, 0x100)}
    for eighth in range(9):
        edges |= {(eighth << 29) + step for step in (-0x200, -0x100, -1, 0, 1, 0xFF, 0x100)}
    words = np.array(sorted(word for word in edges if 0 <= word <= TOP), np.uint32)
    first, second = np.meshgrid(words, words)
    random = np.random.default_rng(1)
    # As many of which the radius is tiny, for there logarithms lose their digits.
    small = TOP - np.cumsum(random.integers(1, 2**12, 2**14), dtype=np.uint32)
    plain = random.integers(0, 2**32, (2, 2**15), dtype=np.uint32)
    return (
        np.concatenate([first.ravel(), small, plain[0]]),
        np.concatenate([second.ravel(), random.permutation(small) * np.uint32(7), plain[1]]),
    )


def test_normals_are_the_cpus_within_a_millionth(device: str) -> None:
    first, second = interesting()
    expected = noise.box_muller(first.astype(np.uint64), second.astype(np.uint64))
    for ours, theirs in zip(transformed(device, first, second, 2**14), expected, strict=True):
        assert np.abs(ours - theirs).max() <= BOUND
    # The lower 8 bits count nowhere.
    low = transformed(device, first | 0xFF, second & ~np.uint32(0xFF), 2**14)
    np.testing.assert_array_equal(low, transformed(device, first & ~np.uint32(0xFF), second | 0xFF, 2**14))


@pytest.mark.gpu
def test_all_normals_are_the_cpus_within_a_millionth(device: str) -> None:
    """The radius of every first word, the sine and cosine of every second."""
    if device != "cuda":
        pytest.skip("needs an NVIDIA GPU; the interpreter would take a minute")
    words = np.arange(2**24, dtype=np.uint32) << np.uint32(8)
    lowest, quarters = np.zeros_like(words), words & np.uint32(0xC0000000)
    for first, second in ((words, lowest), (words, quarters), (lowest, words)):
        expected = noise.box_muller(first.astype(np.uint64), second.astype(np.uint64))
        for ours, theirs in zip(transformed(device, first, second), expected, strict=True):
            assert np.abs(ours - theirs).max() <= BOUND


@pytest.mark.parametrize("left", [0, 1, 2, 3, 2**31 + 2, TOP - 60])
def test_a_window_is_a_crop_of_the_whole(device: str, left: int) -> None:
    """Whatever a window's corner, size and batch, and the tiles it is drawn in: the same bits."""
    corner = (left // 4 * 4, left // 4 * 4)
    whole = drawn(device, 3, 1, (2, 2, 8, 48), corner, 6, block=(8, 64))
    window = (slice(1, 2), slice(None), slice(2, 7), slice(left - corner[1], left - corner[1] + 37))
    part = drawn(device, 3, 1, (1, 2, 5, 37), (corner[0] + 2, left), 7, block=(8, 16))
    np.testing.assert_array_equal(part, whole[window])
    expected = noise.normal(3, 1, (1, 2, 5, 37), origin=(corner[0] + 2, left), image=7)
    np.testing.assert_allclose(part, expected, rtol=0, atol=BOUND)


def test_every_argument_changes_every_number(device: str) -> None:
    variants = [
        drawn(device, *arguments, (1, 1, 16, 16), origin, image, block=(16, 16))
        for arguments, origin, image in (
            ((0, 0), (0, 0), 0), ((1, 0), (0, 0), 0), ((0, 1), (0, 0), 0), ((1, 1), (0, 0), 0),
            ((2**31, 0), (0, 0), 0), ((0, 0), (16, 0), 0), ((0, 0), (0, 16), 0), ((0, 0), (0, 0), 1),
        )
    ]  # fmt: skip
    variants.append(drawn(device, 0, 0, (1, 2, 16, 16), block=(16, 16))[:, 1:])
    for one, other in itertools.combinations(variants, 2):
        # Of 256 pairs of 24-bit numbers, hardly one is equal by chance.
        assert (one == other).sum() <= 1


# Statistics. Five standard deviations, with fixed seeds: holds for good or fails for good.

SAMPLE = (2, 2, 256, 256)
SIGMAS = 5


@pytest.fixture(scope="module")
def samples(device: str) -> dict[str, Any]:
    """Of one seed and step, of the next step, and of the next seed."""
    with np.errstate(all="ignore"):
        return {
            name: drawn(device, seed, draw, SAMPLE, block=(64, 256)).astype(np.float64)
            for name, seed, draw in (("z", 11, 3), ("next step", 11, 4), ("next seed", 12, 3))
        }


@pytest.mark.parametrize("name", ["z", "next step", "next seed"])
def test_moments(samples: dict[str, Any], name: str) -> None:
    z = samples[name]
    # Variances of the mean, the second, third and fourth moment of n normal numbers.
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < SIGMAS * math.sqrt(variance / z.size), power
    assert np.abs(z).max() <= math.sqrt(2 * 24 * math.log(2)) + BOUND


def test_the_distribution_is_normal(samples: dict[str, Any]) -> None:
    """Chi-squared over 64 intervals of equal probability."""
    z = samples["z"]
    edges = [NormalDist().inv_cdf(k / 64) for k in range(1, 64)]
    counts = np.bincount(np.searchsorted(edges, z.ravel()), minlength=64)
    expected = z.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + SIGMAS * math.sqrt(2 * 63)


PAIRS = {
    **{f"x + {lag}": (np.s_[..., :-lag], np.s_[..., lag:]) for lag in (1, 2, 3, 4, 8)},
    "y + 1": (np.s_[:, :, :-1], np.s_[:, :, 1:]),
    "y + 1, x + 1": (np.s_[:, :, :-1, :-1], np.s_[:, :, 1:, 1:]),
    "channel + 1": (np.s_[:, :-1], np.s_[:, 1:]),
    "image + 1": (np.s_[:-1], np.s_[1:]),
}


def uncorrelated(one: Any, other: Any) -> bool:
    """Neither numbers nor squares: the two normals of one pair of words share their radius."""
    return all(
        abs(np.corrcoef(one.ravel() ** power, other.ravel() ** power)[0, 1]) < SIGMAS / math.sqrt(one.size)
        for power in (1, 2)
    )


@pytest.mark.parametrize("name", PAIRS)
def test_neighbours_are_independent(samples: dict[str, Any], name: str) -> None:
    one, other = PAIRS[name]
    assert uncorrelated(samples["z"][one], samples["z"][other])


@pytest.mark.parametrize("name", ["next step", "next seed"])
def test_steps_and_seeds_are_independent(samples: dict[str, Any], name: str) -> None:
    assert uncorrelated(samples["z"], samples[name])


def test_a_correlation_would_be_noticed(samples: dict[str, Any]) -> None:
    z = samples["z"]
    assert not uncorrelated(z[..., :-1], z[..., 1:] + 0.02 * z[..., :-1])
    assert not uncorrelated(z, np.abs(z))
