"""Time grids: which times a solver visits. All run from high to low t and have `steps` + 1 points.

The six grids of MR Sampler's published code; `lambda_min` drops the start times whose half log-SNR lies below it
(also from the two Karras grids, where the published code forgets it).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mrs.numerics.schedule import Schedule
from mrs.runtime.errors import InputError

Array = NDArray[np.float64]

# Exponent of the two grids after Karras et al. (arXiv 2206.00364, eq. 5).
RHO = 7.0


def time_grid(
    schedule: Schedule, spacing: str, steps: int, lambda_min: float, start_time: float | None = None
) -> Array:
    """The times visited, shape (steps + 1,), strictly descending, in forward steps; none is above `start_time`.

    Raises:
        InputError: where the grid does not have that many different times, or `start_time` is beyond T.
    """
    last: float = schedule.T - int(np.sum(schedule.half_log_snrs < lambda_min))
    if start_time is not None:
        if start_time > schedule.T:
            raise InputError(f"start_time {start_time:g} is beyond T = {schedule.T}", hint="times count forward steps")
        last = min(last, start_time)
        lambda_min = max(lambda_min, float(schedule.half_log_snr(last)))
    if last <= 0:
        raise InputError(
            f"lambda_min {lambda_min} leaves no time to start from",
            hint=f"half log-SNRs of this schedule start at {schedule.half_log_snrs[-1]:.2f}",
        )
    times = GRIDS[spacing](schedule, steps, last, lambda_min)
    if _falls(times):
        return times
    hint = "use fewer steps"
    # A grid that has not even two times has none at any number of steps.
    if not _falls(GRIDS[spacing](schedule, 1, last, lambda_min)):
        hint = f"use another spacing, or a {'lower lambda_min' if start_time is None else 'larger start_time'}"
    raise InputError(f"spacing {spacing!r} has no {steps + 1} different times between {last:g} and 0", hint=hint)


def _falls(times: Array) -> bool:
    return bool(times[-1] >= 0 and np.all(np.diff(times) < 0))


def linspace(schedule: Schedule, steps: int, last: float, lambda_min: float) -> Array:
    """Equal steps of t from `last` to 0."""
    return np.linspace(0.0, last, steps + 1, dtype=np.float64)[::-1]


def leading(schedule: Schedule, steps: int, last: float, lambda_min: float) -> Array:
    """Whole multiples of floor(last / (steps + 1)) down to 0; starts below `last`."""
    return np.arange(steps, -1, -1, dtype=np.float64) * (last // (steps + 1))


def trailing(schedule: Schedule, steps: int, last: float, lambda_min: float) -> Array:
    """Equal steps of T / (steps + 1) from `last` down; ends above 0."""
    return last - np.arange(steps + 1, dtype=np.float64) * (schedule.T / (steps + 1))


def karras_n(schedule: Schedule, steps: int, last: float, lambda_min: float) -> Array:
    """Karras' curve in the noise-to-signal ratio s/a, mapped back to t linearly on the table."""
    times = np.append(np.arange(math.ceil(last)), last)
    ratio = schedule.sigma(times) / schedule.alpha(times)
    curve = _karras(float(ratio.max()), float(ratio.min()), steps)
    return np.interp(curve, ratio, times)


def karras_t(schedule: Schedule, steps: int, last: float, lambda_min: float) -> Array:
    """Karras' curve in t itself, from `last` to 1."""
    return _karras(float(last), 1.0, steps)


def linear_lambda(schedule: Schedule, steps: int, last: float, lambda_min: float) -> Array:
    """Equal steps of the half log-SNR lam, mapped back to t linearly on the table.

    Where lam_0 is infinite (`ir-sde`), the steps are equal down to t = 1, and the last one goes from 1 to 0.
    """
    # A start between whole times belongs to the table, or it would be mapped back beside itself.
    times = np.union1d(np.arange(schedule.T + 1.0), [last])
    lam = schedule.half_log_snr(times)
    lowest = max(float(lam.min()), lambda_min)
    if np.isinf(lam[0]):
        targets = np.linspace(lowest, lam[1], steps)
        return np.append(np.interp(targets, lam[:0:-1], times[:0:-1]), 0.0)
    return np.interp(np.linspace(lowest, lam[0], steps + 1), lam[::-1], times[::-1])


def _karras(largest: float, smallest: float, steps: int) -> Array:
    start, end = largest ** (1 / RHO), smallest ** (1 / RHO)
    curve = (start + np.linspace(0, 1, steps + 1) * (end - start)) ** RHO
    # The powers round; the ends are exact.
    curve[0], curve[-1] = largest, smallest
    return curve


GRIDS: dict[str, Callable[[Schedule, int, float, float], Array]] = {
    "linspace": linspace,
    "leading": leading,
    "trailing": trailing,
    "karras-n": karras_n,
    "karras-t": karras_t,
    "linear-lambda": linear_lambda,
}
