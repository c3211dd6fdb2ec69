"""Searching the solver and the time grid that come nearest to the many-step solution with few evaluations.

The target is what the probability-flow ODE gives at 100 evaluations from the same noise (MR Sampler's ODE-2 as
published). Every candidate is first tried on a few plain grids; then the times of the best ones are moved one by one,
in ever smaller steps, as long as the distance falls; after each size of step the worse half is dropped. Searching a
grid against a many-step reference is the idea of GITS (arXiv 2405.11326) and Align Your Steps (arXiv 2404.14507); they
search for one method by dynamic programming and by gradients. Here the true distance at the end is so cheap to measure
that it is searched directly, for several methods. At the end the weights of the nearest are fitted (see `fitting`).

Times are whole, as the network was trained, so that plans can be tuned as well as checkpoints; the target and the
published solver visit the whole times nearest to theirs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mrs.kernels.table import Table
from mrs.kernels.update import F32
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver, grid_intervals
from mrs.numerics.tableau import at_whole_times, tableau
from mrs.runtime.errors import BackendError, InputError
from mrs.tuning.fitting import can_be_fitted, fit
from mrs.tuning.trial import Trial

Times = tuple[float, ...]
Report = Callable[[str], None]

REFERENCE_STEPS = 100
# Powers of the equally spaced grid from T to 0 with which every candidate starts; above 1 there are more late times.
POWERS = (0.8, 1.0, 1.25)
# Of the candidates, how many have their grid searched.
FINALISTS = 4
# Moves of one time, in parts of T, largest first; at the end one forward step.
MOVES = (0.08, 0.04, 0.02, 0.01)
# Of the time, what the search of grids may take where weights are fitted after it; and how many solvers are fitted.
GRID_PART = 2 / 3
FITTED = 2
CANDIDATES = tuple(
    Solver(method, order, prediction, last_step=last_step)
    for method, order, prediction in (
        ("dpm++", 2, "data"),
        ("dpm++", 2, "noise"),
        ("dpm++", 3, "data"),
        ("dpm++", 3, "noise"),
        ("deis", 2, "data"),
        ("deis", 3, "data"),
        ("deis", 2, "noise"),
        ("deis", 3, "noise"),
        ("unipc-b2", 2, "data"),
        ("unipc-b2", 3, "data"),
        ("ipndm", 2, "noise"),
        ("ipndm", 3, "noise"),
        ("ipndm", 4, "noise"),
    )
    for last_step in ("lower-order", "full")
)


@dataclass(frozen=True)
class Attempt:
    """A solver and its distance to the reference: the PSNR between the two in dB, higher is nearer."""

    solver: Solver
    distance_db: float


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        best: the nearest solver; the published one where no candidate is nearer.
        published: MR Sampler's ODE-2 as published, with as many evaluations.
        attempts: the best of each candidate, nearest first.
        tried: how many different tables were run, without the reference's.
    """

    best: Attempt
    published: Attempt
    attempts: tuple[Attempt, ...]
    tried: int


