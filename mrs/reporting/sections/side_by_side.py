"""Several results in one table, and which of them may be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrs.reporting.comparing import parity, verified
from mrs.reporting.intervals import of_median
from mrs.reporting.parts import DASH, Cell, Figure, Section, Table
from mrs.reporting.subjects import Subject, hardware
from mrs.reporting.text import between, memory, milliseconds

COLUMNS = (
    "", "median, ms", "90 % interval", "parity", "PSNR, dB", "engine", "evaluations", "pixels", "batch",
    "first picture, ms", "peak memory", "plan", "on",
)  # fmt: skip


def side_by_side(subjects: Sequence[Subject]) -> Section | None:
    """A row for each file of results, where there are several."""
    if len(subjects) < 2:
        return None
    table = Table.made("Side by side", COLUMNS, [_row(subject) for subject in subjects])
    figure = Figure(
        "", tuple(subject.command for subject in subjects), (_comparison(subjects),), table=table, open=True
    )
    return Section("side-by-side", "Side by side", [figure])


def _row(subject: Subject) -> tuple[Cell, ...]:
    results, case = subject.results, subject.main
    plan, start = results.plan, results.start
    interval = None if case is None else of_median(case.milliseconds)
    psnr = subject.restored and subject.restored.metrics.get("psnr")
    peak = None if start is None else float(np.median(start.peak_memory_bytes))
    return (
        *subject.cells,
        Cell.of(None if case is None else float(np.median(case.milliseconds))),
        Cell(DASH) if interval is None else Cell(between(interval.low, interval.high), interval.low),
        Cell(DASH) if case is None else Cell(parity(case), tone="good" if verified(case) else "bad"),
        Cell(DASH) if not psnr else Cell(f"{np.mean(psnr):.2f}", float(np.mean(psnr))),
        Cell(f"{plan.backend} {plan.precision}"),
        Cell.count(plan.evaluations),
        Cell(DASH) if case is None else Cell(f"{case.height}x{case.width}", float(case.height * case.width)),
        Cell(DASH) if case is None else Cell.count(case.batch),
        Cell.of(None if start is None else float(np.median(start.first_result_ms))),
        Cell(DASH) if peak is None else Cell(memory(peak), peak),
        Cell(plan.name),
        Cell(hardware(results)),
    )


def _comparison(subjects: Sequence[Subject]) -> str:
    """Who is fastest, where all did the same work, did it right, and the intervals do not overlap."""
    found = [(subject, case) for subject in subjects if (case := subject.main) is not None and verified(case)]
    works = {(case.height, case.width, case.batch, case.evaluations) for _, case in found}
    if len(found) < len(subjects) or len(works) != 1:
        return "Not all of them did the same work with a result that passed, so that their times are not compared."
    timed = [(interval, subject) for subject, case in found if (interval := of_median(case.milliseconds)) is not None]
    if len(timed) < len(found):
        return "Too few rounds were measured to compare their times."
    (first, fastest), (second, _), *_ = sorted(timed, key=lambda pair: pair[0].middle)
    other_times = "They ran at different times, so that what else a machine did is not ruled out."
    if first.high >= second.low:
        return f"The intervals of the fastest overlap: no difference was found between them. {other_times}"
    return (
        f"{fastest.letter} is the fastest with {milliseconds(first.middle)}; the next takes "
        f"{milliseconds(second.middle)}. {other_times}"
    )
