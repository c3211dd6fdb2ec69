"""PSNR by hand-written values, and pictures that cannot be compared."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mrs.runtime.psnr import psnr

BYTES = np.full((2, 3, 3), 100, np.uint8)


def test_one_level_everywhere() -> None:
    assert psnr(BYTES + np.uint8(1), BYTES) == pytest.approx(20 * math.log10(255))


def test_a_difference_below_zero_does_not_wrap() -> None:
    assert psnr(np.zeros_like(BYTES), np.full_like(BYTES, 255)) == pytest.approx(0)


def test_floats_have_a_peak_of_one() -> None:
    floats = np.full((4, 4, 3), 0.5, np.float32)
    assert psnr(floats + np.float32(0.25), floats) == pytest.approx(20 * math.log10(4))
    assert psnr(floats.astype(np.float64) + 0.25, floats) == pytest.approx(20 * math.log10(4))


def test_equal_pictures_have_no_error() -> None:
    assert psnr(BYTES, BYTES.copy()) == math.inf


def test_the_mean_is_over_all_values() -> None:
    other = BYTES.copy()
    other[0, 0, 0] += 18
    assert psnr(other, BYTES) == pytest.approx(10 * math.log10(255**2 / 18))


@pytest.mark.parametrize("other", [BYTES[:1], BYTES.astype(np.float32)], ids=["shape", "dtype"])
def test_pictures_of_two_kinds_are_refused(other) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        psnr(BYTES, other)