def tune(
    trial: Trial,
    schedule: Schedule,
    evaluations: int,
    output: str = "noise",
    *,
    candidates: Sequence[Solver] = CANDIDATES,
    fitted: bool = True,
    seconds: float = math.inf,
    report: Report = lambda line: None,
) -> Tuned:
    """Search solver and grid for a number of evaluations, then fit the weights of the nearest ones.

    Args:
        trial: the network and the pictures to search on.
        schedule: the process that the network was trained on.
        evaluations: network evaluations of the solver that is sought, from 2 to half of T.
        output: what the network predicts.
        candidates: solvers whose grids are searched; their own steps, spacing, times and weights are not used.
        fitted: whether to fit the weights of those that take any, see `fitting`; else methods keep their own.
        seconds: after which the search ends; the plain grids are always finished. Fitting gets what is left of it, a
            third at least.
        report: called with lines of progress.

    Raises:
        InputError: for a number of evaluations outside its range.
        BackendError: where no solver gives finite pictures.
    """
    check_evaluations(evaluations, schedule)
    search = _Search(trial, schedule, output)
    report(f"reference: ode-2 at {search.steps} evaluations, {len(trial.pictures)} pictures")
    begin = time.monotonic()
    end = begin + (seconds * GRID_PART if fitted else seconds)
    published = search.attempt(at_whole_times(Solver("ode", 2, steps=evaluations), schedule))
    found: dict[Solver, Attempt] = {}
    for candidate in candidates:
        plain = replace(candidate, steps=evaluations, spacing="linspace", times=(), weights=())
        intervals = grid_intervals(plain.method, evaluations)
        starts = {whole_times(schedule.T, intervals, power) for power in POWERS}
        tried = [search.attempt(replace(plain, spacing="custom", times=times)) for times in sorted(starts)]
        found[candidate] = max(tried, key=_nearness)
        report(f"{_name(candidate)}: {found[candidate].distance_db:.2f} dB")
    # Candidates of one distance are one table.
    apart = {found[candidate].distance_db: candidate for candidate in reversed(found)}
    finalists = [apart[distance] for distance in sorted(apart, reverse=True)][:FINALISTS]
    descents = sum(max(1, len(finalists) >> level) for level in range(len(MOVES)))
    for part in MOVES:
        move = max(1.0, round(part * schedule.T))
        for candidate in finalists:
            # Each gets an equal part of the time that is left, so that the smallest moves get theirs.
            now = time.monotonic()
            found[candidate] = search.descend(found[candidate], move, now + (end - now) / descents)
            descents -= 1
            report(f"{_name(candidate)}, times moved by {move:g}: {found[candidate].distance_db:.2f} dB")
        finalists = sorted(finalists, key=lambda candidate: -_nearness(found[candidate]))
        finalists = finalists[: max(1, len(finalists) // 2)]
    if fitted:
        able = [a for a in found.values() if can_be_fitted(a.solver) and a.distance_db > -math.inf]
        for attempt in sorted(able, key=lambda attempt: -_nearness(attempt))[:FITTED]:
            report(f"fitting the weights of {_name(attempt.solver)}")
            solver = fit(
                trial, schedule, attempt.solver, search.reference, output, deadline=begin + seconds, report=report
            )
            nearer = search.attempt(solver)
            if _nearness(nearer) > _nearness(attempt):
                found[solver] = nearer
    attempts = tuple(sorted(found.values(), key=lambda attempt: -_nearness(attempt)))
    best = max((*attempts, published), key=_nearness)
    if best.distance_db == -math.inf:
        raise BackendError("no solver gives pictures without infinities or NaN", hint="check the weights")
    return Tuned(best, published, attempts, len(search.known))


def check_evaluations(evaluations: int, schedule: Schedule) -> None:
    """Refuse a number of evaluations that leaves nothing to search.

    Raises:
        InputError: outside 2 to half of T.
    """
    if not 2 <= evaluations <= schedule.T // 2:
        raise InputError(
            f"{evaluations} evaluations are outside 2 to {schedule.T // 2}",
            hint="one has no times to move, more need no search of the grid",
        )


def whole_times(T: int, intervals: int, power: float) -> Times:
    """Whole times T (1 - i / intervals)^power, from T to 0, moved apart where they fall together."""
    times = [float(round(T * (1 - i / intervals) ** power)) for i in range(intervals + 1)]
    for i in range(intervals - 1, 0, -1):
        times[i] = max(times[i], times[i + 1] + 1)
    for i in range(1, intervals):
        times[i] = min(times[i], times[i - 1] - 1)
    return tuple(times)


class _Search:
    """Distances of solvers to the reference, each table measured once."""

    def __init__(self, trial: Trial, schedule: Schedule, output: str) -> None:
        self.trial, self.schedule, self.output = trial, schedule, output
        self.known: dict[Table, float] = {}
        reference = at_whole_times(Solver("ode", 2, steps=min(REFERENCE_STEPS, schedule.T)), schedule)
        self.steps = reference.steps
        self.reference = self._run(tableau(schedule, reference, output))

    def attempt(self, solver: Solver) -> Attempt:
        """This solver's distance; -inf dB where its pictures are not finite."""
        # With few evaluations, several solvers are one table.
        table = tableau(self.schedule, solver, self.output)
        if table not in self.known:
            self.known[table] = self._distance(table)
        return Attempt(solver, self.known[table])

    def descend(self, best: Attempt, move: float, deadline: float) -> Attempt:
        """Move the inner times, one at a time, while the distance gets smaller."""
        improved = True
        while improved:
            improved = False
            for index in range(1, len(best.solver.times) - 1):
                for signed in (move, -move):
                    if time.monotonic() > deadline:
                        return best
                    times = list(best.solver.times)
                    times[index] += signed
                    if not all(u > t for u, t in pairwise(times)):
                        continue
                    moved = self.attempt(replace(best.solver, times=tuple(times)))
                    if _nearness(moved) > _nearness(best):
                        best, improved = moved, True
        return best

    def _distance(self, table: Table) -> float:
        try:
            error = float(np.mean(np.square(self._run(table).astype(np.float64) - self.reference)))
        except BackendError:
            # A chain says so where its state is not finite.
            return -math.inf
        return -10 * math.log10(max(error, 1e-20)) if math.isfinite(error) else -math.inf

    def _run(self, table: Table) -> F32:
        return self.trial.run(table)


def _nearness(attempt: Attempt) -> float:
    return attempt.distance_db


def _name(solver: Solver) -> str:
    return f"{solver.name} {solver.prediction} {solver.last_step}" + (" fitted" if solver.weights else "")
