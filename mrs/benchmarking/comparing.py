"""Whether a plan has become slower: two files of results, with what only the machine has done left out.

Samples of one process are much alike: a process keeps its memory where it got it, and a machine that others use is
slower for minutes. So rounds are no independent samples, and a rank test over them finds a difference between any two
runs. What is compared is a number for each process: the median of its restores over the median of a fixed work of the
same rounds (`yardstick.py`). The means of the logarithms of these are compared by Welch's t-test, which takes nothing
for known of how processes spread. And a change counts only where the times themselves changed alike, and by more than
`RELEVANT`: a yardstick may be disturbed, too. Other programs that take the processors slow down a network more than
they slow down the yardstick: where threads waited longer for processors in one of the runs, as much of a change as
that explains does not count either.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mrs.benchmarking.results import Case, Machine, PlanFacts, Repeat, Results
from mrs.runtime.errors import InputError

# The least change that counts, as a share.
RELEVANT = 0.05
# A slowdown by this much should be found.
WANTED = 0.10
# A share of time that threads waited for processors, from which on it is told; and the most that is taken for true.
NOTICED, MOST_WAITED = 0.02, 0.99
# Processes of each file at least: two have no spread to speak of.
FEWEST = 3
# Two-sided 95 % quantiles of Student's distribution for 1, 2, ... degrees of freedom; see `_quantile`.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
SLOWER, FASTER, EQUAL, UNCLEAR = "slower", "faster", "equal", "not told apart"


@dataclass(frozen=True)
class Change:
    """How a time changed from the old to the new.

    Attributes:
        ratio: new over old, of times that are corrected by the yardstick.
        low, high: within which it lies with a confidence of 95 %.
        plain: the same of the times as they are.
        verdict: "slower", "faster", "equal", or "not told apart" where the interval is so wide that a change by
            `WANTED` could hide in it.
    """

    ratio: float
    low: float
    high: float
    plain: float
    verdict: str


@dataclass(frozen=True)
class Other:
    """A case that one process alone timed, so that there is no verdict on it.

    Attributes:
        new: the case; the old one is the same work.
        ratio: of the medians, new over old.
    """

    new: Case
    ratio: float


@dataclass(frozen=True)
class Comparison:
    """Two files.

    Attributes:
        restore: of the plan's own case.
        network: of its evaluations alone; None where they were not timed.
        others: cases that both files have, by one process each.
        notes: what else differs.
    """

    restore: Change
    network: Change | None
    others: tuple[Other, ...]
    notes: tuple[str, ...]


def compare(old: Results, new: Results) -> Comparison:
    """Two files that `check_comparable` and `check_processes` let through."""
    bare = all(repeat.network_ms for repeat in (*old.repeats, *new.repeats))
    waits = _stretch(new) - _stretch(old)
    return Comparison(
        restore=change(
            [_times(each, each.restore_ms) for each in old.repeats],
            [_times(each, each.restore_ms) for each in new.repeats], waits,
        ),
        network=change(
            [_times(each, each.network_ms) for each in old.repeats],
            [_times(each, each.network_ms) for each in new.repeats], waits,
        ) if bare else None,
        others=_others(old, new),
        notes=(*_waits(old, new), *_differences(old, new)),
    )  # fmt: skip


def check_comparable(old: Results, machine: Machine, plan: PlanFacts, path: Path) -> None:
    """Refuse what no comparison of times makes sense of; plans, versions and engines may differ.

    Args:
        old: what was measured before.
        machine, plan: of what is to be measured now.
        path: of the old file.

    Raises:
        InputError: naming what differs.
    """
    hint = "compare what one machine measured, with the same size, batch and threads"
    for what, before, now in (
        ("processor", old.machine.processor, machine.processor),
        ("GPU", old.machine.gpu or "none", machine.gpu or "none"),
        ("number of threads", old.machine.threads, machine.threads),
        ("size", f"{old.plan.height}x{old.plan.width}", f"{plan.height}x{plan.width}"),
        ("batch", old.plan.batch, plan.batch),
    ):
        if before != now:
            raise InputError(f"{path} is of another {what}: {before}, here {now}", hint=hint)


def check_processes(old: Results, processes: int, path: Path) -> None:
    """Refuse what has too few processes to tell how much they differ.

    Args:
        old: what was measured before, with a yardstick or without, as its device has it.
        processes: that will be measured now.
        path: of the old file.

    Raises:
        InputError: if so.
    """
    for whose, number in ((str(path), len(old.repeats)), ("this run", processes)):
        if number < FEWEST:
            raise InputError(
                f"{whose} has {number} processes of its own, and a comparison needs {FEWEST} at least",
                hint=f"measure with --processes {FEWEST} or more",
            )


def change(old: Sequence[tuple[float, float]], new: Sequence[tuple[float, float]], waits: float = 0.0) -> Change:
    """Of one work.

    Args:
        old, new: for each process the logarithms of its time and of its time over the yardstick's.
        waits: the logarithm of how much longer the new times may be by waiting for processors alone.
    """
    plain = statistics.fmean(each[0] for each in new) - statistics.fmean(each[0] for each in old)
    before, after = [each[1] for each in old], [each[1] for each in new]
    difference = statistics.fmean(after) - statistics.fmean(before)
    margin = _margin(before, after)
    low, high = difference - margin, difference + margin
    relevant = math.log1p(RELEVANT) + abs(waits)
    if low > 0 and min(difference, plain) > relevant:
        verdict = SLOWER
    elif high < 0 and max(difference, plain) < -relevant:
        verdict = FASTER
    else:
        verdict = EQUAL if max(margin, relevant) < math.log1p(WANTED) else UNCLEAR
    return Change(math.exp(difference), math.exp(low), math.exp(high), math.exp(plain), verdict)


def _times(repeat: Repeat, milliseconds: Sequence[float]) -> tuple[float, float]:
    plain = math.log(statistics.median(milliseconds))
    yardstick = repeat.yardstick_ms
    return plain, plain - (math.log(statistics.median(yardstick)) if yardstick else 0.0)


def _stretch(results: Results) -> float:
    """The logarithm of how much longer its times are by waiting: of a wait of half the time, that of two."""
    return statistics.fmean(-math.log1p(-min(each.waited or 0.0, MOST_WAITED)) for each in results.repeats)


def _waits(old: Results, new: Results) -> tuple[str, ...]:
    """How busy the machine was, where it was in either run."""
    before, now = (statistics.fmean(each.waited or 0.0 for each in results.repeats) for results in (old, new))
    if max(before, now) < NOTICED:
        return ()
    return (
        f"threads waited for processors that others had {100 * before:.0f} % of the time before, {100 * now:.0f} % now",
    )


def _margin(old: Sequence[float], new: Sequence[float]) -> float:
    """Half the width of the interval of a difference of means, by B. L. Welch (Biometrika 34, 1947)."""
    errors = [statistics.variance(each) / len(each) for each in (old, new)]
    total = sum(errors)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(error**2 / (len(each) - 1) for error, each in zip(errors, (old, new), strict=True))
    return _quantile(freedom) * math.sqrt(total)


def _quantile(freedom: float) -> float:
    """The two-sided 95 % quantile of Student's distribution, that of the next lower whole number of degrees."""
    whole = max(1, math.floor(freedom))
    # Beyond the table by two terms of the Cornish-Fisher expansion, which is right to 0.001 there.
    z = 1.959964
    return (
        T95[whole - 1]
        if whole <= len(T95)
        else z + (z**3 + z) / (4 * whole) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * whole**2)
    )


