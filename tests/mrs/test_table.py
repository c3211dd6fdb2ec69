"""Tables keep the invariants of the process, converge as they should, and end as their settings say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrs.grids import GRIDS
from mrs.kernels.row import Row
from mrs.methods import METHODS, multistep
from mrs.reference import sample
from mrs.runtime.errors import InputError
from mrs.schedule import CONVENTIONS, KINDS, Schedule
from mrs.solver import LAST_STEPS, OUTPUTS, PREDICTIONS, SPACINGS, Solver
from mrs.table import Table, step_order, tableau

ORDERS = [(method, order) for method, facts in METHODS.items() for order in facts.orders]
each_order = pytest.mark.parametrize(("method", "order"), ORDERS)
each_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)
each_convention = pytest.mark.parametrize("convention", CONVENTIONS)
SHAPE = (1, 3, 4, 5)
# Grids that end at t = 0.
TO_ZERO = ("linspace", "leading", "karras-n", "linear-lambda")


def weights(table: Table) -> Any:
    """All rows, shape (steps, 9)."""
    return np.array(table.rows)


def answer(output: str, schedule: Schedule, t: float, mu: Any, x0: Any, eps: Any) -> Any:
    """What a network with this output says where it believes in x0 and eps."""
    a, s, S = float(schedule.alpha(t)), float(schedule.sigma(t)), schedule.S
    return {"noise": eps, "data": x0, "velocity": a * S * eps - s / S * (x0 - mu)}[output]


def curved(schedule: Schedule, output: str) -> Callable[[Any, Any, float], Any]:
    """A network that is not linear, in x or in t."""

    def network(x: Any, mu: Any, t: float) -> Any:
        a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
        eps = s * (x - a * (0.5 + 0.4 * np.sin(4 * mu)) - (1 - a) * mu) / (a**2 * 0.15**2 + s**2)
        eps = eps + 0.05 * np.sin(5 * x + t / 20)
        return answer(output, schedule, t, mu, (x - (1 - a) * mu - s * eps) / a, eps)

    return network


# Structure


@each_order
def test_what_a_table_holds(method: str, order: int) -> None:
    schedule = Schedule(max_sigma=51)
    table = tableau(schedule, Solver(method, order, steps=4, clamp="unit"))
    assert table.times == (100.0, 75.0, 50.0, 25.0, 0.0)
    assert all(type(time) is float for time in table.times)
    assert len(table.rows) == 4
    assert all(type(row) is Row and all(type(weight) is float for weight in row) for row in table.rows)
    assert table.start == pytest.approx(0.2)
    assert table.clamp is True
    assert tableau(schedule, Solver(method, order)).clamp is False
    assert table.draws == (4 if method in ("sde", "posterior") else 0)
    assert hash(table) == hash(tableau(schedule, Solver(method, order, steps=4, clamp="unit")))


@pytest.mark.parametrize("output", ["", "x0", "eps", "Noise", "v", None], ids=str)
def test_an_unknown_output_is_refused(output: Any) -> None:
    with pytest.raises(InputError) as caught:
        tableau(Schedule(), Solver(), output)
    assert repr(output) in caught.value.message
    assert caught.value.hint == "use one of noise, data, velocity"


def test_a_grid_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=r"lambda_min 9\.0 leaves no time"):
        tableau(Schedule(), Solver(lambda_min=9.0))
    with pytest.raises(InputError, match="'leading' has no 201 different times"):
        tableau(Schedule(), Solver(spacing="leading", steps=200))


# Orders of the steps


@pytest.mark.parametrize(
    ("order", "steps", "last_step", "expected"),
    [
        # Published: up with the history; below 10 steps, down again before the last; the last in full.
        (1, 5, "published", [1, 1, 1, 1, 1]),
        (2, 1, "published", [1]),
        (2, 2, "published", [1, 2]),
        (2, 3, "published", [1, 1, 2]),
        (2, 4, "published", [1, 2, 1, 2]),
        (2, 5, "published", [1, 2, 2, 1, 2]),
        (2, 9, "published", [1, 2, 2, 2, 2, 2, 2, 1, 2]),
        (2, 10, "published", [1, 2, 2, 2, 2, 2, 2, 2, 2, 2]),
        (3, 1, "published", [1]),
        (3, 2, "published", [1, 2]),
        (3, 3, "published", [1, 2, 3]),
        (3, 4, "published", [1, 2, 1, 3]),
        (3, 5, "published", [1, 2, 2, 1, 3]),
        (3, 6, "published", [1, 2, 3, 2, 1, 3]),
        (3, 9, "published", [1, 2, 3, 3, 3, 3, 2, 1, 3]),
        (3, 10, "published", [1, 2, 3, 3, 3, 3, 3, 3, 3, 3]),
        # Down to 1 at the last step, at any number of steps.
        (1, 3, "lower-order", [1, 1, 1]),
        (2, 1, "lower-order", [1]),
        (2, 2, "lower-order", [1, 1]),
        (2, 3, "lower-order", [1, 2, 1]),
        (2, 5, "lower-order", [1, 2, 2, 2, 1]),
        (2, 11, "lower-order", [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]),
        (3, 2, "lower-order", [1, 1]),
        (3, 3, "lower-order", [1, 2, 1]),
        (3, 4, "lower-order", [1, 2, 2, 1]),
        (3, 5, "lower-order", [1, 2, 3, 2, 1]),
        (3, 11, "lower-order", [1, 2, 3, 3, 3, 3, 3, 3, 3, 2, 1]),
    ],
)
def test_order_of_each_step(order: int, steps: int, last_step: str, expected: list[int]) -> None:
    solver = Solver("ode", order, steps=steps, last_step=last_step)
    assert [step_order(solver, index) for index in range(steps)] == expected
    # And the rows are of that order.
    assert [row.history + 1 for row in tableau(Schedule(), solver).rows] == expected


# Finite, and summing to one


@pytest.mark.parametrize("spacing", SPACINGS)
@each_convention
@each_order
def test_weights_are_finite_and_bounded(method: str, order: int, convention: str, spacing: str) -> None:
    for kind, max_sigma in itertools.product(KINDS, (10, 50)):
        schedule = Schedule(kind, max_sigma, convention=convention)
        for prediction, steps, last_step in itertools.product(PREDICTIONS, (1, 2, 3, 5, 10, 50), LAST_STEPS):
            solver = Solver(method, order, prediction, steps, spacing, last_step=last_step)
            for output in OUTPUTS:
                assert np.isfinite(weights(tableau(schedule, solver, output))).all(), (solver, output)
            if prediction == "data" and method != "ode":
                # With the prediction as it is: a picture is made of less than two of each picture.
                assert np.abs(weights(tableau(schedule, solver, "data"))[:, 3:8]).max() < 4, solver


@given(
    st.builds(
        Schedule,
        kind=st.sampled_from(KINDS),
        max_sigma=st.floats(1, 255),
        eps=st.floats(1e-4, 0.5),
        T=st.sampled_from([60, 120, 1200]),
        convention=st.sampled_from(CONVENTIONS),
    ),
    st.sampled_from(ORDERS),
    st.sampled_from([1, 2, 3, 4, 5, 6, 10, 12, 20, 60]),
    st.sampled_from(LAST_STEPS),
    st.booleans(),
    st.sampled_from(["linspace", "leading"]),
    st.sampled_from(OUTPUTS),
)
@settings(max_examples=200)
def test_weights_on_pictures_sum_to_one(
    schedule: Schedule,
    choice: tuple[str, int],
    steps: int,
    last_step: str,
    denoise_last: bool,
    spacing: str,
    output: str,
) -> None:
    """x, mu and predictions of x0 are pictures: if all are one picture, x' is too. Noise predictions are not."""
    steps = min(steps, schedule.T - 1) if spacing == "leading" else steps
    shared: Any = {"steps": steps, "spacing": spacing, "lambda_min": -math.inf}
    shared |= {"denoise_last": denoise_last, "last_step": last_step}
    table = tableau(schedule, Solver(*choice, "data", **shared), output)
    assert all(time == int(time) for time in table.times)
    rows = weights(table)
    np.testing.assert_allclose(rows[:, 3:8].sum(axis=1), 1, rtol=0, atol=1e-11)
    # So is the prediction itself, from an output that is a picture; the other outputs are 0 for a clean picture.
    of_q0 = rows[:, :3] if output == "data" else rows[:, :2]
    np.testing.assert_allclose(of_q0.sum(axis=1), 1, rtol=0, atol=1e-9)
    rows = weights(tableau(schedule, Solver(*choice, "noise", **shared), output))
    np.testing.assert_allclose(rows[:, 3:5].sum(axis=1), 1, rtol=0, atol=1e-9)
    scale = np.abs(rows[:, :3]).max(axis=1)
    of_eps = rows[:, :3] if output == "data" else rows[:, :2]
    np.testing.assert_allclose(of_eps.sum(axis=1) / scale, 0, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("spacing", "bound"),
    [("linspace", 0.01), ("trailing", 0.01), ("karras-n", 0.05), ("karras-t", 0.05), ("linear-lambda", 0.05)],
)
@each_convention
def test_between_whole_times_the_sum_is_nearly_one(convention: str, spacing: str, bound: float) -> None:
    """Not exactly: the published code, and so the table, interpolates a, s and lam each on its own line.

    h is then not the logarithm of the ratios of a and s that stand beside it. The more a grid visits times near 0,
    where the three are most curved, the more is lost.
    """
    worst = 0.0
    for kind, max_sigma in itertools.product(KINDS, (10, 50, 255)):
        schedule = Schedule(kind, max_sigma, convention=convention)
        for (method, order), steps in itertools.product(ORDERS, (3, 7, 13, 50)):
            try:
                table = tableau(schedule, Solver(method, order, "data", steps, spacing))
            except InputError:
                continue  # a few `trailing` grids with a start time dropped
            error = float(np.abs(weights(table)[:, 3:8].sum(axis=1) - 1).max())
            if method == "posterior":
                assert error < 1e-12
            worst = max(worst, error)
    assert 1e-6 < worst < bound


