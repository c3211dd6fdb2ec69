"""Results as the page speaks of them: with a letter where there are several, and without what cannot be true."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from mrs.benchmarking.results import OURS, Case, Quality, Results, Span, Start, Throughput
from mrs.reporting.parts import Cell
from mrs.reporting.pictures import fitting
from mrs.reporting.text import plural, sentence

Kept = TypeVar("Kept")
# Beyond which no time, no count and no rate of a benchmark lies.
LARGEST = 1e12
# More than a page can show, or anybody reads.
MOST_SPANS, MOST_ROWS = 2000, 500
# Of all pictures on the page together: what is left of its size for them.
PICTURE_BYTES = 3_500_000
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Subject:
    """One file of results.

    Attributes:
        letter: "" where the page has one alone.
        results: of it, sound.
        caveats: what a reader must know before any figure.
    """

    letter: str
    results: Results
    caveats: tuple[str, ...]

    @property
    def prefix(self) -> str:
        """Before what is said of it."""
        return f"{self.letter}: " if self.letter else ""

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.prefix}{self.results.plan.name} on {hardware(self.results)}"

    @property
    def command(self) -> str:
        """That measures it again, under its letter."""
        return f"{self.prefix}{self.results.command}"

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Its letter before a row of a table, where it has one."""
        return (Cell(self.letter),) if self.letter else ()

    @property
    def ours(self) -> list[Case]:
        """Whole restores of this plan."""
        return [case for case in self.results.cases if case.by == OURS and case.work == "restore"]

    @property
    def main(self) -> Case | None:
        """The restore at the plan's size, in the rounds that it shares with the most others."""
        plan = self.results.plan
        wanted = (plan.height, plan.width, plan.batch)
        shared = Counter(case.group for case in self.results.cases)
        found = [case for case in self.ours if (case.height, case.width, case.batch) == wanted] or self.ours
        return max(found, key=lambda case: shared[case.group], default=None)

    @property
    def restored(self) -> Quality | None:
        """How good the plan's own restores are: its solver, its evaluations."""
        plan = self.results.plan
        ours = [row for row in self.results.quality if row.by == OURS and row.evaluations == plan.evaluations]
        return next((row for row in ours if row.solver == plan.solver), ours[0] if ours else None)

    def beside(self, case: Case) -> list[Case]:
        """What ran in turn with a case, on the same pictures, without it."""
        return [other for other in self.results.cases if other.group == case.group and other is not case]


def letter_column(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """The title over the letters, where there are any."""
    return ("results",) if len(subjects) > 1 else ()


def hardware(results: Results) -> str:
    """What a plan ran on."""
    machine = results.machine
    return machine.gpu or f"{machine.processor}, {plural(machine.threads, 'thread')}"


def subjects(all_results: Sequence[Results]) -> list[Subject]:
    """In the order given."""
    made = []
    for index, results in enumerate(all_results):
        kept, left_out = _sound(results)
        shown, not_shown = fitting(results.pictures, PICTURE_BYTES // len(all_results))
        letter = _letter(index) if len(all_results) > 1 else ""
        made.append(
            Subject(
                letter, replace(kept, pictures=shown),
                tuple(map(sentence, (*results.notes, *_caveats(kept), *left_out, *not_shown))),
            )
        )  # fmt: skip
    return made


def _letter(index: int) -> str:
    return (ALPHABET[index // 26 - 1] if index >= 26 else "") + ALPHABET[index % 26]


def _caveats(results: Results) -> Iterable[str]:
    machine = results.machine
    if machine.load is not None and machine.load > 0.5 * machine.threads:
        yield (
            f"The machine was not idle when the measurement began (load {machine.load:.1f} on "
            f"{plural(machine.threads, 'thread')}): times are longer and spread wider than on an idle one."
        )
    yield from (f"The build warned: {warning}" for warning in results.plan.warnings)
    for case in results.cases:
        if case.parity is not None and not case.parity.passes:
            who = "This plan" if case.by == OURS else case.label
            yield (
                f"{who} at {case.height}x{case.width} does not compute what it should "
                f"({case.parity.reference}): its time is shown and compared with nothing."
            )


def _sound(results: Results) -> tuple[Results, list[str]]:
    """Without what no measurement gives, and what was left out."""
    notes: list[str] = []

    def keep(items: Iterable[Kept], sound: Iterable[bool], what: str, most: int = MOST_ROWS) -> tuple[Kept, ...]:
        judged = list(zip(items, sound, strict=True))
        bad = sum(not good for _, good in judged)
        if bad:
            notes.append(f"Left out, because its values cannot be true: {plural(bad, what)}.")
        kept = tuple(item for item, good in judged if good)
        if len(kept) > most:
            notes.append(f"Shown are the first {most:,} of {plural(len(kept), what)}.")
        return kept[:most]

    start = results.start
    if start is not None and not _sound_start(start):
        notes.append("Left out, because its values cannot be true: the cold start.")
        start = None
    kept = replace(
        results,
        cases=keep(results.cases, map(_sound_case, results.cases), "case"),
        throughput=keep(results.throughput, map(_sound_throughput, results.throughput), "throughput"),
        start=start,
        timeline=keep(results.timeline, map(_sound_span, results.timeline), "span", MOST_SPANS),
        quality=keep(results.quality, map(_sound_quality, results.quality), "solver"),
    )
    return kept, notes


def _positive(*values: float | None) -> bool:
    return all(value is None or 0 < value <= LARGEST for value in values)


def _sound_case(case: Case) -> bool:
    return bool(case.milliseconds) and _positive(
        *case.milliseconds, case.height, case.width, case.batch, case.evaluations
    )


def _sound_throughput(each: Throughput) -> bool:
    return bool(each.pictures_per_second) and _positive(
        *each.pictures_per_second, each.workers, each.batch, each.height, each.width
    )


def _sound_start(start: Start) -> bool:
    all_samples = (start.first_result_ms, start.load_ms, start.first_restore_ms, start.peak_memory_bytes)
    return all(samples and max(samples) < 1e18 and min(samples) >= 0 for samples in all_samples)


def _sound_span(span: Span) -> bool:
    return 0 <= span.start_ms <= LARGEST and 0 <= span.milliseconds <= LARGEST


def _sound_quality(quality: Quality) -> bool:
    return (
        0 <= quality.evaluations <= LARGEST
        and _positive(quality.milliseconds)
        and all(
            values and all(math.isfinite(value) and abs(value) <= LARGEST for value in values)
            for values in (*quality.metrics.values(), *quality.intervals.values(), *quality.against_ours.values())
        )
    )
