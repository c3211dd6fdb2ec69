"""Fitting a solver's weights: the last decibels towards the many-step solution, for given times.

With the times fixed, the final picture is a smooth function of the rows' weights. Gauss-Newton steps with
Levenberg-Marquardt damping move them from a method's own values to where the squared distance to the reference is
smallest. That a step may be any linear combination of what the network said before, chosen by least squares against
many steps, is the idea of optimal linear subspace search (arXiv 2305.14677); there each step is fitted to the
reference's own state, here all steps together to the final picture.

The weights on pictures still sum to 1, because the weight of mu follows from the others
(`mrs.numerics.methods.step.weighted`). A few dozen numbers are fitted to some hundred thousand pixels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.table import Table
from mrs.kernels.update import silent
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import MOST_PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import BackendError, InputError
from mrs.tuning.runs import F32, Runs, State, Weights
from mrs.tuning.trial import Trial

Report = Callable[[str], None]

ITERATIONS = 8
# The most damped steps go down the gradient, a little each: where the picture bends sharply they alone get nearer.
DAMPINGS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
# Of a weight, for a derivative: it changes far more than float32 rounds, and the function hardly bends within it.
DIFFERENCE = 1e-3
# Of the largest curvature: a weight that changes nothing is damped as if it had this one, for 0 has no inverse.
LEAST_CURVATURE = 1e-12
# Every other pixel tells as much as all.
STRIDE = 2
# Relative gain in squared distance below which another step is not worth its evaluations.
WORTH = 0.002


def fit(
    trial: Trial,
    schedule: Schedule,
    solver: Solver,
    reference: F32,
    output: str = "noise",
    *,
    deadline: float = float("inf"),
    report: Report = lambda line: None,
) -> Solver:
    """The same solver with weights that bring its pictures nearer to a reference.

    Args:
        trial: the network and the pictures.
        schedule: the process.
        solver: without noise, momentum or clamp, on a custom grid, one evaluation per time. Where it has `denoise_last`
            the fit starts from that last step, and the fitted solver says the same by its weights.
        reference: (N, H, W, C) float32 in [0, 1], what the pictures should become.
        output: what the network predicts.
        deadline: of `time.monotonic()`, after which no further step is begun.
        report: called with lines of progress.

    Raises:
        InputError: for a solver whose weights cannot be fitted.
        BackendError: where the solver's own pictures have infinities or NaN.
    """
    if solver.clamp != "none":
        raise InputError(f"weights are not fitted with clamp {solver.clamp!r}", hint="use clamp='none'")
    weights = own_weights(tableau(schedule, solver, output))
    # Says in its own words where this solver takes no weights.
    fitted = replace(solver, denoise_last=False, weights=weights)
    runs = _Runs(trial, schedule, solver, reference, output)
    states = runs.states(weights)
    error = runs.error(states[-1][0])
    if not math.isfinite(error):
        raise BackendError("the network gave infinities or NaN: no weights to fit", hint="check its weights")
    for iteration in range(ITERATIONS):
        if time.monotonic() > deadline:
            break
        gradient, curvature = runs.normal_equations(weights, states)
        found = _damped_step(runs, weights, error, gradient, curvature)
        if found is None:
            break
        gain = 1 - found[2] / error
        weights, states, error = found
        fitted = replace(fitted, weights=weights)
        report(f"weights fitted, step {iteration + 1}: {-10 * np.log10(max(error, 1e-20)):.2f} dB")
        if gain < WORTH:
            break
    return fitted


def can_be_fitted(solver: Solver) -> bool:
    """Whether `fit` takes this solver."""
    return solver.takes_weights and solver.clamp == "none"


def own_weights(table: Table) -> Weights:
    """What a method's rows say, in the form of `Solver.weights`; each step gets all predictions that there are."""
    rows = []
    for index, row in enumerate(table.rows):
        count = min(index + 1, MOST_PREDICTIONS)
        rows.append((row.ax, *(row.b0, row.b1, row.b2, row.b3)[:count]))
    return tuple(rows)


def _damped_step(
    runs: _Runs, weights: Weights, error: float, gradient: NDArray[np.float64], curvature: NDArray[np.float64]
) -> tuple[Weights, list[State], float] | None:
    """The first step that gets nearer, the least damped first; None where none does."""
    diagonal = np.diag(curvature)
    diagonal = np.maximum(diagonal, LEAST_CURVATURE * diagonal.max())
    for damping in DAMPINGS:
        try:
            change = np.linalg.solve(curvature + damping * np.diag(diagonal), gradient)
        except np.linalg.LinAlgError:
            continue
        moved, at = [], 0
        for row in weights:
            moved.append(tuple(float(w) for w in np.array(row) + change[at : at + len(row)]))
            at += len(row)
        states = runs.states(tuple(moved))
        nearer = runs.error(states[-1][0])
        if nearer < error:
            return tuple(moved), states, nearer
    return None


class _Runs(Runs):
    """Runs whose last states have a reference."""

    def __init__(self, trial: Trial, schedule: Schedule, solver: Solver, reference: F32, output: str) -> None:
        super().__init__(trial, schedule, solver, output)
        self.reference = reference.transpose(0, 3, 1, 2)

    def error(self, x: F32) -> float:
        """Mean squared distance of a final state to the reference; infinite where it is not finite."""
        # Before the clip, which hides infinities; a chain refuses them.
        if not np.isfinite(x).all():
            return math.inf
        return float(np.mean(np.square(np.clip(x, 0, 1).astype(np.float64) - self.reference)))

    @silent
    def normal_equations(
        self, weights: Weights, states: list[State]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """J^T r and J^T J, where r is what is missing to the reference and J its derivative by the weights."""
        final = states[-1][0]
        # A pixel that is clamped at the end does not move.
        inside = ((final >= 0) & (final <= 1)).ravel()[::STRIDE]
        missing = (self.reference - np.clip(final, 0, 1)).ravel()[::STRIDE].astype(np.float64)
        columns = []
        for index, row in enumerate(weights):
            for place in range(len(row)):
                changed = (*row[:place], row[place] + DIFFERENCE, *row[place + 1 :])
                # The step's own prediction stays what it was, so that the network is asked from the next step on.
                predictions = states[index + 1][1]
                x = self.combined(changed, states[index][0], predictions)
                moved = self.states(weights, index + 1, (x, predictions))[-1][0]
                columns.append(((moved - final).ravel()[::STRIDE] / DIFFERENCE * inside).astype(np.float32))
        jacobian = np.stack(columns).astype(np.float64)
        return jacobian @ missing, jacobian @ jacobian.T
