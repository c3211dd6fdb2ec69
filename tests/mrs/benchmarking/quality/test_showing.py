from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mrs.benchmarking.quality import showing
from mrs.benchmarking.quality.showing import Shown, files, middle
from tests.mrs.benchmarking.quality.examples import pair


def test_files_are_pictures_with_what_is_said_of_them() -> None:
    noisy, clean = pair()
    first, second = files([Shown("a.png", "clean", clean), Shown("a.png", "state", noisy, 3)])
    assert (first.role, first.step, second.role, second.step) == ("clean", None, "state", 3)
    assert (first.media_type, first.height, first.width, first.name) == ("image/webp", 64, 80, "a.png")
    with Image.open(io.BytesIO(first.data)) as opened:
        assert opened.format == "WEBP"
        assert np.abs(np.asarray(opened).astype(float) - clean).mean() < 4


def test_all_files_together_keep_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    shown = [Shown(str(number), "clean", noise) for number in range(4)]
    plenty = sum(len(each.data) for each in files(shown))
    some = files(shown, plenty // 2)
    assert len(some) == 4
    assert sum(len(each.data) for each in some) <= plenty // 2
    # Where no quality is low enough, the last are left out.
    monkeypatch.setattr(showing, "QUALITIES", showing.QUALITIES[:1])
    assert [each.name for each in files(shown, 5 * plenty // 8)] == ["0", "1"]
    assert files([]) == ()


def test_the_middle_is_cut_out_pixel_by_pixel() -> None:
    picture = np.arange(7 * 4 * 3).reshape(7, 4, 3).astype(np.uint8)
    assert np.array_equal(middle(picture, 3), picture[2:5, 0:3])
    assert np.array_equal(middle(picture, 9), picture)
