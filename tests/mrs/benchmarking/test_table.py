"""Results as text: what a person looks for stands there, and nothing that was not measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mrs.benchmarking.comparing import Change, Comparison, Other
from mrs.benchmarking.results import Parity, Results, Span, Start, Throughput
from mrs.benchmarking.table import comparison_lines, lines, outside_share
from tests.mrs.benchmarking.test_results import some


@pytest.fixture
def results() -> Results:
    plain = some()
    whole = replace(plain.cases[0], milliseconds=(100.0, 104.0, 110.0))
    parity = Parity(psnr_db=48.25, reference="float32", bar_db=40.0, passes=True)
    bare = replace(whole, work="network", milliseconds=(90.0, 78.0, 104.5))
    rival = replace(whole, by="eager", label="torch eager", milliseconds=(700.0, 728.0))
    return replace(plain, cases=(replace(whole, parity=parity), bare, rival))


def row(text: list[str], name: str) -> list[str]:
    return next(line for line in text if line.startswith(name)).removeprefix(name).split()


def test_cases_are_rows(results: Results) -> None:
    text = list(lines(results))
    assert row(text, "restore ")[:9] == [
        "64x96", "1", "104.00", "108.80", "109.88", "6", "%", "102.00-107.00", "3",
    ]  # fmt: skip
    # The median of 0.9, 0.75 and 0.95.
    assert outside_share(*results.cases[:2]) == pytest.approx(0.1)
    assert row(text, "restore ")[9:] == ["10.0", "%", "48.2", "dB,", "40.0", "needed"]
    assert row(text, "network ")[2] == "90.00"
    assert row(text, "eager restore")[2] == "714.00"
    # Of the two rounds that it took part in.
    assert row(text, "eager restore")[-1] == "7.00x"
    assert "eager: torch eager" in text
    for absent in ("start ", "workers", "one restore", "note:"):
        assert not any(line.startswith(absent) for line in text)


def test_a_failed_gate_is_seen(results: Results) -> None:
    failed = replace(results.cases[0], parity=Parity(psnr_db=20.0, reference="float32", bar_db=40.0, passes=False))
    assert "20.0 dB, 40.0 needed: FAILS" in "\n".join(lines(replace(results, cases=(failed,))))
    equal = replace(results.cases[0], parity=Parity(psnr_db=None, reference="float32", bar_db=40.0, passes=True))
    assert "equal, 40.0 needed" in "\n".join(lines(replace(results, cases=(equal,))))


def test_a_rival_that_computes_something_else_has_no_time(results: Results) -> None:
    bad = Parity(psnr_db=12.0, reference="float32", bar_db=40.0, passes=False)
    cases = (*results.cases[:2], replace(results.cases[2], parity=bad))
    text = list(lines(replace(results, cases=cases)))
    assert row(text, "eager restore")[2:] == [*8 * ("-",), "12.0", "dB,", "40.0", "needed:", "FAILS"]


def test_the_rest_where_it_was_measured(results: Results) -> None:
    more = replace(
        results,
        plan=replace(results.plan, build_seconds=12.34),
        throughput=(Throughput(workers=2, batch=1, height=64, width=96, pictures_per_second=(9.0, 10.0, 11.0)),),
        start=Start(
            first_result_ms=(800.0, 900.0, 700.0), load_ms=(200.0,), first_restore_ms=(150.0,),
            peak_memory_bytes=(100 << 20, 120 << 20),
        ),
        timeline=(
            Span(name="network", start_ms=0.0, milliseconds=3.0, lane="worker 1", step=0),
            Span(name="network", start_ms=3.0, milliseconds=4.5, lane="worker 1", step=1),
            Span(name="finish", start_ms=7.5, milliseconds=0.25, lane="worker 1"),
        ),
        notes=("left out: something",),
    )  # fmt: skip
    text = list(lines(more))
    assert "built in 12.3 s" in text[1]
    assert row(text, "2 ") == ["10.00", "9.50-10.50", "3"]
    assert (
        "start     first result after 0.80 s (0.70-0.90), of which loading 0.20 s and the first restore 0.15 s; "
        in ("\n".join(text))
    )
    assert "memory    120 MiB" in "\n".join(text)
    assert "one restore in parts, ms: network 7.50 (2), finish 0.25" in text
    assert text[-1] == "note: left out: something"


@pytest.mark.parametrize(
    ("verdict", "says"),
    [("slower", "slower; +10.0 %"), ("equal", "equal: no change by more than 5 %"), ("not told apart", "too noisy")],
)
def test_a_comparison_in_words(results: Results, verdict: str, says: str) -> None:
    change = Change(ratio=1.1, low=1.05, high=1.16, plain=1.08, verdict=verdict)
    found = Comparison(change, None, (Other(results.cases[0], 0.9),), ("commit: a before, b now",))
    text = "\n".join(comparison_lines(found, results))
    assert says in text
    assert "(+5.0 % to +16.0 %) beside the yardstick, +8.0 % without" in text
    assert "restore, this plan, 64x96, batch 1: -10.0 %, of one process, not judged" in text
    assert "network " not in text
    assert text.endswith("note: commit: a before, b now")
