"""Degradations give pictures, from the random numbers they are given and no others, worse with more severity."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from mrs import degradations
from mrs.degradations import planes, severity
from mrs.degradations.haze import AIRLIGHT, BETA, DEPTH, TINT, haze
from mrs.degradations.inpainting import COVERAGE, inpainting
from mrs.degradations.jpeg import jpeg, quality_of
from mrs.degradations.low_light import low_light
from mrs.degradations.motion_blur import NOISE, motion_blur, path
from mrs.degradations.noise import noise
from mrs.degradations.rain import MAX_OPACITY, PSNR_RANGE, rain
from mrs.degradations.raindrop import raindrop
from mrs.degradations.shadow import LEFT, shadow
from mrs.degradations.snow import WHITE, snow
from mrs.runtime.errors import InputError

pytestmark = pytest.mark.slow(20)

Picture = NDArray[np.float32]

CROP = (slice(40, 168), slice(100, 260))


def natural(name: str) -> Picture:
    return getattr(data, name)()[CROP].astype(np.float32) / np.float32(255)


def psnr(a: Picture, b: Picture) -> float:
    return float(-10 * np.log10(np.mean(np.square(a.astype(np.float64) - b))))


def every(function: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("name", sorted(degradations.DEGRADATIONS))(function)


def each(function: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("name", sorted(degradations.TASKS))(function)


# What holds for all of them


@every
@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (1, 2, 3), (16, 3, 3), (1, 64, 3), (7, 300, 3), (37, 5, 3), (64, 64, 3)], ids=str
)
def test_shape_type_and_range(name: str, shape: tuple[int, ...]) -> None:
    for content in (0, 1, 0.5, np.random.default_rng(0).random(shape)):
        picture = np.broadcast_to(np.asarray(content, np.float32), shape)
        before = picture.copy()
        for seed, strength in enumerate((None, 0.0, 0.3, 1.0)):
            degraded = degradations.get(name)(picture, np.random.default_rng(seed), strength)
            assert degraded.shape == shape
            assert degraded.dtype == np.float32
            assert degraded.min() >= 0
            assert degraded.max() <= 1
            assert not np.shares_memory(degraded, picture)
        np.testing.assert_array_equal(picture, before)


@every
def test_everything_random_comes_from_the_generator(name: str) -> None:
    picture, degrade = natural("coffee"), degradations.get(name)
    first = degrade(picture, np.random.default_rng(7))
    np.testing.assert_array_equal(degrade(picture, np.random.default_rng(7)), first)
    assert not np.array_equal(degrade(picture, np.random.default_rng(8)), first)
    rng = np.random.default_rng(7)
    degrade(picture, rng)
    assert not np.array_equal(degrade(picture, rng), first)


@every
def test_any_memory_layout(name: str) -> None:
    picture, degrade = natural("chelsea"), degradations.get(name)
    flipped = picture[:, ::-1]
    expected = degrade(np.ascontiguousarray(flipped), np.random.default_rng(0))
    np.testing.assert_array_equal(degrade(flipped, np.random.default_rng(0)), expected)


@every
def test_more_severity_is_worse(name: str) -> None:
    pictures, degrade = [natural(photo) for photo in ("astronaut", "coffee", "chelsea")], degradations.get(name)

    def mean(strength: float) -> float:
        # The same seeds at each severity: what differs is the severity.
        return float(
            np.mean([psnr(degrade(p, np.random.default_rng(i), strength), p) for p in pictures for i in range(8)])
        )

    found = [mean(strength) for strength in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert all(np.diff(found) < -0.3), found


@each
def test_a_drawn_severity_is_even(name: str) -> None:
    """Both ends are reached: the mean damage of a drawn severity is near that of the evenly spread ones."""
    picture, degrade = natural("astronaut"), degradations.get(name)
    steps = 16

    def damage(strength: float | None, seed: int) -> float:
        return psnr(degrade(picture, np.random.default_rng(seed), strength), picture)

    drawn = np.mean([damage(None, seed) for seed in range(3 * steps)])
    spread = np.mean([damage((seed % steps + 0.5) / steps, seed) for seed in range(3 * steps)])
    assert drawn == pytest.approx(spread, abs=1.5)


@every
@pytest.mark.parametrize("wrong", [-0.01, 1.01, math.nan, math.inf])
def test_a_severity_that_is_none(name: str, wrong: float) -> None:
    with pytest.raises(InputError, match=f"severity {wrong} is outside") as caught:
        degradations.get(name)(natural("coffee"), np.random.default_rng(0), wrong)
    assert "0 for the lightest" in caught.value.hint


@each
def test_a_patch_sees_what_a_part_of_a_picture_sees(name: str) -> None:
    """The mean damage does not depend on the size of the picture."""
    rng = np.random.default_rng(3)
    waves = planes.smooth_field(rng, 384, 384, (10.0, 60.0)) + planes.smooth_field(rng, 384, 384, (5.0, 20.0))
    picture = np.clip(0.45 + 0.12 * waves, 0, 1)[:, :, None] * np.array([1, 0.9, 0.8], np.float32)
    degrade = degradations.get(name)

    def damage(side: int, times: int) -> float:
        errors = []
        for seed in range(times):
            part = picture[seed : seed + side, seed : seed + side]
            degraded = degrade(part, np.random.default_rng([side, seed]), 0.5)
            errors.append(np.mean(np.square(degraded - part), dtype=np.float64))
        return float(-10 * np.log10(np.mean(errors)))

    assert damage(64, 100) == pytest.approx(damage(320, 8), abs=1.6)


@pytest.mark.parametrize("name", ["hail", "", "Rain"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(InputError) as caught:
        degradations.get(name)
    assert repr(name) in caught.value.message
    assert "rain" in caught.value.hint


def test_the_ten_tasks() -> None:
    names = "motion-blur haze jpeg low-light noise raindrop rain shadow snow inpainting"
    assert list(degradations.TASKS) == names.split()


# Mixed


def test_mixed_is_one_of_the_ten_and_each_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, float | None]] = []

    def named(name: str) -> Callable[..., Picture]:
        return lambda picture, rng, strength=None: calls.append((name, strength)) or picture

    for name in degradations.TASKS:
        monkeypatch.setitem(degradations.TASKS, name, named(name))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        degradations.get("mixed")(np.zeros((1, 1, 3), np.float32), rng, 0.25)
    counts = [sum(called == name for called, _ in calls) for name in degradations.TASKS]
    assert sum(counts) == 2000
    assert min(counts) > 150
    assert max(counts) < 250
    assert {strength for _, strength in calls} == {0.25}


# What they are made of


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


# Rain


@pytest.mark.parametrize(("strength", "target"), [(0.0, 26), (0.25, 24), (1.0, 18)])
def test_rain_of_a_severity_has_its_psnr(strength: float, target: float) -> None:
    picture = natural("coffee")
    found = [psnr(rain(picture, np.random.default_rng(seed), strength), picture) for seed in range(10)]
    assert min(found) >= target - 0.01
    # Streaks that reach MAX_OPACITY lose some of their strength, more of them in a shower.
    assert np.mean(found) <= target + 0.5


def test_rain_without_a_severity_is_what_the_shipped_weights_were_measured_on() -> None:
    rained = rain(natural("astronaut"), np.random.default_rng(5))
    assert rained.sum(dtype=np.float64) == pytest.approx(38875.1830614, abs=1e-3)
    assert rained[17, 33].tolist() == pytest.approx([0.7952438593, 0.7707953453, 0.7402347326], abs=1e-6)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_rain_on_photographs_spans_the_stated_psnr(name: str) -> None:
    picture = natural(name)
    low, high = PSNR_RANGE
    found = [psnr(rain(picture, np.random.default_rng(seed)), picture) for seed in range(25)]
    # Streaks that reach MAX_OPACITY lose a little of their strength.
    assert low - 0.01 <= min(found)
    assert max(found) <= high + 0.5
    assert min(found) < low + 2.5
    assert max(found) > high - 2.5


def test_rain_on_black_is_exact_and_grey() -> None:
    black = np.zeros((96, 96, 3), np.float32)
    for seed in range(10):
        rained = rain(black, np.random.default_rng(seed))
        low, high = PSNR_RANGE
        assert low - 0.01 <= psnr(rained, black) <= high + 0.5
        np.testing.assert_array_equal(rained[..., :1], rained[..., 1:2])
        np.testing.assert_array_equal(rained[..., :1], rained[..., 2:])


def test_rain_only_lightens_and_hides_nothing() -> None:
    picture = natural("astronaut")
    for seed in range(5):
        rained = rain(picture, np.random.default_rng(seed))
        assert (rained >= picture).all()
        opacity = (rained - picture)[picture < 0.9] / (1 - picture)[picture < 0.9]
        assert opacity.max() <= MAX_OPACITY + 1e-5


def test_rain_on_white_is_white() -> None:
    white = np.ones((32, 48, 3), np.float32)
    np.testing.assert_array_equal(rain(white, np.random.default_rng(0)), white)


def test_rain_is_streaks_that_stand_up() -> None:
    # Streaks are long along their motion: neighbours above and below are more alike than those beside.
    black = np.zeros((128, 128, 3), np.float32)
    for seed in range(5):
        rained = rain(black, np.random.default_rng(seed))[..., 0]
        down, across = np.abs(np.diff(rained, axis=0)).mean(), np.abs(np.diff(rained, axis=1)).mean()
        assert down < 0.8 * across


def test_rain_falls_evenly_to_the_rim() -> None:
    # Streaks enter from outside, and none that leaves comes back in on the other side.
    black = np.zeros((64, 64, 3), np.float32)
    all_rained = [rain(black, np.random.default_rng(seed))[..., 0] for seed in range(60)]
    alike = [np.corrcoef(rained[0], rained[-1])[0, 1] for rained in all_rained]
    assert abs(np.mean(alike)) < 0.1
    rained = np.mean(all_rained, axis=0)
    rim = np.concatenate([rained[:4].ravel(), rained[-4:].ravel(), rained[:, :4].ravel(), rained[:, -4:].ravel()])
    assert rim.mean() == pytest.approx(rained[16:48, 16:48].mean(), rel=0.15)
