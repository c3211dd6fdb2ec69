"""UniPC's rows are the published predictor-corrector loop, although no corrected state exists in them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mrs.numerics.schedule import CONVENTIONS, Schedule
from mrs.numerics.solver import PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from tests.together import together

each_prediction = together("prediction", PREDICTIONS)
each_convention = together("convention", CONVENTIONS)
each_variant = together("variant", [1, 2])


def rates(count: int, ratios: list[float], hh: float, B: float) -> Any:
    """Solution of R rho = b, the order conditions of the paper (eq. 8-9), for this many differences."""
    R = np.vander(np.array(ratios[:count]), count, increasing=True).T
    b, part = [], math.expm1(hh) / hh - 1
    for n in range(1, count + 1):
        b.append(part * math.factorial(n) / B)
        part = part / hh - 1 / math.factorial(n + 1)
    return np.linalg.solve(R, b)


def unipc(
    schedule: Schedule, prediction: str, variant: int, times: tuple[float, ...], orders: list[int],
    y: Any, believe: Callable[[str, Any, float], Any],
) -> Any:  # fmt: skip
    """Algorithms 5-8 of arXiv 2302.04867 in y: predict, evaluate there, correct, go on from the corrected state."""
    a, s, lam = schedule.alpha(times), schedule.sigma(times), schedule.half_log_snr(times)
    data = prediction == "data"
    known = [believe(prediction, y, times[0])]
    predicted = y
    for i, order in enumerate(orders):
        last = i == len(orders) - 1
        if s[i + 1] == 0:
            # From the corrected state, with the prediction that was made at the predicted one.
            return known[0] if data else (y - s[i] * known[0]) / a[i]
        h = lam[i + 1] - lam[i]
        hh = -h if data else h
        B = hh if variant == 1 else math.expm1(hh)
        scale = a[i + 1] if data else s[i + 1]
        linear = (s[i + 1] / s[i] if data else a[i + 1] / a[i]) * y - scale * math.expm1(hh) * known[0]
        ratios = [(lam[i - k] - lam[i]) / h for k in range(1, order)]
        slopes = [(known[k] - known[0]) / ratio for k, ratio in zip(range(1, order), ratios, strict=True)]
        # The paper takes 1/2 where one difference is left, instead of its solution.
        rho = rates(order - 1, ratios, hh, B) if order > 2 else [0.5] * (order - 1)
        predicted = linear - scale * B * sum((r * slope for r, slope in zip(rho, slopes, strict=True)), 0 * y)
        if last:
            break
        new = believe(prediction, predicted, times[i + 1])
        rho = rates(order, [*ratios, 1.0], hh, B) if order > 1 else [0.5]
        slopes.append(new - known[0])
        y = linear - scale * B * sum(r * slope for r, slope in zip(rho, slopes, strict=True))
        known.insert(0, new)
    return predicted


@each_prediction
@each_variant
@each_convention
@together("spacing", ["linspace", "karras-n"])
@together("order", [2, 3])
def test_rows_are_the_published_loop(
    order: int, spacing: str, convention: str, variant: int, prediction: str,
    z: Any, solve: Callable[..., Any], belief: Callable[..., Any],
) -> None:  # fmt: skip
    schedule = Schedule(convention=convention, interpolation="exact")
    for steps in (1, 2, 3, 4, 7, 12):
        for last_step in ("full", "lower-order"):
            solver = Solver(f"unipc-b{variant}", order, prediction, steps, spacing, last_step=last_step)
            left = (steps - i if last_step == "lower-order" else order for i in range(steps))
            expected = unipc(
                schedule, prediction, variant, tableau(schedule, solver).times,
                [min(order, i + 1, most) for i, most in enumerate(left)],
                schedule.S * z[0], lambda kind, y, t: belief(schedule, kind, y, t),
            )  # fmt: skip
            np.testing.assert_allclose(solve(schedule, solver), expected, rtol=0, atol=1e-9)


@each_prediction
@each_variant
@together("order", [2, 3])
def test_the_corrector_costs_no_evaluation(order: int, variant: int, prediction: str) -> None:
    """One row per step, and none of them at a time that another has."""
    table = tableau(Schedule(), Solver(f"unipc-b{variant}", order, prediction, 8, last_step="full"))
    assert len(table.rows) == 8
    assert len(set(table.times)) == 9
    # It looks back one prediction further than the predictor alone.
    assert [row.history for row in table.rows] == [min(i, order) for i in range(8)]


@each_prediction
def test_the_variants_differ_only_where_the_order_conditions_are_not_solved(prediction: str) -> None:
    """At order 3: in the corrector of the first step, the predictor of the second, and the correction of that."""
    one, two = (
        np.array(tableau(Schedule(), Solver(f"unipc-b{variant}", 3, prediction, 9, last_step="full")).rows)
        for variant in (1, 2)
    )
    differ = np.abs(one - two).max(axis=1) > 1e-9
    assert differ.tolist() == [False, True, True, *[False] * 6]


@each_prediction
@each_variant
@each_convention
def test_one_step_is_ddim(convention: str, variant: int, prediction: str) -> None:
    schedule = Schedule(convention=convention)
    for order in (2, 3):
        table = tableau(schedule, Solver(f"unipc-b{variant}", order, prediction, 1))
        ddim = tableau(schedule, Solver("dpm++", 1, prediction, 1))
        np.testing.assert_allclose(table.rows, ddim.rows, rtol=0, atol=1e-12)
