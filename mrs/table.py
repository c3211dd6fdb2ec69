"""A solver on a schedule as a table: one `Row` of weights per step, in float64.

Sources: MR Sampler (arXiv 2502.07856) and its published code, whose habits the defaults follow exactly; conversions of
network outputs from its appendix on noise, data and velocity prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

from mrs.grids import time_grid
from mrs.kernels.row import Row
from mrs.methods import METHODS, Step, Weights
from mrs.methods.step import clean_prediction
from mrs.runtime.errors import InputError
from mrs.schedule import Schedule
from mrs.solver import OUTPUTS, Solver


@dataclass(frozen=True)
class Table:
    """All that a runtime needs to know of schedule and solver.

    Attributes:
        times: the times visited, `len(rows) + 1`, descending; the network is evaluated at all but the last.
        rows: one per network evaluation.
        start: standard deviation of x_T - mu.
        clamp: whether q0 is clamped to [0, 1] before it is used and kept.
    """

    times: tuple[float, ...]
    rows: tuple[Row, ...]
    start: float
    clamp: bool

    @property
    def draws(self) -> int:
        """Number of noise draws after x_T's; draw i belongs to row i."""
        return sum(row.n != 0 for row in self.rows)


def tableau(schedule: Schedule, solver: Solver, output: str = "noise") -> Table:
    """The rows of a solver.

    Args:
        schedule: the process that the network was trained on.
        solver: what to run.
        output: what the network predicts: `noise` (eps), `data` (x0) or `velocity`.

    Raises:
        InputError: for an unknown output, or a time grid that the schedule does not have.
    """
    if output not in OUTPUTS:
        raise InputError(f"network output {output!r} is unknown", hint=f"use one of {', '.join(OUTPUTS)}")
    times = time_grid(schedule, solver.spacing, solver.steps, solver.lambda_min)
    a, s, lam = (table(times).tolist() for table in (schedule.alpha, schedule.sigma, schedule.half_log_snr))
    steps = [0.0, 0.0] + [lam[i + 1] - lam[i] for i in range(solver.steps)]
    weigh = METHODS[solver.method].weights
    rows = []
    for i in range(solver.steps):
        h_prev2, h_prev, h = steps[i : i + 3]
        step = Step(a[i], s[i], a[i + 1], s[i + 1], h, h_prev, h_prev2, schedule.S)
        if solver.denoise_last and i == solver.steps - 1:
            weights = clean_prediction(step, solver.prediction)
        else:
            weights = weigh(step, solver.prediction, step_order(solver, i))
        rows.append(_row(_to_prediction(solver.prediction, output, a[i], s[i], schedule.S), weights))
    return Table(tuple(times.tolist()), tuple(rows), schedule.S, solver.clamp == "unit")


def step_order(solver: Solver, index: int) -> int:
    """Order of the step with this index, counted from 0.

    Published habits: the order ramps up with the history; below 10 steps it falls again in the steps before the last;
    the last step has full order. `lower-order` lets it fall to 1 at the last step, at any number of steps.
    """
    possible = min(solver.order, index + 1)
    left = solver.steps - index
    if solver.last_step == "lower-order":
        return min(possible, left)
    if left > 1 and index >= solver.order - 1 and solver.steps < 10:
        return min(possible, left - 1)
    return possible


def _to_prediction(prediction: str, output: str, a: float, s: float, S: float) -> tuple[float, float, float]:
    """Weights cx, cm, cf of q0 on x, mu and the network's output."""
    ratio = s / S
    conversions = {
        ("data", "noise"): (1 / a, -(1 - a) / a, -s / a),
        ("data", "data"): (0.0, 0.0, 1.0),
        ("data", "velocity"): (a, 1 - a, -ratio),
        ("noise", "noise"): (0.0, 0.0, 1.0),
        ("noise", "data"): (1 / s, -(1 - a) / s, -a / s),
        ("noise", "velocity"): (ratio / S, -ratio / S, a / S),
    }
    return conversions[prediction, output]


def _row(conversion: tuple[float, float, float], weights: Weights) -> Row:
    return Row(*conversion, *weights)
