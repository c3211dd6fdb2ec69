"""What holds for the rows of every method, schedule and grid: finite, pictures kept, outputs exchangeable, limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrs.kernels.table import Table
from mrs.numerics.methods import METHODS
from mrs.numerics.reference import sample
from mrs.numerics.schedule import CONVENTIONS, INTERPOLATIONS, KINDS, Schedule
from mrs.numerics.solver import LAST_STEPS, OUTPUTS, PREDICTIONS, SPACINGS, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError

pytestmark = pytest.mark.slow(32)

ORDERS = [(method, order) for method, facts in METHODS.items() for order in facts.orders]
each_order = pytest.mark.parametrize(("method", "order"), ORDERS)
each_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)
each_convention = pytest.mark.parametrize("convention", CONVENTIONS)
each_output = pytest.mark.parametrize("output", OUTPUTS)
GRIDS = tuple(spacing for spacing in SPACINGS if spacing != "custom")
# Grids that end at t = 0.
TO_ZERO = ("linspace", "leading", "karras-n", "linear-lambda")


def made(
    schedule: Schedule, output: str, method: str, order: int, prediction: str = "data",
    steps: int = 10, spacing: str = "linspace", **more: Any,
) -> Table:  # fmt: skip
    """A table, with an average or half of the noise where the method takes that, on its own grid where it has one."""
    facts = METHODS[method]
    if facts.times == "single":
        spacing = "linspace"
    if facts.option:
        more[facts.option] = 0.5
    return tableau(schedule, Solver(method, order, prediction, steps, spacing, **more), output)


def weights(table: Table) -> Any:
    """All rows, shape (steps, 11)."""
    return np.array(table.rows)


def picture_weights(table: Table) -> Any:
    """Of x', on x, mu and predictions."""
    return weights(table)[:, 3:9]


def answer(output: str, schedule: Schedule, t: float, mu: Any, x0: Any, eps: Any) -> Any:
    """What a network with this output says where it believes in x0 and eps."""
    a, s, S = float(schedule.alpha(t)), float(schedule.sigma(t)), schedule.S
    return {"noise": eps, "data": x0, "velocity": a * S * eps - s / S * (x0 - mu)}[output]


def speaking(output: str, schedule: Schedule, believe: Any) -> Callable[[Any, Any, float], Any]:
    """A network with this output that believes in a noise prediction."""

    def network(x: Any, mu: Any, t: float) -> Any:
        a, s, eps = float(schedule.alpha(t)), float(schedule.sigma(t)), believe(x, mu, t)
        return answer(output, schedule, t, mu, mu + (x - mu - s * eps) / a, eps)

    return network


# Finite, and summing to one


@each_convention
@each_order
def test_weights_are_finite_and_bounded(method: str, order: int, convention: str) -> None:
    outputs, last_steps = itertools.cycle(OUTPUTS), itertools.cycle(LAST_STEPS)
    sizes = (("cosine", 50, (1, 2, 3, 5, 10, 50)), ("linear", 10, (2, 4)), ("constant", 255, (3,)))
    grids = GRIDS if METHODS[method].times != "single" else ("linspace",)
    for (kind, max_sigma, numbers), spacing, prediction in itertools.product(sizes, grids, PREDICTIONS):
        schedule = Schedule(kind, max_sigma, convention=convention)
        for steps in numbers:
            table = made(schedule, next(outputs), method, order, prediction, steps, spacing, last_step=next(last_steps))
            assert np.isfinite(weights(table)).all(), (schedule, spacing, prediction, steps)
            if prediction == "data" and (order == 1 or method == "sde"):
                # A picture is made of no more than a few of each picture.
                assert np.abs(picture_weights(table)).max() < 4, (schedule, spacing, steps)


@pytest.mark.parametrize("denoise_last", [False, True])
@pytest.mark.parametrize("last_step", LAST_STEPS)
@each_output
def test_every_setting_gives_finite_weights(output: str, last_step: str, denoise_last: bool) -> None:
    for (method, order), convention, prediction in itertools.product(ORDERS, CONVENTIONS, PREDICTIONS):
        for steps in (1, 2, 4):
            table = made(
                Schedule(convention=convention), output, method, order, prediction, steps,
                denoise_last=denoise_last, last_step=last_step,
            )  # fmt: skip
            assert np.isfinite(weights(table)).all(), (method, order, convention, prediction, steps)


