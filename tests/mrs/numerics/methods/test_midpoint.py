"""The midpoint variants of the second order: published formulas, the methods they contain, and their neighbours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mrs.kernels.table import Row
from mrs.numerics.methods import METHODS
from mrs.numerics.schedule import CONVENTIONS, Schedule
from mrs.numerics.solver import PREDICTIONS, Solver
from mrs.numerics.tableau import tableau

each_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)
each_convention = pytest.mark.parametrize("convention", CONVENTIONS)
EXACT = Schedule(interpolation="exact")
MIDPOINTS = {"dpm++-2m": 0.0, "sde-2m": 1.0, "sa-2m": 0.6}


def solver(method: str, prediction: str, steps: int = 10, **more: Any) -> Solver:
    option = {"stochasticity": MIDPOINTS.get(method, 0.6)} if METHODS[method].option else {}
    return Solver(method, 2, prediction, steps, **option, **more)


def published(prediction: str, tau: float, lam: Any, i: int, S: float) -> tuple[float, ...]:
    """Weights on y, q0, q1 and z of the papers' and packages' formulas, from half log-SNRs alone.

    With D = (1 + 1/(2r)) q0 - q1/(2r), r = h_prev/h, eta = tau^2. Data: y' = (s_t/s_u) e^(-eta h) y - a_t (e^(-(1 +
    eta) h) - 1) D, as algorithm 2 of arXiv 2211.01095 (eta = 0) and k-diffusion's `dpmpp_2m_sde` write it. Noise: y' =
    (a_t/a_u) y - (1 + eta) s_t (e^h - 1) D, which is diffusers' `dpmsolver` (eta = 0) and `sde-dpmsolver` (eta = 1).
    """
    u, t = lam[i], lam[i + 1]
    h, eta = t - u, tau**2
    a_u, a_t = (1 / math.sqrt(1 + math.exp(-2 * at) / S**2) for at in (u, t))
    s_u, s_t = a_u * math.exp(-u), a_t * math.exp(-t)
    older = h / (2 * (u - lam[i - 1])) if i else 0.0
    if prediction == "data":
        whole = -a_t * math.expm1(-(1 + eta) * h)
        kept, noise = s_t / s_u * math.exp(-eta * h), s_t * math.sqrt(-math.expm1(-2 * eta * h))
    else:
        whole = -(1 + eta) * s_t * math.expm1(h)
        kept, noise = a_t / a_u, tau * s_t * math.sqrt(math.expm1(2 * h))
    return kept, whole * (1 + older), -whole * older, noise


@pytest.mark.parametrize("spacing", ["linspace", "karras-n"])
@each_prediction
@pytest.mark.parametrize("method", MIDPOINTS)
def test_rows_are_the_published_formula(method: str, prediction: str, spacing: str) -> None:
    table = tableau(EXACT, solver(method, prediction, spacing=spacing, last_step="full"))
    lam = EXACT.half_log_snr(table.times)
    for i, row in enumerate(table.rows):
        expected = published(prediction, MIDPOINTS[method], lam, i, EXACT.S)
        assert (row.ax, row.b0, row.b1, row.n) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert (row.b2, row.b3, row.m) == (0, 0, 0)
        pictures = (row.b0, row.b1) if prediction == "data" else ()
        assert row.am == pytest.approx(1 - row.ax - sum(pictures), abs=1e-14)


@each_convention
@each_prediction
@pytest.mark.parametrize("last_step", ["published", "lower-order", "full"])
def test_at_stochasticity_0_and_1_it_is_the_other_two(last_step: str, prediction: str, convention: str) -> None:
    schedule = Schedule(convention=convention)
    for name, tau in (("dpm++-2m", 0), ("sde-2m", 1)):
        for steps in (1, 2, 5, 10):
            more = {"steps": steps, "last_step": last_step}
            found = tableau(schedule, Solver("sa-2m", 2, prediction, stochasticity=tau, **more))
            assert found == tableau(schedule, Solver(name, 2, prediction, **more))


@each_prediction
@pytest.mark.parametrize(("midpoint", "line"), [("dpm++-2m", "dpm++"), ("sde-2m", "sde"), ("sa-2m", "sa")])
def test_steps_of_order_1_are_those_of_the_line_and_others_are_not(midpoint: str, line: str, prediction: str) -> None:
    mine, other = (
        np.array(tableau(EXACT, solver(method, prediction, 6, last_step="lower-order")).rows)
        for method in (midpoint, line)
    )
    np.testing.assert_allclose(mine[[0, -1]], other[[0, -1]], rtol=1e-11, atol=1e-13)
    b0 = Row._fields.index("b0")
    assert (np.abs(mine[1:-1, b0] - other[1:-1, b0]) > 1e-3).all()


@each_prediction
@pytest.mark.parametrize(("midpoint", "line"), [("dpm++-2m", "dpm++"), ("sde-2m", "sde"), ("sa-2m", "sa")])
def test_it_differs_from_the_line_by_the_cube_of_a_step_relative_to_its_difference_of_predictions(
    midpoint: str, line: str, prediction: str
) -> None:
    """Weights of q1 on equal steps of lam: h/2 + O(h^2) both, times a difference of predictions that is O(h)."""
    apart = []
    for count in (100, 200):
        lam = np.linspace(-2.0, 1.0, count + 1)
        # Where half log-SNR has these values: (s/a)^2 = S^2 (e^(2 Theta dt) - 1).
        Theta = 0.5 * np.log1p(np.exp(-2 * lam) / EXACT.S**2) / EXACT.dt
        times = tuple(np.interp(Theta, EXACT.Theta, np.arange(EXACT.T + 1)).tolist())
        found = [
            tableau(EXACT, solver(method, prediction, count, spacing="custom", times=times, last_step="full"))
            for method in (midpoint, line)
        ]
        apart.append(max(abs(one.b1 - other.b1) for one, other in zip(*(t.rows[1:] for t in found), strict=True)))
    assert math.log2(apart[0] / apart[1]) == pytest.approx(2, abs=0.1)
