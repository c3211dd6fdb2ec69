"""How the cost grows: with pixels, with pictures at once, with workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mrs.benchmarking.results import Case, Throughput
from mrs.reporting.comparing import verified
from mrs.reporting.parts import Cell, Figure, Plot, Section, Table
from mrs.reporting.subjects import Subject, letter_column
from mrs.reporting.text import JsonObject, between, milliseconds, number, plural
from mrs.runtime.measure import Spread


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


class _Line(NamedTuple):
    """What a figure has of one subject.

    Attributes:
        series: of the plot.
        rows: of the table, without the subject's letter.
        said: the plot in words.
    """

    series: JsonObject
    rows: list[tuple[Cell, ...]]
    said: str


def _figure(
    subjects: Sequence[Subject],
    lines: Sequence[tuple[Subject, _Line]],
    titles: tuple[str, str, str],
    axes: JsonObject,
    columns: tuple[str, ...],
    words: tuple[str, ...] = (),
) -> list[Figure]:
    """Lines over something that grows, and their table.

    Args:
        subjects: all on the page.
        lines: of those that have any.
        titles: of the figure, of its table, and what the plot shows in words.
        axes: the plot's data without its series.
        columns: of the table, without that of letters.
        words: above the plot.

    Returns:
        None or one.
    """
    if not lines:
        return []
    title, caption, shows = titles
    said = ". ".join(line.said for _, line in lines)
    plot = Plot("lines", f"{shows}. {said}.", {"series": [line.series for _, line in lines], **axes})
    rows = [(*subject.cells, *row) for subject, line in lines for row in line.rows]
    table = Table.made(caption, (*letter_column(subjects), *columns), rows)
    commands = tuple(dict.fromkeys(subject.command for subject, _ in lines))
    return [Figure(title, commands, words, plot, table)]


def _pixels(subjects: Sequence[Subject]) -> list[Figure]:
    lines = [(subject, _pixel_line(subject, cases)) for subject in subjects if len(cases := by_pixels(subject)) > 1]
    axes: JsonObject = {"x": "pixels", "y": "milliseconds", "log_x": True, "log_y": True, "reference": "linear"}
    columns = ("size", "median, ms", "quartiles, ms", "µs for a pixel", "off linear", "rounds")
    titles = ("Cost against pixels", "Cost against pixels", "Median time against pixels, both axes logarithmic")
    words = ("Both axes are logarithmic. The dashed line is linear cost through the plan's own size.",)
    return _figure(subjects, lines, titles, axes, columns, words)


def _pixel_line(subject: Subject, cases: Sequence[Case]) -> _Line:
    plan = subject.results.plan
    # The line on which everything would lie if a pixel cost the same at every size, through the plan's own.
    origin = next((case for case in cases if _count(case) == plan.height * plan.width), cases[0])
    pixel = float(np.median(origin.milliseconds)) / _count(origin)
    points: list[JsonObject] = []
    rows: list[tuple[Cell, ...]] = []
    for case in cases:
        spread, count, name = Spread.of(case.milliseconds), _count(case), f"{case.height}x{case.width}"
        points.append({**_point(count, spread, milliseconds(spread.median)), "name": name})
        off = 100 * (spread.median / (pixel * count) - 1)
        rows.append(
            (
                Cell(name, float(count)),
                Cell.of(spread.median),
                Cell(between(spread.q1, spread.q3), spread.q1),
                Cell.of(1e3 * spread.median / (count * case.batch)),
                Cell(f"{off:+.1f} %", off),
                Cell.count(len(case.milliseconds)),
            )
        )
    line: list[JsonObject] = [{"x": end, "y": pixel * end} for end in (_count(cases[0]), _count(cases[-1]))]
    series: JsonObject = {"name": subject.letter or "restore", "points": [*points], "reference": [*line]}
    return _Line(series, rows, subject.prefix + ", ".join(f"{point['name']} {point['text']}" for point in points))


def _count(case: Case) -> int:
    return case.height * case.width


def _batches(subjects: Sequence[Subject]) -> list[Figure]:
    lines = [(subject, _batch_line(subject, cases)) for subject in subjects if len(cases := _by_batch(subject)) > 1]
    axes: JsonObject = {"x": "pictures at once", "y": "ms for a picture", "from_0": True}
    columns = ("batch", "ms for a picture", "quartiles, ms", "ms for the batch", "rounds")
    titles = ("Batches", "Cost against batch", "Median time for a picture against the batch")
    return _figure(subjects, lines, titles, axes, columns)


def _batch_line(subject: Subject, cases: Sequence[Case]) -> _Line:
    points: list[JsonObject] = []
    rows: list[tuple[Cell, ...]] = []
    for case in cases:
        spread = Spread.of([sample / case.batch for sample in case.milliseconds])
        points.append(_point(case.batch, spread, milliseconds(spread.median)))
        rows.append(
            (
                Cell.count(case.batch),
                Cell.of(spread.median),
                Cell(between(spread.q1, spread.q3), spread.q1),
                Cell.of(spread.median * case.batch),
                Cell.count(len(case.milliseconds)),
            )
        )
    said = subject.prefix + ", ".join(f"{point['x']} at once {point['text']}" for point in points)
    return _Line({"name": subject.letter or "restore", "points": [*points]}, rows, said)


def _by_size(subject: Subject) -> list[list[Throughput]]:
    """Throughputs of one batch and size together, the fewest workers first."""
    found: dict[tuple[int, int, int], list[Throughput]] = {}
    for each in subject.results.throughput:
        found.setdefault((each.batch, each.height, each.width), []).append(each)
    return [sorted(group, key=lambda each: each.workers) for group in found.values()]


def _workers(subjects: Sequence[Subject]) -> list[Figure]:
    lines = [(subject, _worker_line(subject, found)) for subject in subjects for found in _by_size(subject)]
    axes: JsonObject = {"x": "workers", "y": "pictures a second", "from_0": True}
    columns = ("size", "batch", "workers", "pictures a second", "quartiles", "times the fewest", "rounds")
    titles = ("Throughput", "Throughput", "Median pictures a second against workers")
    words = ("Workers share the threads among them: twice as many are not twice as fast.",)
    return _figure(subjects, lines, titles, axes, columns, words)


def _worker_line(subject: Subject, found: Sequence[Throughput]) -> _Line:
    points: list[JsonObject] = []
    rows: list[tuple[Cell, ...]] = []
    first = float(np.median(found[0].pictures_per_second))
    for each in found:
        spread = Spread.of(each.pictures_per_second)
        points.append(_point(each.workers, spread, f"{number(spread.median)} a second"))
        rows.append(
            (
                Cell(f"{each.height}x{each.width}", float(each.height * each.width)),
                Cell.count(each.batch),
                Cell.count(each.workers),
                Cell.of(spread.median),
                Cell(between(spread.q1, spread.q3), spread.q1),
                Cell.of(spread.median / first),
                Cell.count(len(each.pictures_per_second)),
            )
        )
    name = f"{subject.prefix}{found[0].height}x{found[0].width}, batch {found[0].batch}"
    at = ", ".join(
        f"{plural(each.workers, 'worker')} {point['text']}" for each, point in zip(found, points, strict=True)
    )
    return _Line({"name": name, "points": [*points]}, rows, f"{name}: {at}")


def _point(x: int, spread: Spread, text: str) -> JsonObject:
    return {"x": x, "y": spread.median, "low": spread.q1, "high": spread.q3, "name": str(x), "text": text}
