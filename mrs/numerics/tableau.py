"""A solver on a schedule as a table: one `Row` of weights per step, in float64.

Sources: MR Sampler (arXiv 2502.07856) and its published code, whose habits the defaults follow exactly; conversions of
network outputs from its appendix on noise, data and velocity prediction.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mrs.kernels.table import Row, Table
from mrs.numerics.grids import time_grid
from mrs.numerics.methods import METHODS, Run, Step
from mrs.numerics.methods.euler import single_steps
from mrs.numerics.methods.heun import heun_times
from mrs.numerics.methods.step import clean_prediction, weighted
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import OUTPUTS, Solver, grid_intervals
from mrs.runtime.errors import InputError

LARGEST = float(np.finfo(np.float32).max)


def tableau(schedule: Schedule, solver: Solver, output: str = "noise") -> Table:
    """The rows of a solver.

    Args:
        schedule: the process that the network was trained on.
        solver: what to run.
        output: what the network predicts: `noise` (eps), `data` (x0) or `velocity`.

    Raises:
        InputError: for an unknown output, a time grid that the schedule does not have, or weights beyond float32.
    """
    if output not in OUTPUTS:
        raise InputError(f"network output {output!r} is unknown", hint=f"use one of {', '.join(OUTPUTS)}")
    run = Run(
        schedule,
        visited_times(schedule, solver),
        tuple(step_order(solver, index) for index in range(solver.steps)),
        solver.prediction,
        solver.stochasticity,
        solver.momentum,
    )
    rows = []
    for index in range(solver.steps):
        step = Step(run, index)
        try:
            rows.append(_row(step, solver, output))
        except OverflowError as error:
            raise InputError(
                f"weights of {solver.name} from t = {step.u:g} to {step.t:g} are beyond float32, in which they run",
                hint="use more steps, or a data prediction",
            ) from error
    return Table(run.times, tuple(rows), _start(schedule, solver, run), solver.clamp)


def _row(step: Step, solver: Solver, output: str) -> Row:
    """One step's weights; OverflowError where float32 does not hold them."""
    if solver.denoise_last and step.index == solver.steps - 1:
        weights = clean_prediction(step)
    elif solver.weights:
        weights = weighted(step, solver.weights[step.index][0], list(solver.weights[step.index][1:]))
    else:
        weights = METHODS[solver.method].weights(step)
    if solver.noise_scale != 1:
        # Without the sign that 0 keeps of a factor below it.
        weights = weights._replace(noise=solver.noise_scale * weights.noise or 0.0)
    row = Row(*_to_prediction(solver.prediction, output, step.a_u, step.s_u, step.S), *weights)
    if not all(abs(weight) <= LARGEST for weight in row):
        raise OverflowError
    return row


def _start(schedule: Schedule, solver: Solver, run: Run) -> float:
    """Standard deviation of the noise that is added to the degraded picture."""
    if schedule.denoises:
        # Its noise is the process's own.
        return 0.0
    # As published, x_T has S whatever times are dropped; a start that was chosen has what belongs to its time.
    chosen = solver.start_time is not None or (bool(solver.times) and run.times[0] < schedule.T)
    return solver.start_noise * (run.s[0] if chosen else schedule.S)


def visited_times(schedule: Schedule, solver: Solver) -> tuple[float, ...]:
    """The time of each evaluation and the last time, `solver.steps` + 1.

    Raises:
        InputError: where the schedule does not have them.
    """
    kind = METHODS[solver.method].times
    if kind == "single":
        if solver.start_time is not None and not schedule.denoises:
            raise InputError(
                f"method {solver.method!r} is a published baseline with times of its own",
                hint="leave start_time out, or use another method",
            )
        return tuple(single_steps(schedule, solver.steps, solver.start_time))
    if solver.times:
        if solver.times[0] > schedule.T:
            raise InputError(f"time {solver.times[0]:g} is beyond T = {schedule.T}", hint="times count forward steps")
        grid = list(solver.times)
    else:
        intervals = grid_intervals(solver.method, solver.steps)
        grid = time_grid(schedule, solver.spacing, intervals, solver.lambda_min, solver.start_time).tolist()
    return tuple(heun_times(grid, solver.steps) if kind == "pairs" else grid)


def at_whole_times(solver: Solver, schedule: Schedule) -> Solver:
    """The same solver at the nearest whole times; in fewer steps where some fall together."""
    times = visited_times(schedule, solver)
    whole = tuple(sorted({float(round(t)) for t in times}, reverse=True))
    return solver if whole == times else replace(solver, steps=len(whole) - 1, spacing="custom", times=whole)


def step_order(solver: Solver, index: int) -> int:
    """Order of the step with this index, counted from 0.

    Published habits: the order ramps up with the history; below 10 steps it falls again in the steps before the last;
    the last step has full order. `lower-order` lets it fall to 1 at the last step, at any number of steps; with `full`
    it never falls.
    """
    possible = min(solver.order, index + 1)
    left = solver.steps - index
    if solver.last_step == "lower-order":
        return min(possible, left)
    if solver.last_step == "published" and left > 1 and index >= solver.order - 1 and solver.steps < 10:
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
