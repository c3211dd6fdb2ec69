"""Times of restores and bare networks against the rivals'."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrs.benchmarking.results import OURS, Case
from mrs.reporting.comparing import in_brackets, parity, times_as_long, verified
from mrs.reporting.parts import DASH, Cell, Figure, Plot, Section, Table
from mrs.reporting.subjects import Subject, letter_column
from mrs.reporting.text import JsonObject, between, milliseconds, number
from mrs.runtime.measure import Spread

# Samples below which a percentile would only be the largest sample under another name.
FEWEST = {90: 10, 99: 100}
MOST_DOTS = 60


def latency(subjects: Sequence[Subject]) -> Section | None:
    """Bars for what ran in turn with the restore at the plan's size; percentiles of everything timed."""
    figures = [*_bars(subjects), *_percentiles(subjects)]
    return Section("latency", "Latency", figures) if figures else None


def _bars(subjects: Sequence[Subject]) -> list[Figure]:
    shown = [(subject, case) for subject in subjects if (case := subject.main) is not None]
    if not shown:
        return []
    groups: list[JsonObject] = []
    rows, said = [], []
    for subject, main in shown:
        # The plan first, then everyone by time.
        cases = [main, *sorted(subject.beside(main), key=lambda case: float(np.median(case.milliseconds)))]
        bars: list[JsonObject] = []
        for case in cases:
            ratio = None if case is main or not verified(case) or not verified(main) else times_as_long(case, main)
            bars.append(_bar(case, main, "" if ratio is None else f"{number(ratio.middle)}×"))  # noqa: RUF001 (times)
            spread = Spread.of(case.milliseconds)
            rows.append(
                (
                    *subject.cells,
                    Cell(_name(case)),
                    Cell.count(case.evaluations),
                    Cell.of(spread.median),
                    Cell(between(spread.q1, spread.q3), spread.q1),
                    Cell.count(len(case.milliseconds)),
                    Cell(DASH) if ratio is None else Cell(in_brackets(ratio), ratio.middle),
                    _verdict(case),
                )
            )
        groups.append({"title": subject.name if subject.letter else "", "bars": [*bars]})
        said.append(
            f"{subject.prefix}"
            + ", ".join(f"{_name(case)} {milliseconds(float(np.median(case.milliseconds)))}" for case in cases)
        )
    case = shown[0][1]
    columns = ("who", "evaluations", "median, ms", "quartiles, ms", "rounds", "times as long as the plan", "parity")
    table = Table.made("Times against rivals", (*letter_column(subjects), *columns), tuple(rows))
    alternative = f"Bars of median times. {'. '.join(said)}."
    size = f" of {case.height}x{case.width} pictures, batch {case.batch}" if len(shown) == 1 else ""
    words = (
        "Bars are medians, lines go from the first to the third quartile, dots are the rounds. Times as long are "
        "medians of the ratios round by round, in brackets their interval (at least 90 %). Who does not compute what "
        "it should has a dashed bar and is compared with nothing.",
    )
    commands = tuple(subject.command for subject, _ in shown)
    return [Figure(f"One restore{size}", commands, words, Plot("bars", alternative, {"groups": [*groups]}), table)]


def _bar(case: Case, main: Case, ratio: str) -> JsonObject:
    spread = Spread.of(case.milliseconds)
    tone = "ours" if case is main else "floor" if case.work == "network" else "rival"
    parity_fails = case.parity is not None and not case.parity.passes
    return {
        "label": _name(case),
        "detail": f"{case.backend} {case.precision}, {case.evaluations} evaluations",
        "value": spread.median,
        "q1": spread.q1,
        "q3": spread.q3,
        "dots": [*case.milliseconds[:MOST_DOTS]],
        "text": f"{milliseconds(spread.median)}{f', {ratio}' if ratio else ''}{', parity fails' * parity_fails}",
        "tone": "failed" if parity_fails else tone,
    }


def _name(case: Case) -> str:
    if case.work != "network":
        return case.label
    if case.by == OURS:
        return "bare network, same engine"
    return case.label if "bare" in case.label else f"{case.label}, bare network"


def _percentiles(subjects: Sequence[Subject]) -> list[Figure]:
    rows = []
    for subject in subjects:
        for case in subject.results.cases:
            samples = case.milliseconds
            cut = {share: float(np.percentile(samples, share)) for share in (25, 50, 75, 90, 99)}
            count = len(samples)
            rows.append(
                (
                    *subject.cells,
                    Cell(_name(case)),
                    Cell(f"{case.height}x{case.width}", float(case.height * case.width)),
                    Cell.count(case.batch),
                    Cell.count(count),
                    Cell.of(min(samples)),
                    Cell.of(cut[50]),
                    *(Cell.of(cut[share] if count >= fewest else None) for share, fewest in FEWEST.items()),
                    Cell.of(max(samples)),
                    Cell(f"{100 * (cut[75] - cut[25]) / cut[50]:.1f}\u00a0%", (cut[75] - cut[25]) / cut[50]),
                    Cell.of(case.setup_seconds),
                    _verdict(case),
                )
            )
    if not rows:
        return []
    columns = (
        "what", "pixels", "batch", "rounds", "least", "p50", "p90", "p99", "most", "jitter", "setup, s", "parity",
    )  # fmt: skip
    table = Table.made("Percentiles in milliseconds", (*letter_column(subjects), *columns), tuple(rows))
    words = (
        "Milliseconds. A percentile of too few rounds is only the longest of them, so that p90 is told from "
        f"{FEWEST[90]} rounds on and p99 from {FEWEST[99]}. Jitter is the distance of the quartiles in parts "
        "of the median.",
    )
    return [Figure("Percentiles", tuple(subject.command for subject in subjects), words, table=table, open=True)]


def _verdict(case: Case) -> Cell:
    tone = "" if case.parity is None else "good" if case.parity.passes else "bad"
    return Cell(parity(case), tone=tone)
