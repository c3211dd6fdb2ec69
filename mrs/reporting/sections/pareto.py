"""Speed against quality: what nothing beats in both."""

from __future__ import annotations

from collections.abc import Sequence

from mrs.benchmarking.results import Quality
from mrs.reporting.parts import Cell, Figure, Plot, Table
from mrs.reporting.sections.metrics import LESS, OWN, bounds, bounds_cell, mean, names, title, who
from mrs.reporting.subjects import Subject
from mrs.reporting.text import JsonObject, milliseconds, number

WORDS = (
    "Left is faster; the line joins what nothing beats in both time and quality. Vertical lines are 95 % intervals of "
    "the mean over the pictures, drawn again (bootstrap); pictures differ more from each other than methods do, so "
    "that overlapping lines do not mean that two methods are alike."
)
COLUMNS = ("number", "what", "evaluations", "ms for a restore", "95 % interval", "pictures", "")


def pareto(subject: Subject) -> list[Figure]:
    """Every row that has a time, as a number on the plot and a line of its key."""
    timed = [(row, row.milliseconds) for row in subject.results.quality if row.milliseconds is not None]
    rows = [row for row, _ in timed]
    choices: list[JsonObject] = []
    for metric in names(rows):
        points: list[JsonObject] = []
        for index, (row, time) in enumerate(timed, 1):
            if metric not in row.metrics:
                continue
            low, high = bounds(row, metric)
            points.append(
                {
                    "n": index, "x": time, "y": mean(row, metric), "low": low, "high": high,
                    "tone": "ours" if row.by in OWN else "rival", "name": who(row),
                    "text": f"{milliseconds(time)}, {number(mean(row, metric))}", "best": _best(row, rows, metric),
                }
            )  # fmt: skip
        if len(points) > 1:
            choices.append({"title": title(metric), "metric": metric, "points": [*points], "less": metric in LESS})
    if not choices:
        return []
    metric = str(choices[0]["metric"])
    shown = [(index, row) for index, row in enumerate(rows, 1) if metric in row.metrics]
    said = ". ".join(
        f"{index}, {who(row)}: {milliseconds(row.milliseconds or 0)}, {number(mean(row, metric))}"
        for index, row in shown
    )
    plot = Plot("pareto", f"{title(metric)} against the time of a restore. {said}.", {"choices": [*choices]})
    table = Table.made(
        "Speed against quality",
        (*COLUMNS[:4], title(metric), *COLUMNS[4:]),
        [
            (
                Cell.count(index),
                Cell(who(row)),
                Cell.count(row.evaluations),
                Cell.of(row.milliseconds),
                Cell.of(mean(row, metric)),
                bounds_cell(row, metric),
                Cell.count(len(row.metrics[metric])),
                Cell("on the line" if _best(row, rows, metric) else ""),
            )
            for index, row in shown
        ],
    )
    return [Figure(f"{subject.prefix}Speed against quality", (subject.command,), (WORDS,), plot, table)]


def _best(row: Quality, rows: Sequence[Quality], metric: str) -> bool:
    return not any(_beats(other, row, metric) for other in rows)


def _beats(other: Quality, row: Quality, metric: str) -> bool:
    """Whether another is at least as good and as fast, and better in one."""
    if metric not in other.metrics or other.milliseconds is None or row.milliseconds is None:
        return False
    gain = (mean(other, metric) - mean(row, metric)) * (-1 if metric in LESS else 1)
    saved = row.milliseconds - other.milliseconds
    return gain >= 0 and saved >= 0 and (gain > 0 or saved > 0)
