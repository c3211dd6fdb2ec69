"""What the summary says, and what it must not say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mrs.benchmarking.results import Case, Parity, Results
from mrs.reporting.findings import findings, measured
from mrs.reporting.subjects import subjects
from tests.mrs.reporting import examples

FAILS = Parity(psnr_db=20.0, reference="torch float32", bar_db=33.0, passes=False)


def said(results: Results) -> str:
    return " ".join(f"{finding.lead} {finding.rest}" for finding in findings(subjects([results])[0]))


def against(ratio: float, rounds: int = 9, parity: Parity | None = None) -> Results:
    """Two alone: ours at about 100 ms, and a rival so many times as slow."""
    full = examples.typical()
    ours = replace(full.cases[0], milliseconds=tuple(100.0 + each for each in range(rounds)))
    rival = replace(
        ours, by="eager", label="torch eager", parity=parity or ours.parity,
        milliseconds=tuple(ratio * (100.0 + each) + (-1) ** each for each in range(rounds)),
    )  # fmt: skip
    return replace(
        full, cases=(ours, rival), throughput=(), start=None, timeline=(), quality=(), pictures=(), notes=()
    )  # fmt: skip


def test_the_three_that_matter_are_first() -> None:
    text = said(examples.typical())
    assert "torch.compile, max-autotune with 10 evaluations takes 2.0" in text
    assert "published posterior sampler, torch eager with 100 evaluations takes 70" in text
    assert "dB more than degraded pictures" in text
    assert "not found to differ from published posterior with 10 evaluations" in text
    assert "OpenVINO's bare loop" in text
    assert len(findings(subjects([examples.typical()])[0])) == 3


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (3.0, "torch eager with 10 evaluations takes 3.0"),
        (0.5, "torch eager with 10 evaluations is faster and takes 0.50"),
        (1.001, "In the same rounds, no difference was found from torch eager with 10 evaluations."),
    ],
)
def test_a_rival_is_slower_or_faster_or_neither(ratio: float, words: str) -> None:
    assert words in said(against(ratio))


def test_who_fails_parity_is_not_compared_but_told() -> None:
    results = against(3.0, parity=FAILS)
    assert "torch eager" not in said(results)
    assert "Torch eager at 256x256 does not compute what it should" in " ".join(subjects([results])[0].caveats)


def test_a_plan_that_fails_parity_has_no_speed() -> None:
    results = against(3.0)
    failing = replace(results, cases=(replace(results.cases[0], parity=FAILS), results.cases[1]))
    assert said(failing) == ""


def test_a_restore_that_nobody_judged_has_no_speed() -> None:
    results = against(3.0)
    assert said(replace(results, cases=(replace(results.cases[0], parity=None), results.cases[1]))) == ""


@pytest.mark.parametrize("rounds", [1, 4])
def test_too_few_rounds_show_nothing(rounds: int) -> None:
    assert said(against(3.0, rounds)) == ""


def test_other_rounds_are_not_compared() -> None:
    results = against(3.0)
    elsewhere = replace(results, cases=(results.cases[0], replace(results.cases[1], group=1)))
    assert "torch eager" not in said(elsewhere)


def test_four_pictures_show_no_quality() -> None:
    results = examples.typical()
    few = tuple(
        replace(row, metrics={name: values[:4] for name, values in row.metrics.items()}) for row in results.quality
    )
    assert "PSNR" in said(results)
    assert "PSNR" not in said(replace(results, quality=few))


def test_qualities_have_the_intervals_that_were_measured() -> None:
    results = examples.typical()
    made = tuple(
        replace(
            row,
            intervals={"psnr": (1.25, 99.5)},
            against_ours={} if row.by == "ours" else {"psnr": (-2.5, -7.25, -1.5)},
        )
        for row in results.quality
    )
    text = said(replace(results, quality=made))
    assert "dB PSNR (1.25 to 99.50) over 24 pictures" in text
    assert "2.50 (1.50 to 7.25) dB more than degraded pictures" in text
    worse = tuple(replace(row, against_ours={"psnr": (2.5, 1.5, 7.25)} if row.against_ours else {}) for row in made)
    assert "2.50 (1.50 to 7.25) dB less than degraded pictures" in said(replace(results, quality=worse))


@pytest.mark.parametrize("name", ["intervals", "against_ours"])
def test_intervals_that_no_measurement_gives_are_left_out_with_their_row(name: str) -> None:
    results = examples.typical()
    odd = replace(results.quality[0], label="odd", **{name: {"psnr": (1.0, 1e300)}})
    subject = subjects([replace(results, quality=(odd, *results.quality[1:]))])[0]
    assert subject.results.quality == results.quality[1:]


def test_every_caveat_is_a_sentence() -> None:
    busy = replace(examples.typical(), machine=replace(examples.XEON, load=1.7))
    warned = replace(busy, plan=replace(busy.plan, warnings=("it rounds",)))
    caveats = subjects([warned])[0].caveats
    assert "The network has random weights: only its times mean something." in caveats
    assert "The build warned: it rounds." in caveats
    assert all(each[0].isupper() and each.endswith(".") for each in caveats)


def test_what_else_there_is_takes_the_place_of_what_is_missing() -> None:
    results = replace(examples.typical(), quality=(), cases=())
    assert "Most pictures in a second at 256x256" in said(results)
    assert "A new process has its first picture after" in said(results)


def test_sizes_are_compared_for_each_pixel() -> None:
    results = replace(examples.typical(), quality=())
    only = tuple(case for case in results.cases if case.by == "ours" and case.work == "restore")
    assert "microseconds at 128x128 and" in said(replace(results, cases=only))


def test_what_was_measured_is_said() -> None:
    text = measured(subjects([examples.typical()])[0])
    for part in (
        "refusion-derain.mrsplan",
        "10 evaluations",
        "2 threads",
        "21 rounds",
        "5 rivals",
        "Kodak",
        "2026-11-30",
    ):
        assert part in text
    assert "without rivals" in measured(subjects([examples.least()])[0])


def test_a_busy_machine_is_a_caveat() -> None:
    busy = replace(examples.typical(), machine=replace(examples.XEON, load=1.7))
    assert "The machine was not idle" in " ".join(subjects([busy])[0].caveats)
    assert "not idle" not in " ".join(subjects([examples.typical()])[0].caveats)


@pytest.mark.parametrize(
    "bad",
    [{"milliseconds": ()}, {"milliseconds": (0.0,)}, {"milliseconds": (-1.0, 2.0)}, {"height": 0}, {"batch": 10**400}],
)
def test_what_no_measurement_gives_is_left_out_and_told(bad: dict[str, object]) -> None:
    results = examples.typical()
    odd: Case = replace(results.cases[0], label="odd", **bad)
    subject = subjects([replace(results, cases=(*results.cases, odd))])[0]
    assert subject.results.cases == results.cases
    assert subject.caveats[-1] == "Left out, because its values cannot be true: 1 case."