@pytest.mark.parametrize("output", OUTPUTS)
@each_prediction
@each_order
def test_a_clean_picture_is_a_fixed_point(method: str, order: int, prediction: str, output: str) -> None:
    mu = np.random.default_rng(0).random(SHAPE)
    nothing = np.zeros((10, *SHAPE))
    for convention, steps, last_step, denoise_last in itertools.product(
        CONVENTIONS, (1, 2, 5, 10), LAST_STEPS, (False, True)
    ):
        schedule = Schedule(convention=convention)
        solver = Solver(method, order, prediction, steps, last_step=last_step, denoise_last=denoise_last)
        result = sample(
            lambda x, mu, t, schedule=schedule: answer(output, schedule, t, mu, x, np.zeros_like(x)),
            mu, tableau(schedule, solver, output), noise=nothing, init_noise=nothing[0], clamp=False,
        )  # fmt: skip
        np.testing.assert_allclose(result, mu, rtol=0, atol=1e-11)


@pytest.mark.parametrize("output", OUTPUTS)
@each_prediction
@pytest.mark.parametrize("order", [1, 2, 3])
@each_convention
def test_the_ode_follows_a_network_that_knows_the_truth(
    convention: str, order: int, prediction: str, output: str
) -> None:
    """Where x0 and eps never change there is nothing to extrapolate: any number of steps is exact."""
    schedule = Schedule(convention=convention)
    random = np.random.default_rng(1)
    mu, x0, z = random.random(SHAPE), random.random(SHAPE), random.standard_normal(SHAPE)
    eps = (schedule.S * z - schedule.alphas[-1] * (x0 - mu)) / schedule.sigmas[-1]
    expected = mu + schedule.alphas[0] * (x0 - mu) + schedule.sigmas[0] * eps
    for steps in (1, 2, 4, 20):
        result = sample(
            lambda x, mu, t: answer(output, schedule, t, mu, x0, eps),
            mu, tableau(schedule, Solver("ode", order, prediction, steps), output), init_noise=z, clamp=False,
        )  # fmt: skip
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10)


