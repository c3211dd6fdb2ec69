"""New processes: how long until the first picture, and how much memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrs.reporting.parts import Cell, Figure, Plot, Section, Table
from mrs.reporting.subjects import Subject, letter_column
from mrs.reporting.text import JsonObject, between, memory, milliseconds, plural


def start(subjects: Sequence[Subject]) -> Section | None:
    """Cold start and memory."""
    shown = [(subject, found) for subject in subjects if (found := subject.results.start) is not None]
    if not shown:
        return None
    groups: list[JsonObject] = []
    rows, said = [], []
    for subject, found in shown:
        parts = {
            "process start to first picture": found.first_result_ms,
            "of it: loading the plan": found.load_ms,
            "of it: the first restore": found.first_restore_ms,
        }
        bars: list[JsonObject] = []
        for name, samples in parts.items():
            middle = float(np.median(samples))
            bars.append(
                {
                    "label": name, "detail": plural(len(samples), "sample"), "value": middle,
                    "q1": min(samples), "q3": max(samples), "dots": [*samples[:60]], "text": milliseconds(middle),
                    "tone": "rival" if bars else "ours",
                }
            )  # fmt: skip
            cells = (
                Cell.of(middle),
                Cell(between(min(samples), max(samples)), min(samples)),
                Cell.count(len(samples)),
            )
            rows.append((*subject.cells, Cell(f"{name}, ms"), *cells))
        peak = found.peak_memory_bytes
        middle = float(np.median(peak))
        span = f"{memory(min(peak))} to {memory(max(peak))}"
        cells = Cell(memory(middle), middle), Cell(span, float(min(peak))), Cell.count(len(peak))
        rows.append((*subject.cells, Cell("peak memory"), *cells))
        groups.append({"title": subject.name if subject.letter else "", "bars": [*bars]})
        said.append(subject.prefix + ", ".join(f"{bar['label']} {bar['text']}" for bar in bars))
    plot = Plot("bars", f"Bars of median times. {'. '.join(said)}.", {"groups": [*groups]})
    table = Table.made(
        "Cold start and memory", (*letter_column(subjects), "what", "median", "least to most", "processes"), tuple(rows)
    )
    words = ("Bars are medians, lines go from the least to the most. Each sample is a process of its own.",)
    figure = Figure("", tuple(subject.command for subject, _ in shown), words, plot, table)
    peaks = [f"{subject.prefix}{memory(float(np.median(found.peak_memory_bytes)))}" for subject, found in shown]
    return Section("start", "Cold start and memory", [figure], (f"Peak memory of a process: {', '.join(peaks)}.",))
