"""How the cost grows: with pixels, with pictures at once, with workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from mrs.benchmarking.results import Case, Throughput
from mrs.reporting.comparing import verified
from mrs.reporting.parts import Cell, Figure, Plot, Section, Table
from mrs.reporting.subjects import Subject, letter_column
from mrs.reporting.text import JsonObject, between, milliseconds, number, plural
from mrs.runtime.measure import Spread

Key = TypeVar("Key")


def scaling(subjects: Sequence[Subject]) -> Section | None:
    """Whatever was measured in more than one size."""
    figures = [figure for make in (_pixels, _batches, _workers) for figure in make(subjects)]
    return Section("scaling", "Scaling", figures) if figures else None


def by_pixels(subject: Subject) -> list[Case]:
    """Restores of different sizes at the plan's batch, one for each size, the smallest first."""
    batch = subject.results.plan.batch
    found = {case.height * case.width: case for case in subject.ours if case.batch == batch and verified(case)}
    return [found[size] for size in sorted(found)]


def _by_batch(subject: Subject) -> list[Case]:
    """Restores of different batches at the plan's size, one for each batch, the smallest first."""
    plan = subject.results.plan
    size = (plan.height, plan.width)
    found = {case.batch: case for case in subject.ours if (case.height, case.width) == size and verified(case)}
    return [found[batch] for batch in sorted(found)]


def _several(subjects: Sequence[Subject], of: Callable[[Subject], list[Key]]) -> list[tuple[Subject, list[Key]]]:
    return [(subject, found) for subject in subjects if len(found := of(subject)) > 1]


def _pixels(subjects: Sequence[Subject]) -> list[Figure]:
    shown = _several(subjects, by_pixels)
    if not shown:
        return []
    series: list[JsonObject] = []
    rows, said = [], []
    for subject, cases in shown:
        points: list[JsonObject] = []
        plan = subject.results.plan
        # The line on which everything would lie if a pixel cost the same at every size, through the plan's own.
        origin = next((case for case in cases if case.height * case.width == plan.height * plan.width), cases[0])
        pixel = float(np.median(origin.milliseconds)) / (origin.height * origin.width)
        for case in cases:
            spread, count = Spread.of(case.milliseconds), case.height * case.width
            points.append(
                {
                    "x": count, "y": spread.median, "low": spread.q1, "high": spread.q3,
                    "name": f"{case.height}x{case.width}", "text": milliseconds(spread.median),
                }
            )  # fmt: skip
            off = 100 * (spread.median / (pixel * count) - 1)
            rows.append(
                (
                    *subject.cells,
                    Cell(f"{case.height}x{case.width}", float(count)),
                    Cell.of(spread.median),
                    Cell(between(spread.q1, spread.q3), spread.q1),
                    Cell.of(1e3 * spread.median / (count * case.batch)),
                    Cell(f"{off:+.1f} %", off),
                    Cell.count(len(case.milliseconds)),
                )
            )
        ends = [cases[0].height * cases[0].width, cases[-1].height * cases[-1].width]
        line: list[JsonObject] = [{"x": end, "y": pixel * end} for end in ends]
        series.append({"name": subject.letter or "restore", "points": [*points], "reference": [*line]})
        said.append(subject.prefix + ", ".join(f"{point['name']} {point['text']}" for point in points))
    columns = ("size", "median, ms", "quartiles, ms", "µs for a pixel", "off linear", "rounds")
    data: JsonObject = {
        "series": [*series], "x": "pixels", "y": "milliseconds", "log_x": True, "log_y": True, "reference": "linear",
    }  # fmt: skip
    plot = Plot("lines", f"Median time against pixels, both axes logarithmic. {'. '.join(said)}.", data)
    words = ("Both axes are logarithmic. The dashed line is linear cost through the plan's own size.",)
    table = Table.made("Cost against pixels", (*letter_column(subjects), *columns), tuple(rows))
    return [Figure("Cost against pixels", _commands(shown), words, plot, table)]


