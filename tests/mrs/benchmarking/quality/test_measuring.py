"""What is measured of a plan: every figure is that of the restores themselves, and what is printed says so."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from mrs.benchmarking.quality import measuring, perceptual, tables
from mrs.benchmarking.quality.intervals import interval
from mrs.benchmarking.quality.measuring import QualityFound, measure
from mrs.benchmarking.quality.metrics import fidelity
from mrs.benchmarking.quality.samples import Samples
from mrs.benchmarking.results import Quality
from mrs.runtime.errors import CheckpointError, InputError
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.session import Restorer
from tests.mrs.benchmarking.quality.examples import random, save, wanted

pytestmark = pytest.mark.usefixtures("one_thread")


def make(plan: Plan) -> Restorer:
    return Restorer(plan, precision="fp32", threads=1, cache=False)


@pytest.fixture(scope="module")
def restorer(plan: Path) -> Iterator[Restorer]:
    with make(read_plan(plan)) as one:
        yield one


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "clean"
    for number in range(4):
        save(folder / f"{number}.png", random(40, 36 + 4 * number, seed=number))
    return folder


@pytest.fixture(autouse=True)
def no_piq(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the tests see the same with it and without it."""
    monkeypatch.setattr(measuring, "perceptual", lambda: "haarpsi not measured: no piq")


