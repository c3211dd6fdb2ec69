"""All that a build measures: how many evaluations where a time is given, then engine, precision and graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mrs.export.autotune.budget import Fit, fitting, within
from mrs.export.autotune.select import Selection, select
from mrs.export.autotune.workload import Target, Workload
from mrs.runtime.chain import Loop


@dataclass(frozen=True)
class Measured:
    """What a build found out.

    Attributes:
        selection: all candidates and the chosen one.
        steps: the number of evaluations.
        max_ms: within which time; None where any was right.
        evaluations: what there was to choose from within that time, the best first.
        measured_at: ISO 8601.
        pace: of `measure_pace`.
    """

    selection: Selection
    steps: int
    max_ms: float | None
    evaluations: tuple[Fit, ...]
    measured_at: str
    pace: tuple[tuple[int, float], ...] = ()


def autotune(workload: Workload, target: Target, loops: Mapping[int, Loop], max_latency: float | None) -> Measured:
    """Measure and choose.

    Args:
        workload, target: as of `select`.
        loops: the solver by its number of evaluations; one where `max_latency` is None, else several.
        max_latency: most milliseconds of a restore.

    Raises:
        BackendError: where nothing can run, nothing passes, or nothing keeps the time.
    """
    if max_latency is None:
        ((steps, loop),) = loops.items()
        return Measured(select(workload, target, loop), steps, None, (), _now())
    fits = fitting(workload, target, loops, max_latency)
    steps, selection = within(max_latency, fits, lambda steps: select(workload, target, loops[steps]), target.report)
    return Measured(selection, steps, max_latency, tuple(fits), _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
