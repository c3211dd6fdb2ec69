"""Degraded pictures with their clean ones: by the plan's own degradation, by a named one, and in pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mrs.benchmarking.quality.samples import Samples
from mrs.runtime.errors import InputError
from mrs.runtime.plan import Plan, read_plan
from tests.mrs.benchmarking.quality.examples import random, save, wanted

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(plan: Path) -> Plan:
    return read_plan(plan)


def saying(plan: Plan, **facts: Any) -> Plan:
    return replace(plan, manifest={**plan.manifest, **facts})


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    for number in range(3):
        save(tmp_path / "clean" / f"{number}.png", random(44, 40, seed=number))
    return tmp_path / "clean"


def test_a_named_degradation_is_that_of_the_command(clean: Path, made: Plan, run, tmp_path: Path) -> None:
    arguments = ("degrade", clean, "-o", tmp_path / "lq", "--task", "noise", "--severity", 0.5, "--seed", 7)
    assert run(*arguments).code == 0
    samples = Samples(wanted(clean, degradation="noise", severity=0.5, data_seed=7), made)
    found = list(samples)
    assert [each.name for each in found] == ["0.png", "1.png", "2.png"]
    for number, each in enumerate(found):
        assert np.array_equal(each.clean, random(44, 40, seed=number))
        assert np.array_equal(each.degraded, np.asarray(Image.open(tmp_path / "lq" / each.name)))
    assert samples.said == "3 of 3 pictures of clean degraded by noise of severity 0.5, seed 7"
    # A second pass gives the same, and the folder that was written the same in pairs.
    assert all(np.array_equal(one.degraded, other.degraded) for one, other in zip(found, samples, strict=True))
    pairs = Samples(wanted(tmp_path / "lq", clean=clean), made)
    assert all(np.array_equal(one.degraded, other.degraded) for one, other in zip(found, pairs, strict=True))
    assert pairs.said == "3 of 3 pictures of lq in pairs"


def test_the_plans_own_degradation(clean: Path, made: Plan) -> None:
    ours, named = Samples(wanted(clean), saying(made, degradation="jpeg")), wanted(clean, degradation="jpeg")
    for one, other in zip(ours, Samples(named, made), strict=True):
        assert np.array_equal(one.degraded, other.degraded)
    assert "degraded by jpeg" in ours.said
    with pytest.raises(InputError, match="does not say what degrades its pictures") as error:
        Samples(wanted(clean), made)
    assert "--degradation" in error.value.hint


def test_the_noise_that_a_plan_takes_away(tmp_path: Path, made: Plan) -> None:
    save(tmp_path / "grey" / "a.png", np.full((64, 64, 3), 128, np.uint8))
    (sample,) = Samples(wanted(tmp_path / "grey"), saying(made, noise_sigma=15.0))
    error = sample.degraded.astype(float) - sample.clean
    assert error.std() == pytest.approx(15, rel=0.03)
    assert abs(error.mean()) < 0.5


def test_a_plan_that_enlarges(clean: Path, made: Plan) -> None:
    large = saying(made, upscale=4)
    samples = Samples(wanted(clean), large)
    assert (samples.factor, samples.border) == (4, 4)
    for each in samples:
        assert (each.degraded.shape, each.clean.shape) == ((11, 10, 3), (44, 40, 3))
        # Blocks of four pixels are what one of the small picture stands for.
        assert np.abs(each.degraded.astype(int) - each.clean[::4, ::4]).mean() < 30
    assert Samples(wanted(clean, border=0), large).border == 0
    with pytest.raises(InputError, match="enlarges 4 times"):
        Samples(wanted(clean, degradation="noise"), large)


def test_small_and_large_pictures_in_pairs(tmp_path: Path, made: Plan) -> None:
    # One more row than four times the small one's.
    save(tmp_path / "set" / "HR" / "a.png", random(49, 48))
    save(tmp_path / "set" / "LR" / "a.png", random(12, 12, seed=1))
    (sample,) = Samples(wanted(tmp_path / "set"), saying(made, upscale=4))
    assert np.array_equal(sample.clean, random(49, 48)[:48])
    (part,) = Samples(wanted(tmp_path / "set", middle=40), saying(made, upscale=4))
    assert np.array_equal(part.degraded, sample.degraded[1:11, 1:11])
    assert np.array_equal(part.clean, sample.clean[4:44, 4:44])
    with pytest.raises(InputError, match=r"a.png: 12x12 pixels degraded and 48x49 clean do not fit this plan"):
        Samples(wanted(tmp_path / "set"), made)


def test_pictures_lie_evenly_over_the_list(tmp_path: Path, made: Plan) -> None:
    for number in range(6):
        save(tmp_path / "clean" / f"{number}.png", random(40, 40, seed=number))
    samples = Samples(wanted(tmp_path / "clean", degradation="noise", pictures=3, middle=33), made)
    assert [each.name for each in samples] == ["0.png", "2.png", "4.png"]
    assert len(samples) == 3
    assert {each.clean.shape for each in samples} == {(33, 33, 3)}
    assert samples.said.startswith(
        "3 of 6 pictures of clean degraded by noise, seed 0, at most the middle 33 pixels of each"
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"degradation": "hail"}, "degradation 'hail' is unknown"),
        ({"degradation": "noise", "severity": 1.5}, r"severity 1.5 is outside \[0, 1\]"),
        ({"degradation": "noise", "middle": 31}, "the middle 31 pixels .* too small"),
        (
            {"degradation": "noise", "border": 5},
            "has 44x40 pixels, of which metrics need 32 a side within a border of 5",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_ahead(clean: Path, made: Plan, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Samples(wanted(clean, **settings), made)


def test_pairs_are_not_degraded_again(clean: Path, made: Plan) -> None:
    with pytest.raises(InputError, match="degraded already"):
        Samples(wanted(clean, clean=clean, degradation="noise"), made)
