"""A table: what it holds, the orders of its steps, and how it starts and ends as its settings say."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrs.kernels.table import CLAMPS, Row, Table
from mrs.numerics.methods import METHODS
from mrs.numerics.reference import sample
from mrs.numerics.schedule import CONVENTIONS, INTERPOLATIONS, Schedule
from mrs.numerics.solver import OUTPUTS, PREDICTIONS, Solver
from mrs.numerics.tableau import step_order, tableau
from mrs.runtime.errors import InputError
from tests.together import together

ORDERS = [(method, order) for method, facts in METHODS.items() for order in facts.orders]
each_order = together(("method", "order"), ORDERS)
each_prediction = together("prediction", PREDICTIONS)
each_convention = together("convention", CONVENTIONS)
each_output = together("output", OUTPUTS)
SHAPE = (1, 3, 4, 5)


def made(schedule: Schedule, method: str, order: int, output: str = "noise", **more: Any) -> Table:
    """A table, with an average or half of the noise where the method takes that."""
    option = METHODS[method].option
    return tableau(schedule, Solver(method, order, **more, **({option: 0.5} if option else {})), output)


# Structure


@each_order
def test_what_a_table_holds(method: str, order: int) -> None:
    schedule = Schedule(max_sigma=51)
    table = made(schedule, method, order, steps=4, clamp="unit")
    expected = {
        "grid": (100.0, 75.0, 50.0, 25.0, 0.0),
        "pairs": (100.0, 200 / 3, 100 / 3, 100 / 3, 0.0),
        "single": (100.0, 67.0, 34.0, 1.0, 0.0),
    }[METHODS[method].times]
    assert table.times == pytest.approx(expected, rel=1e-15)
    assert all(type(time) is float for time in table.times)
    assert len(table.rows) == 4
    assert all(type(row) is Row and all(type(weight) is float for weight in row) for row in table.rows)
    assert table.start == pytest.approx(0.2)
    stochastic = METHODS[method].stochastic or METHODS[method].option == "stochasticity"
    assert table.draws == (4 if stochastic else 0)
    assert hash(table) == hash(made(schedule, method, order, steps=4, clamp="unit"))


@together("clamp", CLAMPS)
def test_the_clamp_is_the_solvers_and_changes_no_row(clamp: str) -> None:
    table = tableau(Schedule(), Solver(clamp=clamp))
    assert table.clamp == clamp
    assert table.rows == tableau(Schedule(), Solver()).rows


@together("output", ["", "x0", "eps", "Noise", "v", None], ids=str)
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


@pytest.mark.parametrize(
    ("schedule", "solver"),
    [
        (
            Schedule(eps=1e-30),
            Solver("sa", 2, "noise", 2, "custom", times=(100, 99.99999, 1), last_step="full", stochasticity=999),
        ),
        (Schedule(convention="ir-sde"), Solver("sde", 1, "noise", 1, "custom", times=(100, 1e-200))),
    ],
    ids=["beyond float32", "beyond float64"],
)
def test_weights_that_float32_does_not_hold_are_refused(schedule: Schedule, solver: Solver) -> None:
    with pytest.raises(InputError) as caught:
        tableau(schedule, solver)
    assert caught.value.message.startswith(f"weights of {solver.name} from t = 100 to {solver.times[-1]:g} are")
    assert caught.value.message.endswith("are beyond float32, in which they run")
    assert caught.value.hint == "use more steps, or a data prediction"
    assert tableau(schedule, replace(solver, prediction="data"))


@pytest.mark.parametrize("method", METHODS)
def test_the_smallest_eps_has_weights_in_float32(method: str) -> None:
    for convention in CONVENTIONS:
        table = made(Schedule(eps=1e-30, convention=convention), method, METHODS[method].orders[0], steps=3)
        assert np.isfinite(np.array(table.rows, dtype=np.float32)).all()


# Orders of the steps


@together(
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
        # Up with the history, and never down.
        (1, 3, "full", [1, 1, 1]),
        (2, 1, "full", [1]),
        (2, 3, "full", [1, 2, 2]),
        (3, 2, "full", [1, 2]),
        (3, 6, "full", [1, 2, 3, 3, 3, 3]),
        (3, 11, "full", [1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3]),
    ],
)
def test_order_of_each_step(order: int, steps: int, last_step: str, expected: list[int]) -> None:
    solver = Solver("ode", order, steps=steps, last_step=last_step)
    assert [step_order(solver, index) for index in range(steps)] == expected
    # And the rows are of that order.
    assert [row.history + 1 for row in tableau(Schedule(), solver).rows] == expected


# The network's output


@together("t", [100.0, 37.0, 12.5, 1.0])
@each_convention
def test_every_output_becomes_what_is_extrapolated(convention: str, t: float) -> None:
    """cx x + cm mu + cf f, where x is made of x0 and eps and f says one of them, or both at once."""
    schedule = Schedule(convention=convention, interpolation="exact")
    a, s, S = float(schedule.alpha(t)), float(schedule.sigma(t)), schedule.S
    mu, x0, eps = np.random.default_rng(7).random((3, 6))
    x = mu + a * (x0 - mu) + s * eps
    outputs = {"noise": eps, "data": x0, "velocity": a * S * eps - s / S * (x0 - mu)}
    for output, prediction in itertools.product(OUTPUTS, PREDICTIONS):
        solver = Solver("ode", 1, prediction, 1, "custom", times=(t, 0.5))
        row = tableau(schedule, solver, output).rows[0]
        q0 = row.cx * x + row.cm * mu + row.cf * outputs[output]
        np.testing.assert_allclose(q0, x0 if prediction == "data" else eps, rtol=0, atol=1e-9)


# The start


@together("spacing", ["linspace", "trailing", "karras-n", "karras-t", "linear-lambda"])
@together("interpolation", INTERPOLATIONS)
@each_convention
def test_a_later_start_is_the_marginal_there(convention: str, interpolation: str, spacing: str) -> None:
    """x = mu + s_t z at the time itself, whole or not."""
    schedule = Schedule(convention=convention, interpolation=interpolation)
    for time in (100, 99.5, 60, 37.25):
        steps = 1 if spacing == "trailing" else 4
        if spacing == "trailing" and time < 50:
            continue
        table = tableau(schedule, Solver(steps=steps, spacing=spacing, start_time=time))
        assert table.times[0] == time
        assert table.start == float(schedule.sigma(time))


def test_a_later_start_of_a_grid_that_begins_lower_is_the_marginal_where_it_begins() -> None:
    """`leading` starts at a multiple of its step; and lambda_min may drop more times than the start."""
    schedule = Schedule()
    table = tableau(schedule, Solver(steps=5, spacing="leading", start_time=50))
    assert table.times[0] == 40
    assert table.start == float(schedule.sigma(40))
    table = tableau(schedule, Solver(steps=5, lambda_min=-3.0, start_time=99.5))
    assert 90 < table.times[0] < 99
    assert table.start == float(schedule.sigma(table.times[0]))


def test_a_custom_grid_starts_where_its_times_start() -> None:
    schedule = Schedule()
    late = tableau(schedule, Solver(steps=2, spacing="custom", times=(62.5, 30, 0)))
    assert late.times == (62.5, 30, 0)
    assert late.start == float(schedule.sigma(62.5))
    whole = tableau(schedule, Solver(steps=2, spacing="custom", times=(100, 50, 0)))
    assert whole == tableau(schedule, Solver(steps=2))


def test_without_a_start_of_its_own_a_table_starts_from_all_of_the_noise() -> None:
    """As published: x_T = mu + S z, and S too where lambda_min drops times or `leading` begins lower."""
    schedule = Schedule()
    for more in ({}, {"lambda_min": -1.0}, {"spacing": "leading"}):
        assert tableau(schedule, Solver(**more)).start == schedule.S


def test_a_later_start_takes_the_place_of_T() -> None:
    """The same table as from a grid that is given by hand."""
    schedule = Schedule(interpolation="exact")
    by_start = tableau(schedule, Solver(steps=4, start_time=60))
    by_hand = tableau(schedule, Solver(steps=4, spacing="custom", times=(60, 45, 30, 15, 0)))
    assert by_start == by_hand


@together("time", [100.5, 101, 1e9])
def test_a_start_beyond_T_is_refused(time: float) -> None:
    with pytest.raises(InputError) as caught:
        tableau(Schedule(), Solver(start_time=time))
    assert caught.value.message == f"start_time {time:g} is beyond T = 100"
    assert caught.value.hint == "times count forward steps"


def test_custom_times_beyond_T_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        tableau(Schedule(T=50), Solver(steps=2, spacing="custom", times=(60, 30, 0)))
    assert caught.value.message == "time 60 is beyond T = 50"
    assert caught.value.hint == "times count forward steps"


# The end


@each_output
@each_prediction
@each_convention
@each_order
def test_denoise_last_ends_in_the_data_prediction(
    method: str, order: int, convention: str, prediction: str, output: str
) -> None:
    schedule = Schedule(convention=convention)
    plain = made(schedule, method, order, output, prediction=prediction, steps=4)
    ending = made(schedule, method, order, output, prediction=prediction, steps=4, denoise_last=True)
    assert ending.rows[:-1] == plain.rows[:-1]
    assert ending.times == plain.times
    assert ending.rows[-1].n == ending.rows[-1].m == ending.rows[-1].history == 0
    believed = []

    def network(x: Any, mu: Any, t: float) -> Any:
        """Of no meaning, but not linear; what it says of x0 is kept."""
        a, s, S = float(schedule.alpha(t)), float(schedule.sigma(t)), schedule.S
        said = np.sin(3 * x + t) * 0.3 + mu * mu
        if output == "noise":
            believed.append((x - (1 - a) * mu - s * said) / a)
        else:
            believed.append(said if output == "data" else a * x + (1 - a) * mu - s / S * said)
        if prediction == "noise" and output == "velocity":
            # By way of eps, which at times between is not the same x0.
            eps = (a * said + s / S * (x - mu)) / S
            believed[-1] = (x - (1 - a) * mu - s * eps) / a
        return said

    result = sample(network, np.random.default_rng(6).random(SHAPE), ending, clamp=False)
    np.testing.assert_allclose(result, believed[-1], rtol=1e-9, atol=1e-9)


@together("last_step", ["published", "lower-order", "full"])
@each_prediction
@each_convention
@each_order
def test_one_step_is_of_order_1_from_start_to_end(
    method: str, order: int, convention: str, prediction: str, last_step: str
) -> None:
    table = made(Schedule(convention=convention), method, order, prediction=prediction, steps=1, last_step=last_step)
    assert len(table.rows) == 1
    assert table.rows[0].history == 0
    assert all(math.isfinite(weight) for weight in table.rows[0])
    assert table == made(
        Schedule(convention=convention), method, METHODS[method].orders[0], prediction=prediction, steps=1
    )