def assert_picture_sums(schedule: Schedule, output: str, method: str, order: int, **more: Any) -> None:
    """x, mu and predictions of x0 are pictures: if all are one picture, x' is too. Noise predictions are not."""
    table = made(schedule, output, method, order, "data", **more)
    sums, scale = picture_weights(table).sum(axis=1), 1 + np.abs(picture_weights(table)).max(axis=1)
    np.testing.assert_allclose((sums - 1) / scale, 0, rtol=0, atol=1e-11)
    # So is the prediction itself, from an output that is a picture; the other outputs are 0 for a clean picture.
    rows = weights(table)
    of_q0 = rows[:, :3] if output == "data" else rows[:, :2]
    np.testing.assert_allclose(of_q0.sum(axis=1), 1, rtol=0, atol=1e-9)
    rows = weights(made(schedule, output, method, order, "noise", **more))
    np.testing.assert_allclose((rows[:, 3:5].sum(axis=1) - 1) / np.abs(rows[:, 3]), 0, rtol=0, atol=1e-11)
    scale = np.abs(rows[:, :3]).max(axis=1)
    of_eps = rows[:, :3] if output == "data" else rows[:, :2]
    np.testing.assert_allclose(of_eps.sum(axis=1) / scale, 0, rtol=0, atol=1e-11)


def schedules(interpolations: tuple[str, ...]) -> st.SearchStrategy[Schedule]:
    return st.builds(
        Schedule,
        kind=st.sampled_from(KINDS),
        max_sigma=st.floats(1, 255),
        eps=st.floats(1e-4, 0.5),
        T=st.sampled_from([60, 120, 480]),
        convention=st.sampled_from(CONVENTIONS),
        interpolation=st.sampled_from(interpolations),
    )


@settings(max_examples=200)
@given(
    schedules(INTERPOLATIONS),
    st.sampled_from(ORDERS),
    st.sampled_from([1, 2, 3, 4, 5, 6, 10, 12, 20]),
    st.sampled_from(LAST_STEPS),
    st.booleans(),
    st.sampled_from(["linspace", "leading"]),
    st.sampled_from(OUTPUTS),
)
def test_weights_on_pictures_sum_to_one_at_whole_times(
    schedule: Schedule,
    choice: tuple[str, int],
    steps: int,
    last_step: str,
    denoise_last: bool,
    spacing: str,
    output: str,
) -> None:
    if METHODS[choice[0]].times == "pairs":
        # 1, 2, 3, 4, 5, 6, 10, 12, 20 intervals divide T, not as many evaluations.
        steps = 2 * steps - 1
    more = {"steps": steps, "spacing": spacing, "lambda_min": -math.inf}
    table = made(schedule, output, *choice, **more)
    assert all(time == int(time) for time in table.times)
    assert_picture_sums(schedule, output, *choice, **more, last_step=last_step, denoise_last=denoise_last)


@settings(max_examples=200)
@given(
    schedules(INTERPOLATIONS),
    st.sampled_from(ORDERS),
    st.integers(1, 20),
    st.sampled_from(LAST_STEPS),
    st.sampled_from(GRIDS),
    st.sampled_from(OUTPUTS),
)
def test_weights_on_pictures_sum_to_one_at_all_times(
    schedule: Schedule, choice: tuple[str, int], steps: int, last_step: str, spacing: str, output: str
) -> None:
    """With exact interpolation those of every method; else not MR Sampler's own, which the next test holds."""
    if choice[0] in ("ode", "sde"):
        schedule = replace(schedule, interpolation="exact")
    more = {"steps": steps, "spacing": spacing, "lambda_min": -math.inf, "last_step": last_step}
    assert_picture_sums(schedule, output, *choice, **more)


@each_prediction
@each_convention
@each_order
def test_at_whole_times_both_interpolations_are_one(method: str, order: int, convention: str, prediction: str) -> None:
    # DEIS integrates over the times between, too.
    tolerance = 1e-2 if method == "deis" else 1e-11
    both = []
    for interpolation in INTERPOLATIONS:
        schedule = Schedule(convention=convention, interpolation=interpolation)
        table = made(schedule, "noise", method, order, prediction, 9 if METHODS[method].times == "pairs" else 10)
        assert all(time == int(time) for time in table.times)
        both.append(weights(table))
    np.testing.assert_allclose(both[0], both[1], rtol=0, atol=tolerance * np.abs(both[0]).max())


@pytest.mark.parametrize(
    ("spacing", "bound"),
    [("linspace", 0.01), ("trailing", 0.01), ("karras-n", 0.05), ("karras-t", 0.05), ("linear-lambda", 0.05)],
)
@each_convention
def test_between_whole_times_the_published_sum_is_nearly_one(convention: str, spacing: str, bound: float) -> None:
    """Not exactly: the published code, and so the table, interpolates a, s and lam each on its own line.

    h is then not the logarithm of the ratios of a and s that stand beside it. The more a grid visits times near 0,
    where the three are most curved, the more is lost.
    """
    worst = 0.0
    for kind, max_sigma in itertools.product(KINDS, (10, 50, 255)):
        schedule = Schedule(kind, max_sigma, convention=convention)
        for (method, order), steps in itertools.product(ORDERS, (3, 7, 13, 50)):
            if method not in ("ode", "sde"):
                continue
            try:
                table = made(schedule, "noise", method, order, "data", steps, spacing)
            except InputError:
                continue  # a few `trailing` grids with a start time dropped
            worst = max(worst, float(np.abs(picture_weights(table).sum(axis=1) - 1).max()))
    assert 1e-6 < worst < bound


