"""Noise, JPEG and low light: what a camera and its file do to a picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from mrs.degradations.jpeg import jpeg, quality_of
from mrs.degradations.low_light import low_light
from mrs.degradations.noise import noise
from tests.mrs.degradations.pictures import CROP, natural

pytestmark = pytest.mark.slow(4)


# Noise


@pytest.mark.parametrize(("strength", "sigma"), [(0.0, 5), (0.5, 25), (1.0, 45)])
def test_noise_has_its_standard_deviation(strength: float, sigma: float) -> None:
    grey = np.full((200, 200, 3), 0.5, np.float32)
    added = 255 * (noise(grey, np.random.default_rng(0), strength) - grey)
    assert added.std() == pytest.approx(sigma, rel=0.01)
    assert added.mean() == pytest.approx(0, abs=0.02 * sigma)
    assert abs(np.corrcoef(added[..., 0].ravel(), added[..., 1].ravel())[0, 1]) < 0.02


# JPEG


@pytest.mark.parametrize(("strength", "quality"), [(0.0, 40), (0.5, 10), (1.0, 6)])
def test_jpeg_is_pillows_at_that_quality(strength: float, quality: int) -> None:
    assert quality_of(strength) == quality
    levels = data.astronaut()[CROP]
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality)
    degraded = jpeg(levels.astype(np.float32) / np.float32(255), np.random.default_rng(0), strength)
    np.testing.assert_array_equal(np.rint(degraded * 255).astype(np.uint8), np.asarray(Image.open(file)))


# Low light


def test_low_light_is_dark_and_of_8_bits() -> None:
    picture = natural("coffee")
    for seed in range(5):
        dark = low_light(picture, np.random.default_rng(seed), 0.5)
        levels = 255 * dark.astype(np.float64)
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
        assert dark.mean() < 0.5 * picture.mean()


def test_low_light_darkens_dark_parts_more() -> None:
    """A gamma above 1: the ratio between two greys grows."""
    halves = np.repeat(np.array([0.4, 0.8], np.float32), 50)[None, :, None] * np.ones((100, 1, 3), np.float32)
    for seed in range(5):
        dark = low_light(halves, np.random.default_rng(seed), 0.5)
        assert dark[:, 50:].mean() / dark[:, :50].mean() > 2.5


def test_low_light_has_more_noise_where_it_is_lighter() -> None:
    halves = np.repeat(np.array([0.2, 1.0], np.float32), 100)[None, :, None] * np.ones((200, 1, 3), np.float32)
    dark = low_light(halves, np.random.default_rng(0), 1.0)
    assert dark[:, 100:].std() > 1.5 * dark[:, :100].std() > 0
