"""The six time grids, against numbers worked out by hand, for any schedule, and from a later start."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrs.numerics.grids import GRIDS, time_grid
from mrs.numerics.schedule import CONVENTIONS, INTERPOLATIONS, KINDS, Schedule
from mrs.numerics.solver import SPACINGS, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError
from tests.together import together

# `custom` is no formula.
PLAIN = tuple(GRIDS)
NO_LIMIT = -math.inf
PUBLISHED = Schedule()
# a_t = 1/2, 1/4, 1/8 and S = 1/5.
HALVES = Schedule("constant", max_sigma=51, eps=0.125, T=2, convention="mr-sampler")
# a_t = 1, 1/2, 1/4, 1/8.
HALVES_FROM_1 = Schedule("constant", max_sigma=51, eps=0.125, T=3, convention="ir-sde")


def lam(a: float) -> float:
    return math.log(a / (0.2 * math.sqrt(1 - a * a)))


# lam is 1.0601, 0.2554, -0.4622 where a is 1/2, 1/4, 1/8; midway between the ends it is this part of a step below 1/4.
PART = ((lam(1 / 2) + lam(1 / 8)) / 2 - lam(1 / 4)) / (lam(1 / 2) - lam(1 / 4))


@together(
    ("schedule", "spacing", "expected"),
    [
        (PUBLISHED, "linspace", [100, 80, 60, 40, 20, 0]),
        (PUBLISHED, "linspace", [100, 0]),
        (PUBLISHED, "linspace", [100, 100 * 2 / 3, 100 / 3, 0]),
        # floor(100 / 6) = 16, floor(100 / 4) = 25
        (PUBLISHED, "leading", [80, 64, 48, 32, 16, 0]),
        (PUBLISHED, "leading", [75, 50, 25, 0]),
        (PUBLISHED, "trailing", [100, 75, 50, 25]),
        (PUBLISHED, "trailing", [100, 100 * 5 / 6, 100 * 4 / 6, 50, 100 * 2 / 6, 100 / 6]),
        # ((100^(1/7) + 1) / 2)^7 = 1.465349^7
        (PUBLISHED, "karras-t", [100, 14.5073, 1]),
        (PUBLISHED, "karras-t", [100, 1]),
        # s/a is 0, 0.34641, ... at t = 0, 1, ..., and half of its seventh root is its 128th part.
        (HALVES_FROM_1, "karras-n", [3, math.sqrt(1 - 1 / 64) * 0.2 * 8 / 128 / (math.sqrt(3) * 0.2), 0]),
        (HALVES, "karras-n", [2, 0]),
        (HALVES, "linear-lambda", [2, 1 - PART, 0]),
        (HALVES_FROM_1, "linear-lambda", [3, 2 - PART, 1, 0]),
        (HALVES_FROM_1, "linear-lambda", [3, 0]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_by_hand(schedule: Schedule, spacing: str, expected: list[float]) -> None:
    times = time_grid(schedule, spacing, len(expected) - 1, NO_LIMIT)
    np.testing.assert_allclose(times, expected, rtol=1e-5, atol=1e-12)


def test_numbers_used_above() -> None:
    np.testing.assert_allclose(HALVES.alphas, [1 / 2, 1 / 4, 1 / 8], rtol=1e-14)
    np.testing.assert_allclose(HALVES_FROM_1.alphas, [1, 1 / 2, 1 / 4, 1 / 8], rtol=1e-14)
    assert pytest.approx(0.054166, abs=1e-6) == PART


def test_every_spacing_of_a_solver_is_a_grid() -> None:
    assert (*GRIDS, "custom") == SPACINGS


schedules = st.builds(
    Schedule,
    kind=st.sampled_from(KINDS),
    max_sigma=st.floats(1, 255),
    eps=st.floats(1e-5, 0.5),
    T=st.integers(50, 500),
    convention=st.sampled_from(CONVENTIONS),
    interpolation=st.sampled_from(INTERPOLATIONS),
)


@pytest.mark.parametrize("spacing", PLAIN)
@settings(max_examples=60)
@given(schedule=schedules, steps=st.integers(1, 24), limit=st.sampled_from([NO_LIMIT, -5.0, -2.0, 0.0]))
def test_any_grid(spacing: str, schedule: Schedule, steps: int, limit: float) -> None:
    kept = schedule.half_log_snrs >= limit
    last = int(np.flatnonzero(kept).max(initial=0))
    # What can fail, and only where start times are dropped.
    exists = last > 0 and {
        "leading": last > steps,
        "trailing": last * (steps + 1) >= steps * schedule.T,
        "karras-t": last > 1,
    }.get(spacing, True)
    if not exists:
        with pytest.raises(InputError, match=f"'{spacing}'" if last else "lambda_min"):
            time_grid(schedule, spacing, steps, limit)
        return
    times = time_grid(schedule, spacing, steps, limit)
    assert times.shape == (steps + 1,)
    assert times.dtype == np.float64
    assert (np.diff(times) < 0).all()
    start, end = times[0], times[-1]
    # Where lam is interpolated, the start may lie between the last time kept and the first one dropped.
    assert start <= last + (spacing == "linear-lambda")
    if spacing in ("linspace", "trailing", "karras-t"):
        assert start == last
    elif spacing == "karras-n":
        assert start == pytest.approx(last, rel=1e-12)
    elif spacing == "leading":
        assert start == last // (steps + 1) * steps
    else:
        # It is mapped back on the lines of the published interpolation.
        near = 1e-9 if schedule.interpolation == "published" else 0.05
        assert float(schedule.half_log_snr(start)) == pytest.approx(max(limit, schedule.half_log_snrs[-1]), abs=near)
    if spacing == "karras-t":
        assert end == 1
    elif spacing == "trailing":
        assert end == pytest.approx(last - steps * schedule.T / (steps + 1), abs=1e-9)
    else:
        assert end == 0


@together("spacing", PLAIN)
def test_lambda_min_drops_start_times(spacing: str) -> None:
    lam = PUBLISHED.half_log_snrs
    times = time_grid(PUBLISHED, spacing, 2, -3.0)
    last = int((lam >= -3.0).sum()) - 1
    assert 90 < last < 100
    expected = {"leading": last // 3 * 2, "linear-lambda": times[0]}.get(spacing, last)
    assert times[0] == pytest.approx(expected, rel=1e-12)
    assert float(PUBLISHED.half_log_snr(times[0])) >= -3.0 - 1e-9
    # A time whose lam is the limit itself stays.
    assert time_grid(PUBLISHED, "linspace", 2, float(lam[97]))[0] == 97
    assert time_grid(PUBLISHED, "linspace", 2, float(np.nextafter(lam[97], 9)))[0] == 96


def test_the_published_limit_drops_nothing_from_the_published_schedule() -> None:
    for spacing in PLAIN:
        np.testing.assert_array_equal(
            time_grid(PUBLISHED, spacing, 10, -5.0), time_grid(PUBLISHED, spacing, 10, NO_LIMIT)
        )


@together(
    ("schedule", "spacing", "steps", "limit", "named"),
    [
        (PUBLISHED, "leading", 100, NO_LIMIT, ("'leading'", "101 different times", "between 100 and 0")),
        (PUBLISHED, "leading", 5000, NO_LIMIT, ("'leading'", "5001")),
        (PUBLISHED, "leading", 90, -1.0, ("'leading'", "91")),
        # It would go below time 0.
        (PUBLISHED, "trailing", 10, -1.0, ("'trailing'", "11 different times")),
        (HALVES_FROM_1, "karras-t", 2, 1.0, ("'karras-t'", "between 1 and 0")),
        (HALVES_FROM_1, "linear-lambda", 3, float(HALVES_FROM_1.half_log_snrs[1]), ("'linear-lambda'",)),
        (PUBLISHED, "linspace", 10, 9.0, ("lambda_min 9.0", "start at -3.67")),
        (PUBLISHED, "linear-lambda", 10, math.inf, ("lambda_min inf",)),
        (HALVES, "karras-n", 1, 1.06, ("lambda_min 1.06", "-0.46")),
    ],
    ids=str,
)
def test_grids_that_do_not_exist_are_refused(
    schedule: Schedule, spacing: str, steps: int, limit: float, named: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as caught:
        time_grid(schedule, spacing, steps, limit)
    for words in named:
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@together("convention", CONVENTIONS)
def test_the_most_leading_steps(convention: str) -> None:
    schedule: Any = Schedule(convention=convention)
    np.testing.assert_array_equal(time_grid(schedule, "leading", 99, NO_LIMIT), np.arange(99, -1, -1))


# A later start


@pytest.mark.parametrize("spacing", PLAIN)
@settings(max_examples=40)
@given(
    schedule=schedules,
    steps=st.integers(1, 12),
    part=st.floats(0.05, 1),
    limit=st.sampled_from([NO_LIMIT, -5.0, -2.0]),
)
def test_any_grid_from_a_later_start(spacing: str, schedule: Schedule, steps: int, part: float, limit: float) -> None:
    """It begins at the start time, or lower where lambda_min drops more, and never above."""
    start = part * schedule.T
    lowest = min(start, int(np.flatnonzero(schedule.half_log_snrs >= limit).max(initial=0)))
    try:
        times = time_grid(schedule, spacing, steps, limit, start)
    except InputError:
        # What can fail: nothing is left; too little for whole steps, for published steps of T, or above 1; or, with an
        # infinite lam_0, below 1.
        assert (
            lowest <= 0
            or (spacing == "leading" and lowest <= steps + 1)
            or (spacing == "trailing" and lowest * (steps + 1) <= steps * schedule.T * (1 + 1e-9))
            or (spacing in ("karras-t", "linear-lambda") and lowest <= 1)
        )
        return
    assert times.shape == (steps + 1,)
    assert (np.diff(times) < 0).all()
    assert times[0] <= lowest
    if spacing == "leading":
        assert times[0] == lowest // (steps + 1) * steps
    else:
        assert times[0] == pytest.approx(lowest, rel=1e-12)


@together("spacing", PLAIN)
def test_a_start_at_T_changes_nothing(spacing: str) -> None:
    for schedule in (PUBLISHED, Schedule(convention="ir-sde"), Schedule(interpolation="exact")):
        np.testing.assert_array_equal(
            time_grid(schedule, spacing, 7, NO_LIMIT, 100), time_grid(schedule, spacing, 7, NO_LIMIT)
        )


@together(
    ("spacing", "start", "expected"),
    [
        ("linspace", 60, [60, 45, 30, 15, 0]),
        ("linspace", 0.5, [0.5, 0.375, 0.25, 0.125, 0]),
        # floor(62.5 / 5) = 12
        ("leading", 62.5, [48, 36, 24, 12, 0]),
        ("trailing", 90.5, [90.5, 70.5, 50.5, 30.5, 10.5]),
        # Seventh roots from 1.75 to 1 in quarters of their distance.
        ("karras-t", 1.75**7, [1.75**7, 1.5625**7, 1.375**7, 1.1875**7, 1]),
    ],
)
def test_a_later_start_by_hand(spacing: str, start: float, expected: list[float]) -> None:
    times = time_grid(PUBLISHED, spacing, 4, NO_LIMIT, start)
    np.testing.assert_allclose(times, expected, rtol=1e-12)


@together("interpolation", INTERPOLATIONS)
@together("convention", CONVENTIONS)
def test_lam_and_the_ratio_are_equally_spaced_from_a_later_start_too(convention: str, interpolation: str) -> None:
    """Up to the lines by which lam and s/a are mapped back to t."""
    schedule = Schedule(convention=convention, interpolation=interpolation)
    times = time_grid(schedule, "linear-lambda", 5, NO_LIMIT, 62.5)
    assert times[0] == 62.5
    steps = np.diff(schedule.half_log_snr(times if convention == "mr-sampler" else times[:-1]))
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.05 if convention == "mr-sampler" else 0.02)
    times = time_grid(schedule, "karras-n", 5, NO_LIMIT, 62.5)
    assert times[0] == 62.5
    # Below t = 1 the line says little.
    kept = times[times >= 1] if convention == "ir-sde" else times
    roots = np.diff((schedule.sigma(kept) / schedule.alpha(kept)) ** (1 / 7))
    np.testing.assert_allclose(roots, roots.mean(), rtol=0.05)


@together(
    ("spacing", "start", "named"),
    [
        ("linspace", 101, ("start_time 101 is beyond T = 100", "times count forward steps")),
        ("karras-n", 100.5, ("start_time 100.5 is beyond T = 100",)),
        ("trailing", 50, ("'trailing' has no 6 different times between 50 and 0", "use fewer steps")),
        ("leading", 5.5, ("'leading' has no 6 different times between 5.5 and 0", "use fewer steps")),
        ("karras-t", 1, ("'karras-t' has no 6 different times between 1 and 0", "a larger start_time")),
    ],
)
def test_later_starts_that_do_not_exist_are_refused(spacing: str, start: float, named: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        time_grid(PUBLISHED, spacing, 5, NO_LIMIT, start)
    for words in named:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("schedule", "solver"),
    [
        (Schedule(T=1000), {"spacing": "trailing", "start_time": 2}),
        (Schedule(), {"spacing": "karras-t", "start_time": 1}),
        (Schedule(), {"spacing": "karras-t", "start_time": 0.25}),
        (Schedule(), {"spacing": "leading", "start_time": 0.5}),
        (Schedule(), {"spacing": "trailing", "lambda_min": 1.0}),
    ],
    ids=["trailing", "karras-t at 1", "karras-t below 1", "leading", "lambda_min"],
)
@pytest.mark.parametrize("steps", [1, 5])
def test_a_grid_that_no_number_of_steps_has_is_not_answered_with_fewer(
    schedule: Schedule, solver: dict[str, Any], steps: int
) -> None:
    with pytest.raises(InputError) as caught:
        tableau(schedule, Solver(steps=steps, **solver))
    assert f"has no {steps + 1} different times" in caught.value.message
    assert caught.value.hint.startswith("use another spacing, or a ")
    assert caught.value.hint.endswith("larger start_time" if "start_time" in solver else "lower lambda_min")
    # What is advised works.
    tableau(schedule, Solver(steps=steps, **{**solver, "spacing": "linspace"}))
    other = {"start_time": schedule.T, "lambda_min": -5.0}
    tableau(schedule, Solver(steps=steps, **{**solver, **{key: other[key] for key in other if key in solver}}))
