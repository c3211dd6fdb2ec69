"""One case against another of the same rounds."""

from __future__ import annotations

from mrs.benchmarking.results import Case
from mrs.reporting.intervals import Interval, of_median
from mrs.reporting.text import number
from mrs.runtime.measure import ratios


def times_as_long(other: Case, case: Case) -> Interval | None:
    """How many times as long another takes, round by round: a machine that drifts hits both of a round.

    Returns:
        None where they did not run in the same rounds, or in too few of them.
    """
    if other.group != case.group or len(other.milliseconds) != len(case.milliseconds):
        return None
    return of_median(ratios(other.milliseconds, case.milliseconds))


def verified(case: Case) -> bool:
    """Whether its times may be compared: it computes what it should, or is the bare network, without a result."""
    return case.work == "network" if case.parity is None else case.parity.passes


def in_brackets(interval: Interval) -> str:
    """A figure with its bounds."""
    return f"{number(interval.middle)} ({number(interval.low)} to {number(interval.high)})"


def parity(case: Case) -> str:
    """The verdict in words."""
    if case.parity is None:
        return "bare network, no result" if case.work == "network" else "not judged"
    found = case.parity
    measured = "equal" if found.psnr_db is None else f"{number(found.psnr_db)} dB"
    return f"{'passes' if found.passes else 'FAILS'}: {measured}, {number(found.bar_db)} dB needed"