# Outputs and predictions


@each_prediction
@each_order
def test_three_outputs_are_one_trajectory(method: str, order: int, prediction: str) -> None:
    mu = np.random.default_rng(2).random(SHAPE)
    noise = np.random.default_rng(3).standard_normal((11, *SHAPE))
    for convention, spacing, steps in itertools.product(CONVENTIONS, ("linspace", "karras-t"), (5, 10)):
        schedule = Schedule(convention=convention)
        solver = Solver(method, order, prediction, steps, spacing)
        noisy, data, velocity = (
            sample(curved(schedule, output), mu, tableau(schedule, solver, output), noise[1:], noise[0], clamp=False)
            for output in ("noise", "data", "velocity")
        )
        np.testing.assert_allclose(data, noisy, rtol=0, atol=1e-10)
        # Velocity is x0 times a^2 + (s / S)^2, which is 1 at whole times only.
        np.testing.assert_allclose(velocity, noisy, rtol=0, atol=1e-10 if spacing == "linspace" else 1e-2)


@pytest.mark.parametrize("order", [1, 2, 3])
@each_convention
def test_data_and_noise_prediction_agree_more_with_more_steps(convention: str, order: int) -> None:
    schedule = Schedule(convention=convention)
    mu = np.random.default_rng(4).random(SHAPE)
    z = np.random.default_rng(5).standard_normal(SHAPE)
    apart = []
    for steps in (10, 25, 50, 100):
        ends = [
            sample(
                curved(schedule, "noise"), mu, tableau(schedule, Solver("ode", order, prediction, steps)),
                init_noise=z, clamp=False,
            )
            for prediction in PREDICTIONS
        ]  # fmt: skip
        apart.append(float(np.abs(ends[0] - ends[1]).max()))
    if order == 1:
        # At order 1 they are one method: q0 = (x - ...) / a and exact linear parts.
        assert max(apart) < 1e-10
    else:
        assert sorted(apart, reverse=True) == apart
        assert apart[-1] < 1e-3 < 1e-2 < apart[0]


