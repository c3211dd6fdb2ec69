"""The summary: what was measured, and what the data show, in words. What they do not show is not said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mrs.benchmarking.results import OURS, Case, Quality
from mrs.reporting.comparing import in_brackets, times_as_long, verified
from mrs.reporting.intervals import of_median
from mrs.reporting.sections.metrics import mean
from mrs.reporting.sections.scaling import by_pixels
from mrs.reporting.subjects import Subject, hardware
from mrs.reporting.text import listed, milliseconds, plural

MOST = 3
# Rivals named in one sentence, the nearest first; all stand in the table.
NAMED = 4
# Pictures from which on something is claimed of quality: intervals of fewer are shown, but miss the truth too often.
FEWEST_PICTURES = 5


class Finding(NamedTuple):
    """What the data show: the figure, and what it is beside others."""

    lead: str
    rest: str = ""


def measured(subject: Subject) -> str:
    """What was measured, on what and when."""
    results, plan, case = subject.results, subject.results.plan, subject.main
    system = f"{results.machine.system}, {results.date[:10]}"
    text = (
        f"{plan.name}, {plan.network}, {plan.solver}, {plural(plan.evaluations, 'evaluation')} in each restore, "
        f"by {plan.backend} in {plan.precision}, on {hardware(results)} ({system})."
    )
    if case is not None:
        others = {other.label for other in subject.beside(case) if other.by != OURS}
        text += (
            f" Restores of {case.height}x{case.width} pictures, batch {case.batch}, from memory to memory: "
            f"{plural(len(case.milliseconds), 'round')}"
            + (f", in turn with {plural(len(others), 'rival')}." if others else ", without rivals.")
        )
    return text + (f" Quality on {results.data}." if results.quality and results.data else "")


def findings(subject: Subject) -> list[Finding]:
    """At most MOST of them, the most telling first."""
    makers: Sequence[Callable[[Subject], Finding | None]] = (_speed, _quality, _floor, _pixels, _workers, _start)
    found = (make(subject) for make in makers)
    return [finding for finding in found if finding is not None][:MOST]


def _speed(subject: Subject) -> Finding | None:
    case = subject.main
    if case is None or not verified(case):
        return None
    median = of_median(case.milliseconds)
    if median is None:
        return None
    lead = f"A restore takes {milliseconds(median.middle)} ({milliseconds(median.low)} to {milliseconds(median.high)})."
    rivals = [other for other in subject.beside(case) if other.work == "restore" and other.by != OURS]
    compared = [
        (ratio, other) for other in rivals if verified(other) and (ratio := times_as_long(other, case)) is not None
    ]
    nearest = sorted(compared, key=lambda pair: pair[0].middle)[:NAMED]
    said = [f"{_who(other)} takes {in_brackets(ratio)} times as long" for ratio, other in nearest if ratio.low > 1]
    said += [
        f"{_who(other)} is faster and takes {in_brackets(ratio)} of its time"
        for ratio, other in nearest
        if ratio.high < 1
    ]
    alike = [_who(other) for ratio, other in nearest if ratio.low <= 1 <= ratio.high]
    if alike:
        said.append(f"no difference was found from {listed(alike)}")
    if not said:
        return Finding(lead)
    more = f" ({plural(len(compared) - len(nearest), 'rival')} more in the table)" * (len(compared) > len(nearest))
    return Finding(lead, f"In the same rounds, {'; '.join(said)}{more}.")


def _who(case: Case) -> str:
    return f"{case.label} with {plural(case.evaluations, 'evaluation')}"


def _quality(subject: Subject) -> Finding | None:
    """PSNR against the pictures as they were given and against the published sampler, picture by picture."""
    ours = subject.restored
    if ours is None or "psnr" not in ours.intervals or (count := len(ours.metrics.get("psnr", ()))) < FEWEST_PICTURES:
        return None
    low, high = ours.intervals["psnr"]
    over = plural(count, "picture")
    lead = f"Restored pictures reach {mean(ours, 'psnr'):.2f} dB PSNR ({low:.2f} to {high:.2f}) over {over}."
    said = list(_differences(row for row in subject.results.quality if row.by in ("degraded", "published")))
    return Finding(lead, f"Picture by picture that is {'; '.join(said)}." if said else "")


def _differences(others: Iterable[Quality]) -> Iterator[str]:
    for other in others:
        if "psnr" not in other.against_ours:
            continue
        # What is measured is how much better the other is.
        loss, *ends = other.against_ours["psnr"]
        low, high = sorted(-end for end in ends)
        who = other.label if other.by == "degraded" else _solved(other)
        if low <= 0 <= high:
            yield f"not found to differ from {who} ({low:.2f} to {high:.2f} dB)"
        else:
            more = "more" if loss < 0 else "less"
            least, most = sorted((abs(low), abs(high)))
            yield f"{abs(loss):.2f} ({least:.2f} to {most:.2f}) dB {more} than {who}"


def _solved(row: Quality) -> str:
    """With its solver: a rival is measured with several."""
    who = row.label if row.solver in row.label else f"{row.label} {row.solver}"
    return f"{who} with {plural(row.evaluations, 'evaluation')}"


def _floor(subject: Subject) -> Finding | None:
    """What everything around the network costs."""
    case = subject.main
    if case is None or not verified(case):
        return None
    found = [
        (ratio, other)
        for other in subject.beside(case)
        if other.work == "network"
        and other.evaluations == case.evaluations
        and (ratio := times_as_long(case, other)) is not None
    ]
    if not found:
        return None
    said = [
        f"{in_brackets(ratio)} times as long as {'the same engine' if other.by == OURS else other.label}"
        for ratio, other in found
    ]
    return Finding(
        f"A whole restore takes {listed(said)}.",
        f"That is against {plural(case.evaluations, 'bare evaluation')} in turn.",
    )


def _pixels(subject: Subject) -> Finding | None:
    points = by_pixels(subject)
    found = [
        (case, interval)
        for case in points
        if (interval := of_median([1e3 * each / (case.height * case.width * case.batch) for each in case.milliseconds]))
    ]
    if len(found) < 2:
        return None
    (first, one), (last, other) = found[0], found[-1]
    return Finding(
        f"A pixel takes {in_brackets(one)} microseconds at {first.height}x{first.width} and {in_brackets(other)} at "
        f"{last.height}x{last.width}."
    )


def _workers(subject: Subject) -> Finding | None:
    rows = subject.results.throughput
    # Of one size and batch alone, or two differences would be mixed.
    same = [row for row in rows if (row.batch, row.height, row.width) == (rows[0].batch, rows[0].height, rows[0].width)]
    if len(same) < 2:
        return None
    best = max(same, key=lambda row: float(np.median(row.pictures_per_second)))
    interval = of_median(best.pictures_per_second)
    if interval is None:
        return None
    return Finding(
        f"Most pictures in a second at {best.height}x{best.width}: {in_brackets(interval)} with "
        f"{plural(best.workers, 'worker')}."
    )


def _start(subject: Subject) -> Finding | None:
    start = subject.results.start
    interval = None if start is None else of_median(start.first_result_ms)
    if interval is None:
        return None
    return Finding(
        f"A new process has its first picture after {milliseconds(interval.middle)} "
        f"({milliseconds(interval.low)} to {milliseconds(interval.high)})."
    )
