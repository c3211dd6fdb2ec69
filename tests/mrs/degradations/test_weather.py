"""Haze, snow and drops: what stands between a scene and the camera."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mrs.degradations.haze import AIRLIGHT, BETA, DEPTH, TINT, haze
from mrs.degradations.raindrop import raindrop
from mrs.degradations.snow import WHITE, snow
from tests.mrs.degradations.pictures import natural

pytestmark = pytest.mark.slow(6)


# Haze


def test_haze_moves_towards_one_airlight() -> None:
    """Black and white under the same haze tell its airlight and how much is seen, which the model bounds."""
    for strength in (0.0, 1.0):
        for seed in range(10):
            black, white = (
                haze(np.full((60, 80, 3), level, np.float32), np.random.default_rng(seed), strength)
                for level in (0.0, 1.0)
            )
            seen = (white - black).astype(np.float64)
            beta = BETA[round(strength)]
            assert seen.min() >= math.exp(-beta * DEPTH[1]) - 1e-5
            assert seen.max() <= math.exp(-beta * DEPTH[0]) + 1e-5
            assert np.ptp(seen, axis=2).max() < 1e-5
            airlight = black / (1 - seen)
            assert np.ptp(airlight, axis=(0, 1)).max() < 1e-4
            assert airlight.min() > AIRLIGHT[0] - TINT - 1e-3
            assert np.abs(np.diff(seen[..., 0], axis=0)).max() < 0.02


# Drops


def test_drops_cover_a_part_and_leave_the_rest() -> None:
    picture = np.random.default_rng(0).random((150, 170, 3), np.float32)
    for strength, least, most in ((0.0, 0.03, 0.1), (1.0, 0.25, 0.45)):
        touched = [(raindrop(picture, np.random.default_rng(seed), strength) != picture).mean() for seed in range(20)]
        assert least < np.mean(touched) < most


def test_a_drop_shows_the_scene_upside_down() -> None:
    """Lit from above, dark below: in a drop it is the other way round, and steeper."""
    height = 400
    picture = np.linspace(1, 0, height, dtype=np.float32)[:, None, None] * np.ones((1, 120, 3), np.float32)
    rises = []
    for seed in range(5):
        # Far from the rim, where the scene is mirrored.
        steps = height * np.diff(raindrop(picture, np.random.default_rng(seed), 0.5)[150:250, :, 0], axis=0)
        # Within drops, where it does not bend as at their edges.
        inside = (np.abs(steps[1:]) > 1.5) & (np.abs(np.diff(steps, axis=0)) < 1.5)
        assert inside.mean() > 0.01
        rises.append((steps[1:][inside] > 0).mean())
    assert np.mean(rises) > 0.9


# Snow


def test_snow_whitens_and_adds_up() -> None:
    black = np.zeros((128, 128, 3), np.float32)
    for seed in range(5):
        light, heavy = (snow(black, np.random.default_rng(seed), strength) for strength in (0.0, 1.0))
        assert (heavy[..., 0] == heavy[..., 1]).all()
        assert heavy.max() <= WHITE[1]
        assert 0.005 < light.mean() < 0.06
        assert 0.06 < heavy.mean() < 0.3
    picture = natural("astronaut")
    snowed = snow(picture, np.random.default_rng(0), 1.0)
    assert (snowed >= np.minimum(picture, WHITE[0]) - 1e-6).all()


def test_snow_falls_evenly_to_the_rim() -> None:
    black = np.zeros((64, 64, 3), np.float32)
    snowed = np.mean([snow(black, np.random.default_rng(seed), 1.0)[..., 0] for seed in range(120)], axis=0)
    rim = np.concatenate([snowed[:4].ravel(), snowed[-4:].ravel(), snowed[:, :4].ravel(), snowed[:, -4:].ravel()])
    assert rim.mean() == pytest.approx(snowed[16:48, 16:48].mean(), rel=0.15)
