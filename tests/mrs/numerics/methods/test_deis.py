"""DEIS's weights are the integrals of its paper, by brute force over the schedule as it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mrs.numerics.schedule import CONVENTIONS, INTERPOLATIONS, KINDS, Schedule
from mrs.numerics.solver import PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from tests.together import together

each_prediction = together("prediction", PREDICTIONS)
each_convention = together("convention", CONVENTIONS)
CELLS = 2000


def brute_force(schedule: Schedule, prediction: str, times: tuple[float, ...], order: int) -> list[float]:
    """int L_j(t) dg from times[-2] to times[-1] for the last `order` times before the end, as a sum over small cells.

    g is s/a, or a/s for a data prediction; L_j the Lagrange polynomial in t. Cells become short towards t = 0, where s
    may begin with an infinite slope.
    """
    u, t = times[-2:]
    whole = np.arange(math.ceil(t), math.floor(u) + 1)
    edges = t + (u - t) * np.linspace(0, 1, CELLS * max(1, round(u - t)) + 1) ** 2
    edges = np.unique(np.concatenate([edges, whole]))
    a, s = schedule.alpha(edges), schedule.sigma(edges)
    g = a / s if prediction == "data" else s / a
    middle = (edges[1:] + edges[:-1]) / 2
    nodes = times[-2 : -2 - order : -1]
    found = []
    for j, node in enumerate(nodes):
        others = [other for k, other in enumerate(nodes) if k != j]
        lagrange = np.prod([(middle - other) / (node - other) for other in others], axis=0)
        # From u to t, against the order of the edges.
        found.append(-float(np.sum(lagrange * np.diff(g))))
    return found


def at_end(times: tuple[float, ...], order: int) -> list[float]:
    """Values at the last time of the polynomials that are 1 at one of `order` times before it and 0 at the others."""
    nodes = times[-2 : -2 - order : -1]
    return [math.prod((times[-1] - k) / (node - k) for k in nodes if k != node) for node in nodes]


@together("order", [1, 2, 3])
@each_prediction
@together("interpolation", INTERPOLATIONS)
@each_convention
@together("kind", KINDS)
def test_weights_are_the_integrals(kind: str, convention: str, interpolation: str, prediction: str, order: int) -> None:
    schedule = Schedule(kind, convention=convention, interpolation=interpolation)
    for times in (
        (100.0, 60.0, 25.0, 10.0),
        (97.3, 40.5, 12.75, 12.25),
        (30.0, 9.5, 1.5, 0.25),
        (5.0, 3.0, 1.0, 0.01),
        (8.0, 4.0, 2.0, 0.0),
    ):
        solver = Solver("deis", order, prediction, 3, "custom", times=times, last_step="full")
        row = tableau(schedule, solver).rows[-1]
        (a_u, a_t), (s_u, s_t) = schedule.alpha(times[-2:]), schedule.sigma(times[-2:])
        if prediction == "data" and s_t == 0:
            # All of a/s lies at its end.
            assert row[3:5] == (0, pytest.approx(0, abs=1e-12))
            np.testing.assert_allclose(row[5:9], [*at_end(times, order), *[0.0] * (4 - order)], rtol=1e-9)
            continue
        transferred, state = (s_t, s_t / s_u) if prediction == "data" else (a_t, a_t / a_u)
        b = [transferred * part for part in brute_force(schedule, prediction, times, order)]
        assert row.ax == pytest.approx(state, rel=1e-12)
        np.testing.assert_allclose(row[5:9], [*b, *[0.0] * (4 - order)], rtol=0, atol=2e-6 * max(map(abs, b)))


@each_prediction
@each_convention
def test_a_prediction_that_is_a_parabola_in_t_is_integrated_exactly(convention: str, prediction: str) -> None:
    """Three steps of order 3 that follow the parabola take y just where its integral does."""
    schedule = Schedule(convention=convention)
    times = (90.0, 70.5, 44.0, 23.0)
    solver = Solver("deis", 3, prediction, 3, "custom", times=times, last_step="full")
    row = tableau(schedule, solver).rows[-1]

    def parabola(t: Any) -> Any:
        return 1.5 - 0.3 * t + 0.004 * t**2

    t = np.concatenate([np.linspace(left, left + 1, 2001)[:-1] for left in range(23, 44)] + [[44.0]])
    a, s = schedule.alpha(t), schedule.sigma(t)
    g = a / s if prediction == "data" else s / a
    exact = -np.sum(parabola((t[1:] + t[:-1]) / 2) * np.diff(g)) * float(s[0] if prediction == "data" else a[0])
    summed = sum(weight * parabola(time) for weight, time in zip(row[5:8], times[2::-1], strict=True))
    assert summed == pytest.approx(exact, rel=1e-7)
