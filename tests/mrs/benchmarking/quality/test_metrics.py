"""PSNR and SSIM are those of papers on restoration: other implementations agree."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mrs.benchmarking.quality.metrics import METRICS, MOST_DB, fidelity, luma, ssim
from tests.mrs.benchmarking.quality.examples import pair

# The published settings, by which scikit-image's window has 11 pixels.
PUBLISHED = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}


def test_fidelity_is_that_of_scikit_image_with_the_published_settings() -> None:
    noisy, clean = pair()
    lumas = [rgb2ycbcr(each)[..., 0] for each in (noisy, clean)]
    expected = {
        "psnr": peak_signal_noise_ratio(clean, noisy, data_range=255),
        "ssim": structural_similarity(noisy, clean, channel_axis=-1, **PUBLISHED),
        "psnr_y": peak_signal_noise_ratio(lumas[1], lumas[0], data_range=255),
        "ssim_y": structural_similarity(*lumas, **PUBLISHED),
    }
    found = fidelity(noisy, clean)
    assert found == pytest.approx(expected, rel=1e-9)
    assert found.keys() <= METRICS.keys()


def test_luma_has_the_range_of_video() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], np.uint8)
    np.testing.assert_allclose(luma(colours), [[16, 235, 81.481]], atol=1e-9)


def test_equal_pictures_have_a_psnr_that_means_can_hold() -> None:
    _, clean = pair()
    assert fidelity(clean, clean.copy()) == {"psnr": MOST_DB, "ssim": 1, "psnr_y": MOST_DB, "ssim_y": 1}


def test_one_window_alone_is_ssim_by_its_definition() -> None:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (2, 11, 11)).astype(np.float64)
    places = np.arange(11) - 5
    weights = np.exp(-(places[:, None] ** 2 + places**2) / 4.5)
    weights /= weights.sum()
    mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
    variance_x, variance_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
    covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = 2.55**2, 7.65**2
    expected = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    expected /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    assert ssim(x, y) == pytest.approx(expected, rel=1e-9)
