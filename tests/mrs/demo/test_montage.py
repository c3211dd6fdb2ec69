"""The sheet of before, after and truth shows the pictures themselves."""

from __future__ import annotations

import numpy as np
import pytest

from mrs.demo.montage import ENLARGED, GAP, LABEL, montage


@pytest.fixture
def pictures(photo):
    return [photo(64, 96), photo(64, 96)[::-1], 255 - photo(64, 96)]


def test_pictures_and_details_are_where_they_belong(pictures) -> None:
    y, x = 20, 30
    sheet = montage([("before", pictures[0]), ("after", pictures[1]), ("truth", pictures[2])], (y, x))
    assert sheet.dtype == np.uint8
    assert sheet.shape == (LABEL + 64 + GAP + 64, 3 * 96 + 2 * GAP, 3)
    frame = np.zeros((64, 96), bool)
    frame[y - 1 : y + 17, x - 1 : x + 25] = True
    frame[y : y + 16, x : x + 24] = False
    for i, picture in enumerate(pictures):
        columns = slice(i * (96 + GAP), i * (96 + GAP) + 96)
        shown = sheet[LABEL : LABEL + 64, columns]
        assert np.array_equal(shown[~frame], picture[~frame])
        assert (shown[frame] == 255).all()
        detail = sheet[LABEL + 64 + GAP :, columns]
        assert np.array_equal(detail, picture[y : y + 16, x : x + 24].repeat(ENLARGED, 0).repeat(ENLARGED, 1))


def test_every_picture_has_its_label_above_it(pictures) -> None:
    def strips(*labels: str) -> list[np.ndarray]:
        sheet = montage(list(zip(labels, pictures, strict=True)), (0, 0))
        return [sheet[:LABEL, i * (96 + GAP) : i * (96 + GAP) + 96] for i in range(3)]

    first, other = strips("before", "after", "truth"), strips("before", "", "23.4 dB")
    assert [int(strip.min()) < 100 for strip in first] == [True, True, True]
    assert [np.array_equal(a, b) for a, b in zip(first, other, strict=True)] == [True, False, False]
    assert (other[1] == 255).all()