def _batches(subjects: Sequence[Subject]) -> list[Figure]:
    shown = _several(subjects, _by_batch)
    if not shown:
        return []
    series: list[JsonObject] = []
    rows, said = [], []
    for subject, cases in shown:
        points: list[JsonObject] = []
        for case in cases:
            spread = Spread.of([sample / case.batch for sample in case.milliseconds])
            points.append(_point(case.batch, spread, milliseconds(spread.median)))
            rows.append(
                (
                    *subject.cells,
                    Cell.count(case.batch),
                    Cell.of(spread.median),
                    Cell(between(spread.q1, spread.q3), spread.q1),
                    Cell.of(spread.median * case.batch),
                    Cell.count(len(case.milliseconds)),
                )
            )
        series.append({"name": subject.letter or "restore", "points": [*points]})
        said.append(subject.prefix + ", ".join(f"{point['x']} at once {point['text']}" for point in points))
    data: JsonObject = {"series": [*series], "x": "pictures at once", "y": "ms for a picture", "from_0": True}
    plot = Plot("lines", f"Median time for a picture against the batch. {'. '.join(said)}.", data)
    columns = ("batch", "ms for a picture", "quartiles, ms", "ms for the batch", "rounds")
    table = Table.made("Cost against batch", (*letter_column(subjects), *columns), tuple(rows))
    return [Figure("Batches", _commands(shown), (), plot, table)]


def _by_size(subject: Subject) -> list[tuple[tuple[int, int, int], list[Throughput]]]:
    """Throughputs of one batch and size together, the fewest workers first."""
    keys = dict.fromkeys((each.batch, each.height, each.width) for each in subject.results.throughput)
    return [
        (
            key,
            sorted(
                (each for each in subject.results.throughput if (each.batch, each.height, each.width) == key),
                key=lambda each: each.workers,
            ),
        )
        for key in keys
    ]


def _workers(subjects: Sequence[Subject]) -> list[Figure]:
    series: list[JsonObject] = []
    rows, said, commands = [], [], []
    for subject in subjects:
        for (batch, height, width), found in _by_size(subject):
            name = f"{subject.prefix}{height}x{width}, batch {batch}"
            points: list[JsonObject] = []
            first = float(np.median(found[0].pictures_per_second))
            for each in found:
                spread = Spread.of(each.pictures_per_second)
                points.append(_point(each.workers, spread, f"{number(spread.median)} a second"))
                rows.append(
                    (
                        *subject.cells,
                        Cell(f"{height}x{width}", float(height * width)),
                        Cell.count(batch),
                        Cell.count(each.workers),
                        Cell.of(spread.median),
                        Cell(between(spread.q1, spread.q3), spread.q1),
                        Cell.of(spread.median / first),
                        Cell.count(len(each.pictures_per_second)),
                    )
                )
            series.append({"name": name, "points": [*points]})
            at = ", ".join(
                f"{plural(each.workers, 'worker')} {point['text']}" for each, point in zip(found, points, strict=True)
            )
            said.append(f"{name}: {at}")
        if subject.results.throughput:
            commands.append(subject.command)
    if not series:
        return []
    data: JsonObject = {"series": [*series], "x": "workers", "y": "pictures a second", "from_0": True}
    plot = Plot("lines", f"Median pictures a second against workers. {'. '.join(said)}.", data)
    columns = ("size", "batch", "workers", "pictures a second", "quartiles", "times the fewest", "rounds")
    table = Table.made("Throughput", (*letter_column(subjects), *columns), tuple(rows))
    words = ("Workers share the threads among them: twice as many are not twice as fast.",)
    return [Figure("Throughput", tuple(commands), words, plot, table)]


def _point(x: int, spread: Spread, text: str) -> JsonObject:
    return {"x": x, "y": spread.median, "low": spread.q1, "high": spread.q3, "name": str(x), "text": text}


def _commands(shown: Sequence[tuple[Subject, object]]) -> tuple[str, ...]:
    return tuple(subject.command for subject, _ in shown)
