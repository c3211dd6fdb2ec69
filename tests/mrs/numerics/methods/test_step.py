"""What a method gets and gives: times and process of a step, and weights that keep a clean picture."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrs.numerics.methods.step import Run, Step, clean_prediction, from_noise, weighted
from mrs.numerics.schedule import Schedule
from tests.together import together

TIMES = (100.0, 62.5, 30.0, 10.0, 0.0)


def run(prediction: str = "data", convention: str = "mr-sampler", times: tuple[float, ...] = TIMES) -> Run:
    return Run(Schedule(convention=convention), times, (1, 2, 3, 2), prediction)


def test_a_step_knows_both_of_its_ends() -> None:
    steps = [Step(run(), index) for index in range(4)]
    schedule = Schedule()
    assert [(step.u, step.t) for step in steps] == list(itertools.pairwise(TIMES))
    assert [step.order for step in steps] == [1, 2, 3, 2]
    for step in steps:
        assert (step.a_u, step.s_u) == (float(schedule.alpha(step.u)), float(schedule.sigma(step.u)))
        assert (step.a_t, step.s_t) == (float(schedule.alpha(step.t)), float(schedule.sigma(step.t)))
        assert step.h == float(schedule.half_log_snr(step.t)) - float(schedule.half_log_snr(step.u))
        assert not step.endless
    assert schedule.S == steps[0].S
    assert steps[2].h_prev == steps[1].h == steps[3].h_prev2
    assert steps[2].previous == steps[1]
    assert steps[3].history(3) == [3, 2, 1]
    assert steps[0].history(1) == [0]


def test_only_the_step_to_the_noise_free_end_is_endless() -> None:
    steps = [Step(run(convention="ir-sde"), index) for index in range(4)]
    assert [step.endless for step in steps] == [False, False, False, True]
    assert steps[3].h == math.inf
    assert steps[3].s_t == 0


@together(("prediction", "expected"), [("data", True), ("noise", False)])
def test_what_is_extrapolated(prediction: str, expected: bool) -> None:
    assert Step(run(prediction), 0).data is expected


@given(st.floats(-1e3, 1e3), st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=4), st.floats(0, 1))
def test_the_weight_of_mu_follows_from_y(state: float, b: list[float], momentum: float) -> None:
    """x and mu, and data predictions, are pictures, whose weights sum to 1; noise predictions are none."""
    padded = [*b, *[0.0] * (4 - len(b))]
    of_data = weighted(Step(run("data"), 1), state, b, noise=0.5, momentum=momentum)
    assert of_data.state + of_data.mean + math.fsum(b) == pytest.approx(1, abs=1e-11)
    of_noise = weighted(Step(run("noise"), 1), state, b, noise=0.5, momentum=momentum)
    assert of_noise.state + of_noise.mean == pytest.approx(1, abs=1e-12)
    for weights in (of_data, of_noise):
        assert weights.state == state
        assert list(weights[2:6]) == padded
        assert (weights.noise, weights.momentum) == (0.5, momentum)


def test_the_clean_prediction_is_x0() -> None:
    random = np.random.default_rng(0)
    mu, x0, eps = random.random((3, 5))
    step = Step(run("noise"), 1)
    x = mu + step.a_u * (x0 - mu) + step.s_u * eps
    assert clean_prediction(Step(run("data"), 1)) == (0, 0, 1, 0, 0, 0, 0, 0)
    weights = clean_prediction(step)
    np.testing.assert_allclose(weights.state * x + weights.mean * mu + weights.b0 * eps, x0, rtol=1e-12)
    assert weights[3:] == (0, 0, 0, 0, 0)


def test_a_step_in_eps_is_the_same_with_either_prediction() -> None:
    random = np.random.default_rng(1)
    mu, x0, eps = random.random((3, 5))
    found = []
    for prediction, q in (("data", x0), ("noise", eps)):
        step = Step(run(prediction), 2)
        x = mu + step.a_u * (x0 - mu) + step.s_u * eps
        weights = from_noise(step, 1.25, -0.5, noise=0.125)
        found.append(weights.state * x + weights.mean * mu + weights.b0 * q)
        assert weights.noise == 0.125
        np.testing.assert_allclose(found[-1], mu + 1.25 * (x - mu) - 0.5 * eps, rtol=1e-12)