def _others(old: Results, new: Results) -> tuple[Other, ...]:
    before = {_key(case): case for case in old.cases}
    return tuple(
        Other(case, statistics.median(case.milliseconds) / statistics.median(before[_key(case)].milliseconds))
        for case in new.cases
        if _key(case) in before and case.milliseconds and before[_key(case)].milliseconds
    )


def _key(case: Case) -> tuple[object, ...]:
    return case.work, case.by, case.height, case.width, case.batch


def _differences(old: Results, new: Results) -> tuple[str, ...]:
    """What differs and may be the reason."""
    pairs = (
        ("plan", f"{old.plan.name} {old.plan.sha256[:12]}", f"{new.plan.name} {new.plan.sha256[:12]}"),
        ("evaluations", old.plan.evaluations, new.plan.evaluations),
        ("solver", old.plan.solver, new.plan.solver),
        ("engine", f"{old.plan.backend} {old.plan.precision}", f"{new.plan.backend} {new.plan.precision}"),
        ("commit", old.commit, new.commit),
        ("system", old.machine.system, new.machine.system),
        *((name, old.versions.get(name, "none"), new.versions.get(name, "none"))
          for name in sorted({*old.versions, *new.versions})),
    )  # fmt: skip
    return tuple(
        f"{what}: {before or 'unknown'} before, {now or 'unknown'} now" for what, before, now in pairs if before != now
    )
