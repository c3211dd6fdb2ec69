"""Metrics as decibels: PSNR is PSNR, the others tell what is missing the same way, and a mix is their mean."""

from __future__ import annotations

import numpy as np
import pytest

from mrs.benchmarking.quality import perceptual
from mrs.benchmarking.quality.metrics import fidelity
from mrs.runtime.errors import InputError
from mrs.tuning.scoring import check_metric, metric


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Three clean pictures, and others that are ever further from them; (3, 3, 40, 40) float32 of whole levels."""
    random = np.random.default_rng(0)
    clean = random.integers(30, 220, (3, 3, 10, 10)).repeat(4, 2).repeat(4, 3)
    noise = random.integers(-30, 31, clean.shape) * np.array([1, 2, 3])[:, None, None, None] // 3
    return (np.clip(clean + noise, 0, 255) / np.float32(255)).astype(np.float32), (clean / np.float32(255)).astype(
        np.float32
    )


def levels(picture: np.ndarray) -> np.ndarray:
    return np.rint(picture.transpose(1, 2, 0) * 255).astype(np.uint8)


def test_psnr_is_that_of_a_benchmark_on_each_picture(pictures) -> None:
    near, clean = pictures
    expected = [fidelity(levels(one), levels(other))["psnr"] for one, other in zip(near, clean, strict=True)]
    np.testing.assert_allclose(metric("psnr")(near, clean), expected, atol=1e-4)
    assert np.all(np.diff(expected) < 0)


@pytest.mark.parametrize("name", ["haarpsi", "fsim", "gmsd"])
def test_the_others_are_what_a_benchmark_measures_in_decibels(pictures, name) -> None:
    found = perceptual.perceptual()
    if isinstance(found, str):
        pytest.skip(found)
    near, clean = pictures
    values = np.array([found(levels(one), levels(other))[name] for one, other in zip(near, clean, strict=True)])
    expected = -10 * np.log10(values if name == "gmsd" else 1 - values)
    np.testing.assert_allclose(metric(name)(near, clean), expected, atol=1e-3)


def test_a_mix_is_the_mean_of_its_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """With functions instead of piq's, which need not be installed."""
    import torch

    constant = {name: lambda x, y, value=value, **_: torch.full((len(x),), value) for name, value in
                (("haarpsi", 0.9), ("fsim", 0.99), ("gmsd", 0.1))}  # fmt: skip
    monkeypatch.setattr(perceptual, "functions", lambda: constant)
    off = np.full((2, 3, 32, 32), 0.1, np.float32)
    clean = np.zeros_like(off)
    assert metric("haarpsi")(off, clean) == pytest.approx(10, abs=1e-4)
    assert metric("fsim")(off, clean) == pytest.approx(20, abs=1e-4)
    assert metric("gmsd")(off, clean) == pytest.approx(10, abs=1e-4)
    assert metric("psnr+fsim")(off, clean) == pytest.approx([20, 20], abs=1e-4)
    assert metric("psnr+haarpsi+fsim")(off, clean) == pytest.approx([50 / 3] * 2, abs=1e-4)


def test_equal_pictures_and_what_lies_outside_of_the_range() -> None:
    clean = np.ones((1, 3, 32, 32), np.float32)
    assert metric("psnr")(clean + 0.5, clean) == pytest.approx(100)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ssim", "metric 'ssim' is unknown"), ("", "metric '' is unknown"), ("psnr+", "metric '' is unknown"),
        ("psnr+psnr", "says one twice"),
    ],
)  # fmt: skip
def test_metrics_that_are_none(name, says) -> None:
    with pytest.raises(InputError, match=says):
        check_metric(name)
    with pytest.raises(InputError, match=says):
        metric(name)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="torch is not installed") as caught:
        metric("psnr+gmsd")
    assert "quality" in str(caught.value.hint)
    assert metric("psnr").name == "psnr"
