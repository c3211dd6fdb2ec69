"""The whole times that a search starts from, and those nearest to a solver's own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.tuning.search import POWERS, at_whole_times, whole_times

SCHEDULE = Schedule()


@given(st.integers(2, 60), st.sampled_from(["linspace", "trailing", "karras-n", "linear-lambda"]))
def test_the_nearest_whole_times_of_a_solver(steps: int, spacing: str) -> None:
    solver = Solver("dpm++", 3, "noise", steps, spacing, last_step="full")
    times = tableau(SCHEDULE, solver).times
    whole = at_whole_times(solver, SCHEDULE)
    visited = tableau(SCHEDULE, whole).times
    assert all(time.is_integer() for time in visited)
    assert len(visited) == whole.steps + 1 <= steps + 1
    assert all(min(abs(t - other) for other in visited) <= 0.5 for t in times)
    assert (whole == solver) == all(time.is_integer() for time in times)
    assert replace(whole, steps=steps, spacing=spacing, times=()) == solver


@given(st.data(), st.integers(1, 300), st.floats(0.05, 12))
def test_a_plain_grid_falls_in_whole_steps_from_the_first_time_to_the_last(data: Any, T: int, power: float) -> None:
    intervals = data.draw(st.integers(1, T))
    times = whole_times(T, intervals, power)
    assert len(times) == intervals + 1
    assert (times[0], times[-1]) == (T, 0)
    assert all(isinstance(time, float) and time.is_integer() for time in times)
    assert all(u > t for u, t in pairwise(times))


@examples(max_examples=50)
@given(st.integers(2, 20), st.sampled_from(POWERS))
def test_a_plain_grid_is_the_power_of_equal_steps_where_there_is_room(intervals: int, power: float) -> None:
    times = np.array(whole_times(10_000, intervals, power))
    np.testing.assert_allclose(times, 10_000 * np.linspace(1, 0, intervals + 1) ** power, atol=0.5)
