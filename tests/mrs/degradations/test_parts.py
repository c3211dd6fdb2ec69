"""What degradations are made of: convolutions, smooth fields, severities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mrs.degradations import planes, severity

pytestmark = pytest.mark.slow(4)


def test_convolution_is_the_plain_sum() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((9, 14), (2, 3), (1, 1)):
        picture, kernel = rng.random((height, width, 3), np.float32), rng.random((5, 5), np.float32)
        padded = np.pad(picture, ((2, 2), (2, 2), (0, 0)), mode="symmetric")
        expected = sum(
            kernel[2 + y, 2 + x] * padded[2 - y : 2 - y + height, 2 - x : 2 - x + width]
            for y in range(-2, 3)
            for x in range(-2, 3)
        )
        np.testing.assert_allclose(planes.convolved(picture, kernel), expected, rtol=1e-5)


def test_a_smooth_field_has_unit_variance_and_no_grain() -> None:
    fields = [planes.smooth_field(np.random.default_rng(seed), 80, 90, (40.0, 200.0)) for seed in range(300)]
    assert np.mean(fields) == pytest.approx(0, abs=0.08)
    assert np.std(fields) == pytest.approx(1, abs=0.08)
    steps = max(np.abs(np.diff(field, axis=axis)).max() for field in fields for axis in (0, 1))
    assert steps < 6 * math.sqrt(2 / 6) * 2 * math.pi / 40


def test_severities_between() -> None:
    assert [severity.between(2.0, 10.0, at) for at in (0, 0.5, 1)] == [2, 6, 10]
    assert severity.between(10.0, 2.0, 0.25) == 8
