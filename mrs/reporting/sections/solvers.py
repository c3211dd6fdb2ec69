"""Solvers by evaluations of the network."""

from __future__ import annotations

from mrs.benchmarking.results import Quality
from mrs.reporting.parts import Cell, Figure, Plot, Table
from mrs.reporting.sections.metrics import OWN, bounds, bounds_cell, mean, names, title
from mrs.reporting.subjects import Subject
from mrs.reporting.text import JsonObject, number


def solvers(subject: Subject) -> list[Figure]:
    """A line for each solver that was measured at two numbers of evaluations or more, others as points."""
    rows = sorted((row for row in subject.results.quality if row.evaluations), key=lambda row: row.evaluations)
    if len({row.evaluations for row in rows}) < 2:
        return []
    choices: list[JsonObject] = []
    said: list[str] = []
    for metric in names(rows):
        series: dict[str, list[JsonObject]] = {}
        for row in rows:
            if metric not in row.metrics:
                continue
            low, high = bounds(row, metric)
            series.setdefault(_solver(row), []).append(
                {
                    "x": row.evaluations, "y": mean(row, metric), "low": low, "high": high,
                    "name": str(row.evaluations), "text": f"{row.evaluations} evaluations {number(mean(row, metric))}",
                }
            )  # fmt: skip
        lines: list[JsonObject] = [{"name": name, "points": [*points]} for name, points in series.items()]
        choices.append(
            {"title": title(metric), "x": "evaluations", "y": title(metric), "log_x": True, "series": [*lines]}
        )
        said = said or [f"{name}: {', '.join(str(each['text']) for each in points)}" for name, points in series.items()]
    if not choices:
        return []
    metric = names(rows)[0]
    plot = Plot("lines", f"{title(metric)} against evaluations. {'. '.join(said)}.", {"choices": [*choices]})
    table = Table.made(
        "Solvers by evaluations",
        ("solver", "evaluations", title(metric), "95 % interval"),
        [
            (Cell(_solver(row)), Cell.count(row.evaluations), Cell.of(mean(row, metric)), bounds_cell(row, metric))
            for row in rows
            if metric in row.metrics
        ],
    )
    words = ("Means over the pictures with 95 % intervals.",)
    return [Figure(f"{subject.prefix}Solvers by evaluations", (subject.command,), words, plot, table)]


def _solver(row: Quality) -> str:
    """Ours by its name alone."""
    return ", ".join(filter(None, (row.solver, "" if row.by in OWN and row.solver else row.label)))
