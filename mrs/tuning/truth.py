"""Searching times, noise and weights with which few evaluations come nearest to clean pictures.

Nearness to the many-step solution (`search`) is not quality: posterior sampling, far from it, restores better. Here
clean pictures are known, and what is searched is what a metric says of them:

1. Plain settings: posterior sampling on equal steps with the noise of its steps and of its start scaled down.
2. From the best of them that draws no noise, all times and all weights together (`ascent`); from one that is better
   and draws noise, times and scales one by one, for weights go with no noise.

Some pictures are kept back: they are not searched on, and only what is measured on them says what other pictures will
gain.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import at_whole_times, tableau
from mrs.runtime.errors import BackendError
from mrs.tuning.ascent import WORTH, Ascent, Better
from mrs.tuning.judging import Judge
from mrs.tuning.search import check_evaluations, whole_times

F64 = NDArray[np.float64]
Report = Callable[[str], None]

SCALES = (0.0, 0.5, 1.0)
# Moves of one time, in parts of T, with those of a scale; the largest first.
MOVES = ((0.08, 0.25), (0.04, 0.125), (0.02, 0.0625), (0.01, 0.03125))


@dataclass(frozen=True)
class Judged:
    """A solver with its scores in dB.

    Attributes:
        solver: it.
        searched: mean over the pictures that were searched on.
        unseen: on each of the others.
    """

    solver: Solver
    searched: float
    unseen: tuple[float, ...]


@dataclass(frozen=True)
class Truest:
    """What a search for the truth found.

    Attributes:
        best: the solver with the highest score on the pictures searched on.
        plain: the best of the plain settings on them.
        tried: the plain settings and their scores on the pictures searched on.
    """

    best: Judged
    plain: Judged
    tried: tuple[tuple[Solver, float], ...]


def tune_truth(
    searched: Judge,
    unseen: Judge,
    schedule: Schedule,
    evaluations: int,
    output: str = "noise",
    *,
    begin: Solver | None = None,
    seconds: float = math.inf,
    report: Report = lambda line: None,
    kept: Callable[[Solver], None] = lambda solver: None,
) -> Truest:
    """Search what restores the pictures of one judge best, and measure it on those of another.

    Args:
        searched: pictures to search on.
        unseen: others, of which nothing is known until the end.
        schedule: the process that the network was trained on.
        evaluations: network evaluations of the solver that is sought, from 2 to half of T.
        output: what the network predicts.
        begin: what an earlier search found: this one goes on from there.
        seconds: after which the search ends; plain settings are always tried.
        report: called with lines of progress.
        kept: called with each solver that is better than those before.

    Raises:
        InputError: for a number of evaluations outside its range.
        BackendError: where no solver gives finite pictures.
    """
    check_evaluations(evaluations, schedule)
    deadline = time.monotonic() + seconds
    tried = []
    for solver in plain_settings(schedule, evaluations):
        tried.append((solver, _mean(searched, schedule, solver, output)))
        report(f"{spoken(solver)}: {tried[-1][1]:.3f} dB")
    quiet = max((each for each in tried if each[0].noise_scale == 0), key=_score)
    plain = max(tried, key=_score)
    if plain[1] == -math.inf:
        raise BackendError("no solver gives pictures without infinities or NaN", hint="check the weights")
    # Weights go with no noise in the steps, and bring more than a hundredth.
    plain = plain if plain[1] > quiet[1] + WORTH else quiet
    best = plain

    def better(solver: Solver, score: float) -> None:
        nonlocal best
        if score > best[1]:
            best = solver, score
            kept(solver)

    origin = start = _on_custom_grid(quiet[0], schedule)
    if begin is not None:
        best = max(best, (begin, _mean(searched, schedule, begin, output)), key=_score)
        start = begin if begin.takes_weights else origin
    if best[0].noise_scale > 0:
        _descend(searched, schedule, (_on_custom_grid(best[0], schedule), best[1]), output, deadline, report, better)
    Ascent(searched, schedule, start, output, origin).climb(deadline, report, better)
    judged = {
        solver: tuple(unseen.judged(tableau(schedule, solver, output)).tolist()) for solver in {plain[0], best[0]}
    }
    found, before = (Judged(*each, judged[each[0]]) for each in (best, plain))
    return Truest(found, before, tuple(tried))


def plain_settings(schedule: Schedule, evaluations: int) -> list[Solver]:
    """Posterior sampling on equal steps at whole times, with noises of each scale."""
    plain = at_whole_times(Solver("posterior", 1, steps=evaluations), schedule)
    # The denoising process starts from the picture as it is.
    starts = (1.0,) if schedule.denoises else SCALES
    return [replace(plain, noise_scale=noise, start_noise=start) for noise in SCALES for start in starts]


def spoken(solver: Solver) -> str:
    """A solver for a line of progress."""
    if solver.weights:
        return f"{solver.name} with weights of its own, noise at the start {solver.start_noise:g}"
    return f"{solver.name}, noise in the steps {solver.noise_scale:g}, at the start {solver.start_noise:g}"


def _on_custom_grid(solver: Solver, schedule: Schedule) -> Solver:
    times = solver.times or whole_times(schedule.T, solver.steps, 1.0)
    return replace(solver, spacing="custom", times=times)


def _mean(judge: Judge, schedule: Schedule, solver: Solver, output: str) -> float:
    return float(judge.judged(tableau(schedule, solver, output)).mean())


def _score(each: tuple[Solver, float]) -> float:
    return each[1]


def _descend(
    judge: Judge,
    schedule: Schedule,
    best: tuple[Solver, float],
    output: str,
    deadline: float,
    report: Report,
    better: Better,
) -> None:
    """Times and scales of noise moved one at a time, while the score rises."""
    for part, scale in MOVES:
        improved = True
        while improved:
            improved = False
            for moved in _beside(best[0], max(1.0, round(part * schedule.T)), scale, schedule):
                if time.monotonic() > deadline:
                    return
                score = _mean(judge, schedule, moved, output)
                if score > best[1]:
                    best, improved = (moved, score), True
                    better(moved, score)
                    break
        report(f"times and scales, moved by {part:g}: {best[1]:.3f} dB")


def _beside(solver: Solver, move: float, scale: float, schedule: Schedule) -> Iterator[Solver]:
    for index in range(solver.steps):
        for signed in (move, -move):
            times = list(solver.times)
            times[index] += signed
            if times[0] <= schedule.T and all(u > t for u, t in pairwise(times)):
                yield replace(solver, times=tuple(times))
    names = ("noise_scale",) if schedule.denoises else ("noise_scale", "start_noise")
    for name in names:
        for signed in (scale, -scale):
            value = getattr(solver, name) + signed
            if 0 <= value <= 2:
                yield replace(solver, **{name: value})
