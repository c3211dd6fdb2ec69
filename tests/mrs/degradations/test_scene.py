"""Motion blur, shadows and missing parts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mrs.degradations.inpainting import COVERAGE, inpainting
from mrs.degradations.motion_blur import NOISE, motion_blur, path
from mrs.degradations.shadow import LEFT, shadow
from tests.mrs.degradations.pictures import Picture, natural

pytestmark = pytest.mark.slow(4)


# Motion blur


def test_motion_blur_keeps_the_mean_and_takes_detail() -> None:
    picture = natural("astronaut")
    blurred = motion_blur(picture, np.random.default_rng(0), 0.5)
    assert blurred.mean() == pytest.approx(picture.mean(), abs=0.01)
    assert np.abs(np.diff(blurred, axis=1)).mean() < 0.7 * np.abs(np.diff(picture, axis=1)).mean()
    grey = np.full((64, 64, 3), 0.5, np.float32)
    assert (motion_blur(grey, np.random.default_rng(0), 1.0) - grey).std() == pytest.approx(NOISE, rel=0.05)


@pytest.mark.parametrize("length", [4.0, 13.3, 24.0])
@pytest.mark.parametrize("angle", [0.0, 1.0, math.pi / 2])
def test_a_straight_path_is_as_long_as_asked_for(length: float, angle: float) -> None:
    kernel = path(length, angle, bend=0.0, twist=0.0)
    side = len(kernel)
    assert kernel.shape == (side, side)
    assert side % 2 == 1
    assert kernel.sum() == pytest.approx(1)
    grid = np.arange(side) - side // 2
    down, across = (kernel.sum(axis=1) * grid).sum(), (kernel.sum(axis=0) * grid).sum()
    assert (down, across) == pytest.approx((0, 0), abs=1e-4)
    along = grid[:, None] * math.sin(angle) + grid[None, :] * math.cos(angle)
    # The standard deviation of an even line, and a little for sharing points among pixels.
    assert math.sqrt((kernel * along**2).sum()) == pytest.approx(length / math.sqrt(12), rel=0.08)
    beside = grid[None, :] * math.sin(angle) - grid[:, None] * math.cos(angle)
    assert math.sqrt((kernel * beside**2).sum()) < 0.6


def test_a_bent_path_leaves_its_line() -> None:
    def breadth(kernel: Picture) -> float:
        grid = np.arange(len(kernel)) - len(kernel) // 2
        return float((kernel.sum(axis=1) * grid**2).sum())

    straight, bent, twisted = (path(20.0, 0.0, *turns) for turns in ((0.0, 0.0), (1.2, 0.0), (0.0, 1.2)))
    assert breadth(bent) > breadth(straight) + 0.5
    assert breadth(twisted) > breadth(straight) + 0.5


# Shadow


def test_shadows_only_darken_and_red_most() -> None:
    picture = natural("coffee")
    for seed in range(10):
        shaded = shadow(picture, np.random.default_rng(seed), 1.0)
        assert (shaded <= picture).all()
        part = (shaded / np.maximum(picture, 1e-6))[picture.min(axis=2) > 0.1]
        assert part.min() > 0.8 * LEFT[1]
        red, green, blue = part[part.max(axis=1) < 0.6].mean(axis=0) if (part.max(axis=1) < 0.6).any() else (0, 1, 2)
        assert red <= green <= blue


def test_an_outline_crosses_every_patch() -> None:
    white = np.ones((96, 96, 3), np.float32)
    shares = [(shadow(white, np.random.default_rng(seed), 1.0)[..., 1] < 0.6).mean() for seed in range(60)]
    assert sum(0.002 < share < 0.998 for share in shares) > 50
    assert 0.25 < np.mean(shares) < 0.75


# Inpainting


def test_missing_pixels_are_white_and_the_others_unchanged() -> None:
    picture = 0.9 * natural("astronaut")
    for strength in (0.0, 1.0):
        shares = []
        for seed in range(20):
            holed = inpainting(picture, np.random.default_rng(seed), strength)
            missing = (holed != picture).any(axis=2)
            assert (holed[missing] == 1).all()
            shares.append(missing.mean())
        assert np.mean(shares) == pytest.approx(COVERAGE[round(strength)], rel=0.25)


def test_missing_strokes_are_thin() -> None:
    """None leaves a place from which no remaining pixel is within five, except where strokes cross."""
    black = np.zeros((128, 128, 3), np.float32)
    for seed in range(5):
        missing = inpainting(black, np.random.default_rng(seed), 0.5)[..., 0] == 1
        inner = missing[11:-11, 11:-11].copy()
        for y in range(-5, 6):
            for x in range(-5, 6):
                inner &= missing[11 + y : 117 + y, 11 + x : 117 + x]
        assert inner.mean() < 0.02


def test_something_is_always_missing() -> None:
    for seed in range(100):
        assert (inpainting(np.zeros((2, 2, 3), np.float32), np.random.default_rng(seed), 0.0) == 1).any()