# The end


@pytest.mark.parametrize("spacing", TO_ZERO)
@each_order
def test_without_noise_at_time_0_the_last_row_is_the_prediction(method: str, order: int, spacing: str) -> None:
    schedule = Schedule(convention="ir-sde")
    for steps, last_step, output in itertools.product((1, 2, 5, 12), LAST_STEPS, OUTPUTS):
        table = tableau(schedule, Solver(method, order, "data", steps, spacing, last_step=last_step), output)
        assert table.times[-1] == 0
        assert table.rows[-1][3:] == (0, 0, 1, 0, 0, 0)
        table = tableau(schedule, Solver(method, order, "noise", steps, spacing, last_step=last_step), output)
        a, s = float(schedule.alpha(table.times[-2])), float(schedule.sigma(table.times[-2]))
        np.testing.assert_allclose(table.rows[-1][3:], (1 / a, 1 - 1 / a, -s / a, 0, 0, 0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("output", OUTPUTS)
@each_prediction
@each_convention
@each_order
def test_denoise_last_ends_in_the_data_prediction(
    method: str, order: int, convention: str, prediction: str, output: str
) -> None:
    schedule = Schedule(convention=convention)
    solver = Solver(method, order, prediction, 5)
    plain = tableau(schedule, solver, output)
    ending = tableau(schedule, Solver(method, order, prediction, 5, denoise_last=True), output)
    assert ending.rows[:-1] == plain.rows[:-1]
    assert ending.times == plain.times
    assert ending.rows[-1].n == 0
    states = []

    def spy(x: Any, mu: Any, t: float) -> Any:
        a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
        eps = curved(schedule, "noise")(x, mu, t)
        states.append((x - (1 - a) * mu - s * eps) / a)
        return curved(schedule, output)(x, mu, t)

    result = sample(spy, np.random.default_rng(6).random(SHAPE), ending, clamp=False)
    np.testing.assert_allclose(result, states[-1], rtol=0, atol=1e-11)


# Convergence to exact solutions: where x0 - mu is normal with mean 0 and standard deviation c in every pixel, the
# optimal eps is s (x - mu) / v with v = a^2 c^2 + s^2, the variance of x - mu, and the flow scales x - mu by sqrt(v).

SPREADS = np.array([0.05, 0.1, 0.2, 0.3, 0.5])


def variance(schedule: Schedule, t: float, spread: Any) -> Any:
    """Of x - mu at a whole time."""
    return schedule.alphas[int(t)] ** 2 * spread**2 + schedule.sigmas[int(t)] ** 2


def optimal(schedule: Schedule, spread: Any) -> Callable[[Any, Any, float], Any]:
    return lambda x, mu, t: schedule.sigmas[int(t)] * (x - mu) / variance(schedule, t, spread)


@pytest.fixture
def fine_grid(monkeypatch: pytest.MonkeyPatch) -> Schedule:
    """A schedule so fine that equal steps of lam fall on whole times, where nothing is interpolated.

    `linspace` becomes that grid, from T to T / 100: towards t = 0 lam has no bound, and a step that crosses it does
    not become short however many there are.
    """

    def equal_in_lam(schedule: Schedule, steps: int, last: int, lambda_min: float) -> Any:
        lam, times = schedule.half_log_snrs, np.arange(schedule.T + 1.0)
        return np.rint(np.interp(np.linspace(lam[-1], lam[schedule.T // 100], steps + 1), lam[::-1], times[::-1]))

    monkeypatch.setitem(GRIDS, "linspace", equal_in_lam)
    return Schedule("constant", T=1_000_000)


def measured_order(schedule: Schedule, order: int, prediction: str) -> float:
    errors = []
    for steps in (80, 160, 320):
        table = tableau(schedule, Solver("ode", order, prediction, steps, lambda_min=-math.inf))
        mu = np.full((1, 1, 1, SPREADS.size), 0.5)
        x = sample(optimal(schedule, SPREADS), mu, table, init_noise=np.ones_like(mu), clamp=False)
        first, last = (variance(schedule, table.times[end], SPREADS) for end in (0, -1))
        errors.append(float(np.sqrt(np.mean((x - mu - schedule.S * np.sqrt(last / first)) ** 2))))
    slopes = [math.log2(errors[i] / errors[i + 1]) for i in range(2)]
    assert max(slopes) - min(slopes) < 0.2, slopes
    return slopes[-1]


@each_prediction
@pytest.mark.parametrize(("order", "expected"), [(1, 1), (2, 2), (3, 2)])
def test_order_of_convergence(fine_grid: Schedule, order: int, expected: int, prediction: str) -> None:
    """Order 3 as published is of order 2, for the reason that the next test gives."""
    assert measured_order(fine_grid, order, prediction) == pytest.approx(expected, abs=0.1)


@each_prediction
def test_the_published_third_order_lacks_half_of_its_second_difference(
    fine_grid: Schedule, monkeypatch: pytest.MonkeyPatch, prediction: str
) -> None:
    """Its D2 = (E0 - E1) / (r + r1) is the divided difference h^2 q''/2, where the expansion needs h^2 q''.

    With twice the weight it is of order 3, but no longer what was published (golden case 1 differs by 3 %).
    """
    published = multistep._on_history

    def doubled(step: Any, order: int, w0: float, w1: float, w2: float) -> Any:
        return published(step, order, w0, w1, 2 * w2)

    monkeypatch.setattr(multistep, "_on_history", doubled)
    assert measured_order(fine_grid, 3, prediction) == pytest.approx(3, abs=0.2)


def exact_variance(schedule: Schedule, table: Table, spread: float) -> float:
    """Variance of the final state, without chance: pixel k carries the part of the k-th noise alone."""
    draws = np.eye(len(table.rows) + 1).reshape(-1, 1, 1, 1, len(table.rows) + 1)
    parts = sample(optimal(schedule, spread), np.zeros_like(draws[0]), table, draws[1:], draws[0], clamp=False)
    return float((parts**2).sum())


STOCHASTIC = [
    (method, order, prediction) for method, order in ORDERS if METHODS[method].stochastic for prediction in PREDICTIONS
]


@pytest.mark.parametrize("spread", [0.1, 0.3])
@each_convention
@pytest.mark.parametrize(("method", "order", "prediction"), STOCHASTIC)
def test_variance_converges(method: str, order: int, prediction: str, convention: str, spread: float) -> None:
    schedule = Schedule(T=800, convention=convention)
    target = variance(schedule, 0, spread)
    errors = [
        abs(exact_variance(schedule, tableau(schedule, Solver(method, order, prediction, steps)), spread) / target - 1)
        for steps in (100, 800)
    ]
    # With eight times the steps.
    assert errors[1] < errors[0] / (3 if order == 1 else 16)
    assert errors[1] < (0.015 if order == 1 else 5e-4)


@each_convention
@pytest.mark.parametrize(("method", "order", "prediction"), STOCHASTIC)
def test_mean_and_variance_of_pictures(method: str, order: int, prediction: str, convention: str) -> None:
    """The draws of the seed behave as independent: with them the variance is that of the weights."""
    schedule = Schedule(convention=convention)
    table = tableau(schedule, Solver(method, order, prediction, 20))
    mu = np.full((2, 3, 64, 64), 0.4)
    x = sample(optimal(schedule, 0.2), mu, table, seed=1, clamp=False) - mu
    expected = exact_variance(schedule, table, 0.2)
    # Five standard deviations of the estimates.
    assert abs(x.mean()) < 5 * math.sqrt(expected / x.size)
    assert abs(x.var() / expected - 1) < 5 * math.sqrt(2 / x.size)


# Posterior sampling


@each_convention
@pytest.mark.parametrize("steps", [1, 2, 5, 10, 50, 100])
def test_posterior_is_bayes(convention: str, steps: int) -> None:
    """Of x_t given x_u and x0, with both pieces of evidence written out as normal distributions."""
    schedule = Schedule(convention=convention)
    table = tableau(schedule, Solver("posterior", 1, steps=steps), "data")
    for row, u, t in zip(table.rows, table.times, table.times[1:], strict=False):
        (a_u, s_u), (a_t, s_t) = ((schedule.alphas[int(time)], schedule.sigmas[int(time)]) for time in (u, t))
        if s_t == 0:
            assert row == Row(0, 0, 1, 0, 0, 1)
            continue
        # y = x - mu: from x0, y_t = a_t y_0 + s_t e; and y_u = A y_t + sqrt(v) e'.
        A = a_u / a_t
        v = s_u**2 - A**2 * s_t**2
        precision = 1 / s_t**2 + A**2 / v
        of_x, of_x0 = A / v / precision, a_t / s_t**2 / precision
        np.testing.assert_allclose(
            row[3:], (of_x, 1 - of_x - of_x0, of_x0, 0, 0, math.sqrt(1 / precision)), rtol=1e-7, atol=1e-9
        )


@each_convention
def test_posterior_is_the_first_order_sde(convention: str) -> None:
    """Re-strided as here, posterior sampling and SDE-1 in data prediction are one method at whole times."""
    schedule = Schedule(convention=convention)
    for steps in (1, 4, 10, 100):
        tables = [tableau(schedule, Solver(method, 1, "data", steps)) for method in ("posterior", "sde")]
        np.testing.assert_allclose(weights(tables[0]), weights(tables[1]), rtol=0, atol=1e-10)


@each_prediction
@pytest.mark.parametrize("spacing", ["karras-n", "linear-lambda", "linspace"])
def test_posterior_stays_an_average_close_to_time_0(spacing: str, prediction: str) -> None:
    """Below t = 1 the tables' a and s do not satisfy s^2 = S^2 (1 - a^2): weights made of both once reached 10^9."""
    for kind, max_sigma in itertools.product(KINDS, (10, 255)):
        schedule = Schedule(kind, max_sigma, convention="ir-sde")
        rows = weights(tableau(schedule, Solver("posterior", 1, prediction, 150, spacing, -math.inf), "noise"))
        assert np.isfinite(rows).all()
        if prediction == "data":
            assert rows[:, [3, 5]].min() >= 0
            assert rows[:, [3, 5]].sum(axis=1).max() < 1.05
        assert (rows[:, 8] <= schedule.S).all()
        assert (rows[:-1, 8] > 0).all()