@each_output
@each_prediction
@each_order
def test_a_clean_picture_is_a_fixed_point(method: str, order: int, prediction: str, output: str, mu: Any) -> None:
    nothing = np.zeros((10, *mu.shape))
    last_steps = itertools.cycle(LAST_STEPS)
    for convention, steps, denoise_last in itertools.product(CONVENTIONS, (1, 2, 5, 10), (False, True)):
        schedule = Schedule(convention=convention)
        table = made(
            schedule, output, method, order, prediction, steps,
            last_step=next(last_steps), denoise_last=denoise_last,
        )  # fmt: skip
        result = sample(
            lambda x, mu, t, schedule=schedule: answer(output, schedule, t, mu, x, np.zeros_like(x)),
            mu, table, noise=nothing, init_noise=nothing[0], clamp=False,
        )  # fmt: skip
        np.testing.assert_allclose(result, mu, rtol=0, atol=1e-10)


# Outputs


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@each_prediction
@each_order
def test_three_outputs_are_one_trajectory(
    method: str, order: int, prediction: str, interpolation: str, mu: Any, z: Any, predict: Callable[..., Any]
) -> None:
    for convention, (spacing, steps) in itertools.product(CONVENTIONS, (("linspace", 10), ("karras-t", 5))):
        schedule = Schedule(convention=convention, interpolation=interpolation)
        tables = {output: made(schedule, output, method, order, prediction, steps, spacing) for output in OUTPUTS}
        noise, data, velocity = (
            sample(speaking(output, schedule, predict(schedule)), mu, table, z[1:], z[0], clamp=False)
            for output, table in tables.items()
        )
        scale = max(1.0, float(np.abs(noise).max()))
        np.testing.assert_allclose(data, noise, rtol=0, atol=1e-9 * scale)
        # Velocity is x0 times a^2 + (s / S)^2, which at times between is 1 with exact interpolation only.
        together = interpolation == "exact" or all(time == int(time) for time in tables["noise"].times)
        np.testing.assert_allclose(velocity, noise, rtol=0, atol=(1e-9 if together else 2e-2) * scale)


# The end


# An end without noise lies infinitely far away in lam, but not in t or in s/a.
IN_LAM = [choice for choice in ORDERS if choice[0] not in ("deis", "ipndm", "ghvb", "euler-sde", "euler-ode")]


@pytest.mark.parametrize("spacing", TO_ZERO)
@pytest.mark.parametrize(("method", "order"), IN_LAM)
def test_a_step_in_lam_to_the_noise_free_end_is_the_prediction_of_x0(method: str, order: int, spacing: str) -> None:
    schedule = Schedule(convention="ir-sde")
    outputs = itertools.cycle(OUTPUTS)
    for steps, last_step in itertools.product((1, 2, 5, 12), LAST_STEPS):
        output = next(outputs)
        table = made(schedule, output, method, order, "data", steps, spacing, last_step=last_step)
        assert table.times[-1] == 0
        np.testing.assert_allclose(table.rows[-1][3:], (0, 0, 1, 0, 0, 0, 0, 0), rtol=0, atol=1e-12)
        assert table.rows[-1].n == 0
        row = made(schedule, output, method, order, "noise", steps, spacing, last_step=last_step).rows[-1]
        a, s = float(schedule.alpha(table.times[-2])), float(schedule.sigma(table.times[-2]))
        expected = (1 / a, 1 - 1 / a, -s / a, 0, 0, 0, 0, 0)
        if method.startswith("unipc") and steps > 1:
            # x0 from the corrected state: the correction is added, on predictions alone.
            assert row[3:5] == pytest.approx(expected[:2], rel=1e-12)
            assert row.n == 0
            continue
        np.testing.assert_allclose(row[3:], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("spacing", TO_ZERO)
@pytest.mark.parametrize(("method", "order"), [choice for choice in ORDERS if choice[0] in ("deis", "ipndm", "ghvb")])
def test_a_step_of_order_1_to_the_noise_free_end_is_the_prediction_of_x0(method: str, order: int, spacing: str) -> None:
    """The other steps extrapolate to that end, which in t and in s/a is not far."""
    schedule = Schedule(convention="ir-sde")
    for steps in (1, 2, 5, 12):
        row = made(schedule, "data", method, order, "data", steps, spacing, last_step="lower-order").rows[-1]
        np.testing.assert_allclose(row[3:10], (0, 0, 1, 0, 0, 0, 0), rtol=0, atol=1e-12)
        if order > 1 < steps:
            row = made(schedule, "data", method, order, "data", steps, spacing, last_step="full").rows[-1]
            assert row.ax == 0
            assert row.b0 > 1
            assert row.b1 < 0
