"""Solvers that run away: whose steps add more spread than the process has.

A row is linear, and so is the best network of Gaussian pixels: so the spread of every state of a run can be computed
without a network or a picture, by carrying along what each draw of noise has become. It should be that of the process
at the state's time. Steps with a noise prediction may miss it by orders of magnitude where they are long: of `sde` and
`sa` what is drawn is amplified by a_t / a_u before the next prediction takes it away again, and `heun` and `unipc` feed
an error of the prediction back over the whole step.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mrs.numerics.methods import METHODS
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau

# Standard deviation of x0 - mu, in picture units; from 0.05 to 0.5 the same solvers run away.
SPREAD = 0.2
# Solvers that restore have up to 1.5, from 3 evaluations on; those that do not have 2 and more.
LIMIT = 2.0


def growth(schedule: Schedule, solver: Solver) -> float:
    """The largest standard deviation of a state after any step, as a multiple of the process's own at its time."""
    table = tableau(schedule, solver)
    a, s = schedule.alpha(table.times), schedule.sigma(table.times)
    variance = (a * SPREAD) ** 2 + s**2
    # What each draw has become: x_T's, then each row's.
    state = np.zeros(1 + len(table.rows))
    state[0] = np.sqrt(variance[0]) if schedule.denoises else table.start
    mu = state.copy() if schedule.denoises else np.zeros_like(state)
    q1 = q2 = q3 = np.zeros_like(state)
    largest = 0.0
    for i, row in enumerate(table.rows):
        q0 = row.cx * state + row.cm * mu + row.cf * s[i] / variance[i] * state
        q0 = q0 + row.m * (q1 - q0)
        state = row.ax * state + row.am * mu + row.b0 * q0 + row.b1 * q1 + row.b2 * q2 + row.b3 * q3
        state[i + 1] += row.n
        q1, q2, q3 = q0, q1, q2
        largest = max(largest, float(np.linalg.norm(state) / np.sqrt(variance[i + 1])))
    return largest


def runs_away(schedule: Schedule, solver: Solver) -> str | None:
    """In one line, that a solver's states leave the process, and what to use instead; None where they do not.

    Single steps are no question of spread: they leave most of the way undone, as published. Nor is a prediction that
    is clamped, which cannot run away, or weights that were fitted to pictures.
    """
    if METHODS[solver.method].times == "single" or solver.clamp != "none" or solver.weights:
        return None
    found = growth(schedule, solver)
    if found < LIMIT:
        return None
    number = f"{solver.steps} evaluation{'s' * (solver.steps > 1)}"
    what = f"{solver.name} with a {solver.prediction} prediction runs away at {number}"
    better = "another solver"
    if solver.prediction == "noise" and growth(schedule, replace(solver, prediction="data")) < LIMIT:
        better = "a data prediction"
    return f"{what}: a state has {found:.2g} times the spread of the process; use {better}, or more evaluations"
