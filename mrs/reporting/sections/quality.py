"""How near restored pictures come to the clean ones: against time, against evaluations, and every metric."""

from __future__ import annotations

from collections.abc import Sequence

from mrs.benchmarking.results import Quality
from mrs.reporting.parts import DASH, Cell, Figure, Section, Table
from mrs.reporting.sections.metrics import mean, names, title, who
from mrs.reporting.sections.pareto import pareto
from mrs.reporting.sections.solvers import solvers
from mrs.reporting.subjects import Subject, letter_column


def quality(subjects: Sequence[Subject]) -> Section | None:
    """Times and evaluations of different machines are not drawn into one plot; the table has all together."""
    shown = [subject for subject in subjects if subject.results.quality]
    if not shown:
        return None
    figures = [figure for subject in shown for make in (pareto, solvers) for figure in make(subject)]
    data = list(dict.fromkeys(subject.results.data for subject in shown))
    if len(data) == 1:
        words = tuple(f"On {each}." for each in data if each)
    else:
        words = tuple(f"{subject.prefix}on {subject.results.data}." for subject in shown if subject.results.data)
    return Section("quality", "Quality", [*figures, _metrics(shown, subjects)], words)


def _metrics(shown: Sequence[Subject], subjects: Sequence[Subject]) -> Figure:
    every = [row for subject in shown for row in subject.results.quality]
    metrics = names(every)
    rows = [
        (
            *subject.cells,
            Cell(who(row)),
            Cell.count(row.evaluations) if row.evaluations else Cell(DASH),
            *(_metric(row, name) for name in metrics),
            Cell.of(row.fid),
            Cell.count(max((len(values) for values in row.metrics.values()), default=0)),
        )
        for subject in shown
        for row in subject.results.quality
    ]
    columns = (*letter_column(subjects), "what", "evaluations", *map(title, metrics), title("fid"), "pictures")
    words = ("Means over the pictures, with their 95 % intervals from three pictures on.",)
    table = Table.made("All metrics", columns, rows)
    return Figure("All metrics", tuple(subject.command for subject in shown), words, table=table, open=True)


def _metric(row: Quality, name: str) -> Cell:
    if name not in row.metrics:
        return Cell.of(None)
    digits = 2 if name.startswith("psnr") else 4
    around = "" if name not in row.intervals else " ({0:.{2}f} to {1:.{2}f})".format(*row.intervals[name], digits)
    return Cell(f"{mean(row, name):.{digits}f}{around}", mean(row, name))