@pytest.fixture(scope="module")
def found(restorer: Restorer, clean: Path) -> QualityFound:
    asked = wanted(clean, degradation="noise", seeds=2, border=2, solvers=("posterior:5", "ode-2:4"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(measuring, "perceptual", lambda: "haarpsi not measured: no piq")
        return measure(restorer, asked, make)


def inner(picture: Any) -> Any:
    return np.ascontiguousarray(picture[2:-2, 2:-2])


def test_figures_are_those_of_the_restores(found: QualityFound, restorer: Restorer, clean: Path) -> None:
    ours, given, posterior, ode = found.quality
    assert [each.by for each in found.quality] == ["ours", "degraded", "solver", "solver"]
    assert [each.label for each in (posterior, ode)] == ["posterior at 5", "ode-2 at 4"]
    assert [each.evaluations for each in found.quality] == [2, 0, 5, 4]
    assert [each.solver for each in found.quality] == ["ode-2", "", "posterior at 5", "ode-2 at 4"]
    samples = list(Samples(wanted(clean, degradation="noise", border=2), restorer.plan))
    for index, sample in enumerate(samples):
        by_noise = [fidelity(inner(restorer.restore(sample.degraded, s)), inner(sample.clean)) for s in (0, 1)]
        before = fidelity(inner(sample.degraded), inner(sample.clean))
        for name, values in ours.metrics.items():
            assert values[index] == pytest.approx(statistics.fmean(each[name] for each in by_noise))
            assert given.metrics[name][index] == pytest.approx(before[name])
    assert ours.seeds == 2
    assert found.data.startswith("4 of 4 pictures of clean degraded by noise, seed 0, 2 pixels at the border")


def test_intervals_and_differences_are_those_of_the_values(found: QualityFound) -> None:
    ours, _, posterior, _ = found.quality
    for name in ours.metrics:
        assert posterior.intervals[name] == interval(posterior.metrics[name])
        differences = np.subtract(posterior.metrics[name], ours.metrics[name]).tolist()
        assert posterior.against_ours[name] == pytest.approx((np.mean(differences), *interval(differences)))
    assert ours.against_ours == {}


def test_what_moves_from_noise_to_noise(found: QualityFound, restorer: Restorer, clean: Path) -> None:
    means = []
    for seed in (0, 1):
        samples = Samples(wanted(clean, degradation="noise", border=2), restorer.plan)
        scores = [fidelity(inner(restorer.restore(each.degraded, seed)), inner(each.clean))["psnr"] for each in samples]
        means.append(statistics.fmean(scores))
    assert means[0] != means[1]
    assert found.quality[0].between_seeds["psnr"] == pytest.approx(statistics.stdev(means))


def test_solvers_are_timed_and_what_bench_has_timed_is_kept(
    found: QualityFound, restorer: Restorer, clean: Path
) -> None:
    times = [each.milliseconds for each in found.quality]
    assert times[1] is None
    assert all(time is not None and time > 0 for time in (times[0], *times[2:]))
    assert any("one after the other" in note for note in found.notes)
    asked = wanted(clean, degradation="noise", pictures=1, solvers=("posterior:2",))
    ours, _, posterior = measure(restorer, asked, make, milliseconds=1e9).quality
    assert ours.milliseconds == 1e9
    assert posterior.milliseconds is not None
    assert posterior.milliseconds < 1e6
    assert measure(restorer, wanted(clean, degradation="noise", pictures=1), make).quality[0].milliseconds is None


def test_pictures_to_look_at(found: QualityFound) -> None:
    of_first = [each for each in found.pictures if each.name == "0.png"]
    assert [each.role for each in of_first if each.role != "state"] == ["degraded", "restored", "clean"]
    assert [each.step for each in of_first if each.role == "state"] == [0, 1, 2]
    assert {each.name for each in found.pictures} == {"0.png", "1.png", "2.png"}
    assert all((each.height, each.width) == (40, 36) for each in of_first)
    assert sum(len(each.data) for each in found.pictures) <= 1_000_000


def test_records_go_to_json_and_back(found: QualityFound) -> None:
    content = msgspec.json.encode(found.quality)
    assert tuple(msgspec.json.decode(content, type=list[Quality])) == found.quality


def test_all_that_is_printed(found: QualityFound) -> None:
    text = tables.lines(found)
    ours, given, posterior, _ = found.quality
    row = next(line for line in text if line.startswith("posterior at 5")).split()
    means = [statistics.fmean(posterior.metrics[name]) for name in ("psnr", "ssim", "psnr_y", "ssim_y")]
    assert row[3:8] == ["5", *(f"{mean:.{2 if mean > 1 else 4}f}" for mean in means)]
    assert row[8] == f"{posterior.milliseconds:.1f}"
    low, high = given.intervals["psnr"]
    mean, *ends = given.against_ours["psnr"]
    second = [line for line in text if line.startswith("as given")][1]
    assert f"{low:.2f} to {high:.2f}" in second
    assert f"{mean:+.2f} ({ends[0]:+.2f} to {ends[1]:+.2f})" in second
    assert f"this plan's mean moves by PSNR dB {ours.between_seeds['psnr']:.2f}" in text[-4]
    assert "note      haarpsi not measured: no piq" in text
    assert all(len(line) < 120 for line in text if not line.startswith("note"))


def test_metrics_where_less_is_better_are_told(restorer: Restorer, clean: Path, monkeypatch) -> None:
    monkeypatch.setattr(measuring, "perceptual", lambda: lambda one, other: dict.fromkeys(perceptual.NAMES, 0.5))
    found = measure(restorer, wanted(clean, degradation="noise", pictures=2), make)
    assert found.quality[0].metrics["gmsd"] == (0.5, 0.5)
    assert "lower is better of GMSD" in tables.lines(found)
    # Two pictures have no intervals.
    assert found.quality[0].intervals == {}
    assert any("fewer than 3 pictures" in note for note in found.notes)
    assert not any(line.startswith("95 %") for line in tables.lines(found))


def test_a_plan_that_enlarges_is_compared_with_its_enlarged_pictures(plan: Path, clean: Path) -> None:
    small = read_plan(plan)
    with make(replace(small, manifest={**small.manifest, "upscale": 2})) as large:
        found = measure(large, wanted(clean), make)
    assert "bicubic reduction by 2, seed 0, 2 pixels at the border not counted" in found.data
    degraded = next(each for each in found.pictures if each.role == "degraded")
    assert (degraded.height, degraded.width) == (40, 36)
    assert all(value > 5 for value in found.quality[1].metrics["psnr"])


def test_what_is_wrong_is_refused_before_anything_is_restored(
    restorer: Restorer, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Restorer, "restore", lambda *arguments, **options: pytest.fail("restored"))
    (tmp_path / "lpips.pth").write_bytes(b"no weights")
    noise = {"degradation": "noise"}
    for settings, error in (
        ({}, InputError), ({**noise, "solvers": ("odd:3",)}, InputError),
        ({**noise, "lpips": tmp_path / "lpips.pth"}, CheckpointError),
    ):  # fmt: skip
        with pytest.raises(error):
            measure(restorer, wanted(clean, **settings), make)


def test_progress_is_told(restorer: Restorer, clean: Path) -> None:
    told: list[str] = []
    asked = wanted(clean, degradation="noise", pictures=2, solvers=("posterior:2",))
    measure(restorer, asked, make, report=told.append)
    assert told == [
        "quality: 0.png, 1 of 2", "quality: 2.png, 2 of 2",
        "quality: posterior at 2: 0.png, 1 of 2", "quality: posterior at 2: 2.png, 2 of 2",
    ]  # fmt: skip
