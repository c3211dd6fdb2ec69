"""Pictures that are made to fit are Pillow's: bit for bit where they are in levels, whatever their size."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from mrs.kernels.scaling import CLIP, LONGEST, STRETCH, axes, fit_of, scale
from tests.together import together

# Smaller than what is made of them and larger, high and wide ones, single lines, odd margins.
SIZES = [
    (1, 1), (1, 7), (7, 1), (2, 3), (8, 8), (9, 8), (8, 9), (31, 17), (64, 8), (8, 65), (40, 300), (301, 40),
    (224, 223), (257, 511), (2, 70), (131, 3),
]  # fmt: skip
SIDES = [1, 7, 8, 32]


def picture_of(size: tuple[int, int], kind: str) -> Any:
    """Black and white points, of which every sum overshoots."""
    levels = 255 * np.random.default_rng(sum(size)).integers(0, 2, (*size, 3)).astype(np.uint8)
    levels[::2] //= 3
    return levels if kind == "uint8" else levels / np.float32(255)


def by_pillow(picture: Any, side: int) -> Any:
    """The middle in levels: columns, then rows, as every Pillow did when CLIP was trained."""
    made = []
    down, across = axes(*picture.shape[:2], side, CLIP)
    for plane in picture.transpose(2, 0, 1):
        cut = np.ascontiguousarray(plane[down.begin : down.end, across.begin : across.end])
        narrow = Image.fromarray(cut).resize((across.scaled, len(cut)), Image.Resampling.BICUBIC)
        small = np.asarray(narrow.resize((across.scaled, down.scaled), Image.Resampling.BICUBIC))
        made.append(small[down.first : down.first + side, across.first : across.first + side])
    return np.stack(made)


@together("size", SIZES, ids=str)
def test_levels_are_pillows(size: tuple[int, int]) -> None:
    picture = picture_of(size, "uint8")
    for side in SIDES:
        made = scale(picture, fit_of(*size, side, CLIP))
        assert (made.dtype, made.shape) == (np.float32, (3, side, side))
        np.testing.assert_array_equal(made, by_pillow(picture, side) / np.float32(255))


@together("kind", ["uint8", "float32"])
@together("size", SIZES, ids=str)
def test_what_is_stretched_is_pillows_but_for_rounding(size: tuple[int, int], kind: str) -> None:
    picture = picture_of(size, kind)
    floats = picture / np.float32(255) if kind == "uint8" else picture
    for side in SIDES:
        planes = [np.ascontiguousarray(plane) for plane in floats.transpose(2, 0, 1)]
        small = [Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC) for plane in planes]
        made = scale(picture, fit_of(*size, side, STRETCH))
        np.testing.assert_allclose(made, np.clip(np.stack([np.asarray(each) for each in small]), 0, 1), atol=2e-6)


def test_floats_become_levels_by_rounding_down() -> None:
    values = np.array([0, 0.9, 1, 254.99, 255, 300, -4], np.float32) / np.float32(255)
    picture = np.broadcast_to(values[:, None, None], (7, 7, 3))
    np.testing.assert_array_equal(scale(picture, fit_of(7, 7, 7, CLIP))[0, :, 3] * 255, [0, 0, 1, 254, 255, 255, 0])


@together("size", [(3, 100_000), (70_000, 2)], ids=str)
def test_of_a_line_the_middle_alone_is_read(size: tuple[int, int]) -> None:
    fit = fit_of(*size, 8, CLIP)
    shortest = min(size)
    assert fit.height <= LONGEST * shortest
    for taps, top, length in ((fit.rows, fit.top, size[0]), (fit.columns, 0, size[1])):
        read = top + taps.first, top + taps.first + len(taps.weights)
        assert read[0].min() >= (length - LONGEST * shortest) // 2
        assert read[1].max() <= max(shortest, (length + LONGEST * shortest) // 2)


@together("resize", [STRETCH, CLIP])
def test_sums_read_nothing_outside_and_weigh_one(resize: str) -> None:
    for height, width in SIZES:
        fit = fit_of(height, width, 8, resize)
        one = 1 << 22 if resize == CLIP else 1
        for taps, length in ((fit.rows, fit.height), (fit.columns, width)):
            assert taps.first.dtype == np.int32
            assert taps.weights.dtype == (np.int32 if resize == CLIP else np.float32)
            assert taps.first.min() >= 0
            assert taps.first.max() + len(taps.weights) <= length
            np.testing.assert_allclose(taps.weights.sum(axis=0), one, atol=0 if one == 1 else 32, rtol=1e-6)
        assert fit.top + fit.height <= height
