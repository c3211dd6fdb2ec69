"""Times and weights together, moved to where restored pictures are nearest to clean ones.

A solver whose steps draw no noise is a smooth function of its times and weights. Its score is climbed by damped
Newton steps: the gradient is that of the score itself, whatever metric it is, by differences; the curvature is the
Gauss-Newton one of the mean logarithm of the squared error (that of the mean PSNR), which metrics of pictures share
well enough. Steps that do not climb are damped more (Levenberg-Marquardt).

Times stay whole, so that plans can be tuned too: a step moves them to the whole times nearest to where it wants them,
and a step that leaves them is tried beside it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.update import silent
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.tuning.fitting import own_weights
from mrs.tuning.judging import Judge
from mrs.tuning.runs import Runs, State, Weights

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Report = Callable[[str], None]
# Takes a solver and its score.
Better = Callable[[Solver, float], None]

ITERATIONS = 12
DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# Of a weight, for a derivative.
DIFFERENCE = 1e-3
# Of a time, in parts of T: no step moves one further.
FURTHEST = 0.15
# What the squared distance of weights and times (in parts of T) to those of the start costs, in dB: what is not worth
# that on these pictures would be lost on others.
RIDGE = 0.02
# Every other pixel tells as much as all.
STRIDE = 2
LEAST_CURVATURE = 1e-9
# Gain in dB below which another step is not worth its evaluations.
WORTH = 0.005
# Of -10 log10.
DB = 10 / math.log(10)


@dataclass(frozen=True)
class Point:
    """A solver on the way, as it ran.

    Attributes:
        times: visited, and the last one.
        weights: of every row.
        states: before each step, and the last one.
        score: mean over pictures in dB, less what its distance to the start costs.
    """

    times: tuple[float, ...]
    weights: Weights
    states: list[State]
    score: float


class Ascent:
    """The climb from a solver on a custom grid whose steps draw no noise.

    Args:
        judge: the pictures searched on.
        schedule: the process.
        solver: where to start; without weights of its own it starts from its method's.
        output: what the network predicts.
        origin: whose weights and times the ridge pulls to; by default the start's.
    """

    def __init__(
        self, judge: Judge, schedule: Schedule, solver: Solver, output: str, origin: Solver | None = None
    ) -> None:
        self.judge, self.schedule, self.output = judge, schedule, output
        self.solver = replace(solver, denoise_last=False)
        origin = origin or solver
        self.origin = (
            np.concatenate(own_weights(tableau(schedule, origin, output))),
            np.array(origin.times[:-1]),
        )
        # Without noise at the start the state is a sum of predictions: its own factor adds nothing to theirs.
        self.first = 0 if tableau(schedule, solver, output).start else 1
        weights = own_weights(tableau(schedule, solver, output))
        self.at = self._point(solver.times, weights)

    @property
    def found(self) -> Solver:
        """The solver that is climbed to."""
        return replace(self.solver, times=self.at.times, weights=self.at.weights)

    def climb(self, deadline: float, report: Report, better: Better) -> Solver:
        """Step by step up, until it is not worth it or the time is up; each solver on the way goes to `better`."""
        for iteration in range(ITERATIONS):
            if time.monotonic() > deadline:
                break
            higher = self._higher(deadline)
            if higher is None:
                break
            gain = higher.score - self.at.score
            self.at = higher
            better(self.found, self._score(higher.states[-1][0]))
            times = " ".join(f"{each:g}" for each in higher.times)
            report(f"times and weights, step {iteration + 1}: {higher.score:.3f} dB, times {times}")
            if gain < WORTH:
                break
        return self.found

    def _runs(self, times: tuple[float, ...]) -> Runs:
        return Runs(self.judge.trial, self.schedule, replace(self.solver, times=times, weights=()), self.output)

    def _point(self, times: tuple[float, ...], weights: Weights, index: int = 0, state: State | None = None) -> Point:
        states = self._runs(times).states(weights, index, state)
        return Point(times, weights, states, self._score(states[-1][0]) - self._cost(times, weights))

    def _score(self, x: F32) -> float:
        return float(self.judge.scores(x).mean()) if np.isfinite(x).all() else -math.inf

    def _cost(self, times: tuple[float, ...], weights: Weights) -> float:
        return RIDGE * float(np.sum(np.square(self._away(times, weights))))

    def _away(self, times: tuple[float, ...], weights: Weights) -> F64:
        """From the origin: of each weight, and of each time in parts of T."""
        moved = (np.array(times[:-1]) - self.origin[1]) / self.schedule.T
        return np.concatenate([np.concatenate(weights) - self.origin[0], moved])

    def _higher(self, deadline: float) -> Point | None:
        """The first step that climbs, the least damped first; None where none does.

        Steps of the weights alone come last: the least damped one nearly always climbs a little, and would keep the
        times where they are.
        """
        gradient, curvature = self._derivatives()
        free = np.flatnonzero(np.diag(curvature) > 0)
        count = sum(map(len, self.at.weights))
        for places in (free, free[free < count]):
            for damping in DAMPINGS:
                step = np.zeros(len(gradient))
                part = curvature[np.ix_(places, places)]
                diagonal = np.maximum(np.diag(part), LEAST_CURVATURE)
                step[places] = np.linalg.solve(part + damping * np.diag(diagonal), gradient[places])
                times, weights = self._moved(step)
                if times is None or (places is free and times == self.at.times):
                    continue
                point = self._point(times, weights)
                if point.score > self.at.score:
                    return point
                if time.monotonic() > deadline:
                    return None
        return None

    def _moved(self, step: F64) -> tuple[tuple[float, ...] | None, Weights]:
        """Times and weights after a step; no times where they would not fall, or move too far."""
        weights, at = [], 0
        for row in self.at.weights:
            weights.append(tuple(float(w + d) for w, d in zip(row, step[at : at + len(row)], strict=True)))
            at += len(row)
        if np.abs(step[at:]).max() > FURTHEST:
            return None, tuple(weights)
        moved = [round(t + self.schedule.T * float(d)) for t, d in zip(self.at.times, step[at:], strict=False)]
        times = (*(float(min(t, self.schedule.T)) for t in moved), self.at.times[-1])
        return (times if _fall(times) else None), tuple(weights)

    @silent
    def _derivatives(self) -> tuple[F64, F64]:
        """Gradient of the score and curvature, by the weights of all rows and then by all times, in parts of T."""
        final = self.at.states[-1][0]
        inside = (final >= 0) & (final <= 1)
        score = self._score(final)
        gradient, columns = [], []
        for moved, difference in self._neighbours():
            if moved is None:
                gradient.append(0.0)
                columns.append(np.zeros((len(final), math.ceil(final[0].size / STRIDE)), np.float32))
                continue
            gradient.append((self._score(moved) - score) / difference)
            slope = (moved - final) / np.float32(difference) * inside
            columns.append(slope.reshape(len(final), -1)[:, ::STRIDE])
        squared = np.mean(np.square(np.clip(final, 0, 1).astype(np.float64) - self.judge.clean), axis=(1, 2, 3))
        curvature = np.zeros((len(columns),) * 2)
        for picture, error in enumerate(squared):
            jacobian = np.stack([column[picture] for column in columns]).astype(np.float64)
            curvature += 2 * DB * (jacobian @ jacobian.T) / (jacobian.shape[1] * max(error, 1e-10) * len(squared))
        moves = np.diag(curvature) > 0
        curvature += 2 * RIDGE * np.diag(moves.astype(np.float64))
        slope = 2 * RIDGE * self._away(self.at.times, self.at.weights)
        return np.where(moves, np.array(gradient) - slope, 0.0), curvature

    def _neighbours(self) -> Iterator[tuple[F32 | None, float]]:
        """The last state with one weight or one time changed, and by how much; None for what changes nothing."""
        at, runs = self.at, self._runs(self.at.times)
        for index, row in enumerate(at.weights):
            for place in range(len(row)):
                if place < self.first:
                    yield None, 0.0
                    continue
                changed = (*row[:place], row[place] + DIFFERENCE, *row[place + 1 :])
                # The step's own prediction stays what it was, so that the network is asked from the next step on.
                predictions = at.states[index + 1][1]
                x = runs.combined(changed, at.states[index][0], predictions)
                yield runs.states(at.weights, index + 1, (x, predictions))[-1][0], DIFFERENCE
        for index in range(len(at.weights)):
            found = self._beside(index)
            if found is None:
                yield None, 0.0
                continue
            times, difference = found
            # The first time says how much noise there is at the start too.
            state = at.states[index] if index else None
            yield self._runs(times).states(at.weights, index, state)[-1][0], difference

    def _beside(self, index: int) -> tuple[tuple[float, ...], float] | None:
        """The times with one of them a step earlier or later; None where there is no room."""
        for move in (-1.0, 1.0):
            times = list(self.at.times)
            times[index] += move
            if _fall(times) and times[0] <= self.schedule.T:
                return tuple(times), move / self.schedule.T
        return None


def _fall(times: tuple[float, ...] | list[float]) -> bool:
    return all(u > t for u, t in pairwise(times)) and times[-1] >= 0
