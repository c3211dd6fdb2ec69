"""One restore looked into: its parts in time, its states, its pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import groupby

from mrs.benchmarking.results import Picture, Span
from mrs.reporting.parts import DASH, Cell, Figure, Plot, Section, Shown, Table
from mrs.reporting.subjects import Subject, letter_column
from mrs.reporting.text import JsonObject, milliseconds

ROLES = ("degraded", "restored", "clean")


def timeline(subjects: Sequence[Subject]) -> Section | None:
    """Spans on the lanes that did them, and what they sum up to."""
    figures = [_timeline(subject, subjects) for subject in subjects if subject.results.timeline]
    words = ("One restore, of those measured one of about the median time.",)
    return Section("timeline", "Timeline of one restore", figures, words) if figures else None


def _timeline(subject: Subject, subjects: Sequence[Subject]) -> Figure:
    spans = subject.results.timeline
    end = max(span.start_ms + span.milliseconds for span in spans)
    names = list(dict.fromkeys(span.name for span in spans))
    sums = {name: [span.milliseconds for span in spans if span.name == name] for name in names}
    rows = tuple(
        (
            Cell(name),
            Cell.count(len(times)),
            Cell.of(sum(times)),
            Cell.of(sum(times) / len(times)),
            Cell(f"{100 * sum(times) / end:.2f} %" if end else DASH, sum(times)),
        )
        for name, times in sums.items()
    )
    data: JsonObject = {
        "names": [*names],
        "spans": [
            {
                "name": span.name, "lane": span.lane, "start": span.start_ms, "end": span.start_ms + span.milliseconds,
                "text": f"{_span(span)}: {milliseconds(span.milliseconds)}",
            }
            for span in spans
        ],
    }  # fmt: skip
    said = ", ".join(f"{name} {milliseconds(sum(times))}" for name, times in sums.items())
    plot = Plot("timeline", f"Spans of one restore of {milliseconds(end)}. In sum: {said}.", data)
    table = Table.made("Parts of one restore", ("part", "times", "in sum, ms", "each, ms", "of the restore"), rows)
    lanes = len({span.lane for span in spans})
    words = (
        ("Parts on different lanes run at the same time, so that shares may sum up to more than all.",)
        if lanes > 1
        else ()
    )
    return Figure(subject.name if letter_column(subjects) else "", (subject.command,), words, plot, table)


def _span(span: Span) -> str:
    return span.name if span.step is None else f"{span.name}, step {span.step}"


def trajectory(subjects: Sequence[Subject]) -> Section | None:
    """The solver's states as a strip."""
    figures = []
    for subject in subjects:
        states = sorted(
            (picture for picture in subject.results.pictures if picture.role == "state"),
            key=lambda picture: (picture.name, -1 if picture.step is None else picture.step),
        )
        for name, of_name in groupby(states, key=lambda picture: picture.name):
            strip = tuple(_shown(picture, _after(picture)) for picture in of_name)
            figures.append(Figure(f"{subject.prefix}{name}", (subject.command,), strip=strip))
    words = ("The solver's state after so many evaluations of the network, from the degraded picture with noise on.",)
    return Section("trajectory", "From noise to picture", figures, words) if figures else None


def _after(picture: Picture) -> str:
    return "state" if picture.step is None else f"after {picture.step}" if picture.step else "start"


def pictures(subjects: Sequence[Subject]) -> Section | None:
    """Before and after, of each file that there are both of."""
    figures = []
    for subject in subjects:
        of_roles = [picture for picture in subject.results.pictures if picture.role in ROLES]
        for name in dict.fromkeys(picture.name for picture in of_roles):
            found = {picture.role: picture for picture in of_roles if picture.name == name}
            compared = tuple(_shown(found[role], role) for role in ROLES if role in found)
            if len(compared) > 1:
                figures.append(Figure(f"{subject.prefix}{name}", (subject.command,), compared=compared))
    return Section("pictures", "Before and after", figures) if figures else None


def _shown(picture: Picture, caption: str) -> Shown:
    source = f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}"
    return Shown(caption, picture.role, source, picture.height, picture.width)
