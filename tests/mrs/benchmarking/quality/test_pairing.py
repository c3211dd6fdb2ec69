"""Which pictures belong together, under the names of published test sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrs.benchmarking.quality.pairing import find
from mrs.runtime.errors import InputError
from tests.mrs.benchmarking.quality.examples import random, save


def made(folder: Path, *names: str) -> Path:
    for name in names:
        save(folder / name, random(4, 4))
    return folder


@pytest.mark.parametrize(
    ("degraded", "clean"),
    [
        ("LQ/1.png", "GT/1.png"),
        ("rain/rain-001.png", "norain/norain-001.png"),
        ("rain-001.png", "norain-001.png"),
        ("input/a/b.jpg", "target/a/b.png"),
        ("LR_bicubic/X4/0801x4.png", "HR/0801.png"),
        ("hazy/12_hazy.png", "GT/12_GT.png"),
        ("shadow/90-1.png", "shadow_free/90-1.png"),
        ("low/1.png", "high/1.png"),
        ("blur/000.png", "sharp/000.png"),
        ("0_rain.png", "0_clean.png"),
        ("0001_NOISY_SRGB_010.PNG", "0001_GT_SRGB_010.PNG"),
        ("img_001_SRF_4_LR.png", "img_001_SRF_4_HR.png"),
    ],
)
def test_pairs_of_published_sets(tmp_path: Path, degraded: str, clean: str) -> None:
    folder = made(tmp_path / "set", degraded, clean)
    (found,) = find(folder)
    assert (found.degraded, found.clean) == (folder / degraded, folder / clean)


def test_clean_pictures_alone(tmp_path: Path) -> None:
    folder = made(tmp_path / "kodak", "rain-forest.png", "deep/low-tide.png", "b.png")
    found = find(folder)
    assert [each.name for each in found] == ["b.png", "deep/low-tide.png", "rain-forest.png"]
    assert all(each.degraded is None for each in found)
    # Words in names of different folders are no pairs.
    assert len(find(made(tmp_path / "words", "rain-1.png", "deep/clear-sky.png"))) == 2
    # One folder of the two is no pair.
    assert find(made(tmp_path / "more", "GT/a.png"))[0].degraded is None


def test_equal_names_belong_together_whatever_their_words(tmp_path: Path) -> None:
    found = find(made(tmp_path / "set", "LQ/rain-1.png", "LQ/snow-1.jpg", "GT/rain-1.png", "GT/snow-1.png"))
    assert [(each.degraded.name, each.clean.name) for each in found] == [
        ("rain-1.png", "rain-1.png"), ("snow-1.jpg", "snow-1.png"),
    ]  # fmt: skip


def test_both_folders_named(tmp_path: Path) -> None:
    ours, theirs = made(tmp_path / "a", "1.png", "2.png"), made(tmp_path / "b", "2.png", "1.png")
    found = find(ours, theirs)
    assert [(each.degraded, each.clean) for each in found] == [(ours / n, theirs / n) for n in ("1.png", "2.png")]


def test_pictures_without_a_partner_are_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "set", *(f"LQ/{n}.png" for n in range(6)), "GT/0.png")
    with pytest.raises(InputError, match=r"1.png, 2.png, 3.png and 2 more of .*LQ have no clean picture"):
        find(folder)
    made(tmp_path / "other", "LQ/0.png", "GT/0.png", "GT/1.png")
    with pytest.raises(InputError, match=r"1.png of .*GT have no degraded picture"):
        find(tmp_path / "other")


def test_two_pictures_with_one_partner(tmp_path: Path) -> None:
    folder = made(tmp_path / "set", "LQ/1_lq.png", "LQ/1_rain.png", "GT/1.png")
    with pytest.raises(InputError, match=r"1_lq.png and .*1_rain.png would have one partner"):
        find(folder)


@pytest.mark.parametrize("names", [("LQ/1.png",), ("LR/1.png", "LQ/1.png", "HR/1.png")])
def test_degraded_pictures_are_not_taken_for_clean_ones(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = made(tmp_path / "set", *names)
    with pytest.raises(InputError, match="holds degraded pictures by its name") as error:
        find(folder)
    assert "--clean" in error.value.hint
    with pytest.raises(InputError, match="holds degraded pictures by its name"):
        find(folder / Path(names[0]).parent)


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, said in ((tmp_path / "none", "does not exist"), (tmp_path / "empty", "holds no pictures")):
        with pytest.raises(InputError, match=said):
            find(folder)
        with pytest.raises(InputError, match=said):
            find(made(tmp_path / "a", "1.png"), folder)
