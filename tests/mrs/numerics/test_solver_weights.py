"""Weights in place of a method's own: which are taken, what they become, and the rows that they make."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrs.kernels.table import CLAMPS
from mrs.numerics.reference import sample
from mrs.numerics.schedule import CONVENTIONS, Schedule
from mrs.numerics.solver import LAST_STEPS, MOST_PREDICTIONS, OUTPUTS, PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError
from mrs.tuning.fitting import own_weights
from tests.mrs.numerics.weight_takers import TAKERS
from tests.together import together

pytestmark = pytest.mark.slow(6)

SIX = (100.0, 70.0, 45.0, 25.0, 11.0, 3.0, 0.0)
TWO: dict[str, Any] = {"method": "dpm++", "order": 2, "steps": 2, "spacing": "custom", "times": (100, 40, 0)}
WEIGHTS = ((0.5, 0.25), (0.75, 0.5, -0.125))
each_convention = together("convention", CONVENTIONS)
each_prediction = together("prediction", PREDICTIONS)


def of_steps(smallest: int = 1, largest: int = 6) -> st.SearchStrategy[tuple[tuple[float, ...], ...]]:
    """Weights of some steps, each with as few or as many predictions as it may have."""
    number = st.floats(-4, 4)
    row = [
        st.lists(number, min_size=2, max_size=min(index + 1, MOST_PREDICTIONS) + 1).map(tuple)
        for index in range(largest)
    ]
    return st.integers(smallest, largest).flatmap(lambda steps: st.tuples(*row[:steps]))


def solver_of(weights: Any, prediction: str = "data", method: str = "dpm++", **more: Any) -> Solver:
    """A solver of as many steps as there are rows, over the last of six intervals."""
    times = SIX[-len(weights) - 1 :]
    return Solver(method, 2, prediction, len(weights), "custom", times=times, weights=weights, **more)


# What is taken


@together(
    "form",
    [
        WEIGHTS,
        [list(row) for row in WEIGHTS],
        [WEIGHTS[0], list(WEIGHTS[1])],
        tuple(tuple(map(np.float32, row)) for row in WEIGHTS),
        [list(np.array(row)) for row in WEIGHTS],
        [[Fraction(1, 2), Fraction(1, 4)], [Fraction(3, 4), 0.5, -0.125]],
    ],
    ids=["tuples", "lists", "both", "float32", "float64", "fractions"],
)
def test_weights_of_any_form_become_tuples_of_floats(form: Any) -> None:
    solver = Solver(**TWO, weights=form)
    assert solver == Solver(**TWO, weights=WEIGHTS)
    assert solver.weights == WEIGHTS
    assert hash(solver) == hash(Solver(**TWO, weights=WEIGHTS))
    assert type(solver.weights) is tuple
    assert {type(row) for row in solver.weights} == {tuple}
    assert {type(weight) for row in solver.weights for weight in row} == {float}


def test_whole_numbers_become_floats() -> None:
    weights = Solver(**TWO, weights=[[1, np.int64(0)], [0, 1]]).weights
    assert weights == ((1.0, 0.0), (0.0, 1.0))
    assert {type(weight) for row in weights for weight in row} == {float}


@together("none", [(), []], ids=["tuple", "list"])
def test_no_weights_are_the_methods_own(none: Any) -> None:
    assert Solver(weights=none) == Solver()
    assert hash(Solver(weights=none)) == hash(Solver())
    # And every solver may be told that it has none.
    assert Solver("posterior", 1, weights=none).weights == ()


def test_a_later_step_may_have_fewer_weights_and_at_most_those_of_four_predictions() -> None:
    counts = (2, 2, 4, 5, 5, 2)
    weights = tuple((0.5,) * count for count in counts)
    assert solver_of(weights).weights == weights


def test_weights_change_what_a_solver_equals() -> None:
    one = Solver(**TWO, weights=WEIGHTS)
    assert one != Solver(**TWO)
    assert one != Solver(**TWO, weights=((0.5, 0.25), (0.75, 0.5)))
    assert replace(one, weights=()) == Solver(**TWO)
    # A name tells the method and its order, not where the weights are from.
    assert one.name == "dpm++-2"


@given(of_steps(), st.sampled_from(PREDICTIONS))
def test_to_json_and_back(weights: tuple[tuple[float, ...], ...], prediction: str) -> None:
    solver = solver_of(weights, prediction)
    content = json.loads(json.dumps(solver.to_dict(), allow_nan=False))
    assert content["weights"] == [list(row) for row in weights]
    again = Solver(**content)
    assert again == solver
    assert hash(again) == hash(solver)
    assert again.weights == weights


def test_what_is_given_as_json_holds_lists_only() -> None:
    content = Solver(**TWO, weights=WEIGHTS).to_dict()["weights"]
    assert [type(content), *map(type, content)] == [list, list, list]
    assert Solver().to_dict()["weights"] == []


# What is refused


@together(
    "weights",
    [
        None, 3, 0, 0.5, True, "", "ab", {}, {"0": [1.0, 0.0]}, {(1.0, 0.0)}, (1.0, 0.0), [[1.0, 0.0], 0.5],
        ["ab", "cd"], [[1.0, 0.0], None], [[1.0, 0.0], True], [np.ones(2), np.ones(2)], np.ones((2, 2)), range(2),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_list_of_lists_is_refused(weights: Any) -> None:
    with pytest.raises(InputError) as caught:
        Solver(**TWO, weights=weights)
    assert caught.value.message == f"weights {weights!r} are not a list of lists"


@together("count", [1, 3])
def test_more_or_fewer_rows_than_steps_are_refused(count: int) -> None:
    with pytest.raises(InputError) as caught:
        Solver(**TWO, weights=((0.5, 0.5),) * count)
    assert caught.value.message == f"{count} rows of weights are not one for each of 2 steps"


@together(
    ("index", "count", "most"),
    [(0, 0, 1), (0, 1, 1), (0, 3, 1), (1, 1, 2), (1, 4, 2), (2, 5, 3), (3, 6, 4), (5, 6, 4), (5, 1, 4)],
)
def test_too_few_or_too_many_weights_of_a_step_are_refused(index: int, count: int, most: int) -> None:
    rows = [[0.5, 0.5] for _ in range(6)]
    rows[index] = [0.5] * count
    with pytest.raises(InputError) as caught:
        solver_of(rows)
    assert caught.value.message == f"step {index} has {count} weights"
    assert caught.value.hint == f"give that of x - mu and those of up to {most} predictions"
    rows[index] = [0.5] * (most + 1)
    assert len(solver_of(rows).weights[index]) == most + 1


@together("place", [0, 1, 2])
@together("bad", [math.inf, -math.inf, math.nan, np.float32("nan"), True, False, "0.5", None, 1j, [0.5]], ids=repr)
def test_weights_that_are_no_finite_numbers_are_refused(bad: Any, place: int) -> None:
    row = [0.5, 0.5, 0.5]
    row[place] = bad
    with pytest.raises(InputError) as caught:
        Solver(**TWO, weights=[[0.5, 0.5], row])
    assert caught.value.message == f"weights {row} of step 1 are not finite numbers"


@together(
    "arguments",
    [
        {"method": "ghvb", "momentum": 0.2, **{key: TWO[key] for key in ("order", "steps", "spacing", "times")}},
        {**TWO, "method": "sde"},
        {**TWO, "method": "posterior", "order": 1},
        {**TWO, "method": "sa", "stochasticity": 0.5},
        {**TWO, "method": "posterior", "order": 1, "noise_scale": 0.5},
        {**TWO, "method": "heun"},
        {"method": "euler-ode", "order": 1, "steps": 2},
        {"method": "euler-sde", "order": 1, "steps": 2},
        {"method": "posterior-published", "order": 1, "steps": 2},
        {"method": "dpm++", "order": 2, "steps": 2},
        {"method": "dpm++", "order": 2, "steps": 2, "spacing": "trailing"},
        {"method": "dpm++", "order": 2, "steps": 2, "start_time": 50.0},
    ],
    ids=lambda arguments: f"{arguments['method']} {arguments.get('spacing', 'linspace')}",
)
def test_solvers_with_noise_momentum_or_times_of_their_own_take_none(arguments: dict[str, Any]) -> None:
    # Without weights they can be, but none of them says that it takes any.
    assert not Solver(**arguments).takes_weights
    with pytest.raises(InputError) as caught:
        Solver(**arguments, weights=WEIGHTS)
    expected = "weights replace those of a solver without noise or momentum that visits given times"
    assert caught.value.message == expected
    assert caught.value.hint == "leave weights out"


@together(("method", "order"), TAKERS)
def test_every_other_method_takes_them_on_a_custom_grid(method: str, order: int) -> None:
    assert Solver(**{**TWO, "method": method, "order": order}, weights=WEIGHTS).takes_weights


def test_sa_takes_them_as_long_as_it_draws_no_noise() -> None:
    assert ("sa", 2) in TAKERS
    assert tableau(Schedule(), Solver(**{**TWO, "method": "sa"}, weights=WEIGHTS)).draws == 0


def test_a_method_whose_noise_is_scaled_to_nothing_takes_them() -> None:
    quiet = {**TWO, "method": "posterior", "order": 1, "noise_scale": 0}
    own = tuple((row.ax, row.b0) for row in tableau(Schedule(), Solver(**quiet)).rows)
    # Its own weights among them.
    given = tableau(Schedule(), Solver(**quiet, weights=own))
    for row, derived in zip(given.rows, tableau(Schedule(), Solver(**quiet)).rows, strict=True):
        assert row == pytest.approx(derived, rel=1e-12, abs=1e-15)


# The rows that they make


@given(of_steps(), st.sampled_from(PREDICTIONS), st.sampled_from(OUTPUTS), st.sampled_from(CONVENTIONS))
def test_a_row_has_exactly_the_weights_given(
    weights: tuple[tuple[float, ...], ...], prediction: str, output: str, convention: str
) -> None:
    schedule = Schedule(convention=convention)
    solver = solver_of(weights, prediction)
    table = tableau(schedule, solver, output)
    own = tableau(schedule, replace(solver, weights=()), output)
    assert (table.times, table.start, table.clamp) == (own.times, own.start, own.clamp)
    assert table.draws == 0
    for row, wanted, methods in zip(table.rows, weights, own.rows, strict=True):
        assert (row.ax, row.b0, row.b1, row.b2, row.b3) == (*wanted, *[0.0] * (5 - len(wanted)))
        assert (row.n, row.m) == (0.0, 0.0)
        # How the output becomes a prediction is not the solver's choice.
        assert row[:3] == methods[:3]


@given(of_steps(), st.sampled_from(OUTPUTS))
def test_the_weight_of_mu_makes_the_weights_of_pictures_sum_to_1(
    weights: tuple[tuple[float, ...], ...], output: str
) -> None:
    for row in tableau(Schedule(), solver_of(weights), output).rows:
        assert row.ax + row.am + row.b0 + row.b1 + row.b2 + row.b3 == pytest.approx(1, abs=1e-14)
    # A noise prediction is no picture.
    for row in tableau(Schedule(), solver_of(weights, "noise"), output).rows:
        assert row.ax + row.am == pytest.approx(1, abs=1e-14)


@given(of_steps(), st.sampled_from(PREDICTIONS))
def test_a_clean_picture_without_noise_stays_whatever_the_weights(
    weights: tuple[tuple[float, ...], ...], prediction: str
) -> None:
    mu = np.random.default_rng(0).random((1, 3, 2, 2))
    table = tableau(Schedule(), solver_of(weights, prediction), "data")
    result = sample(lambda x, mu, t: mu, mu, table, init_noise=np.zeros_like(mu), clamp=False)
    # Six steps of weights up to 4, and 1/s before: what is rounded may grow.
    np.testing.assert_allclose(result, mu, rtol=0, atol=1e-6)


@given(of_steps())
def test_the_method_does_not_matter_where_weights_are_given(weights: tuple[tuple[float, ...], ...]) -> None:
    tables = {
        tableau(Schedule(), solver_of(weights, method=method, last_step=last_step))
        for method, order in TAKERS
        if order == 2
        for last_step in LAST_STEPS
    }
    assert len(tables) == 1


@together("clamp", CLAMPS)
def test_a_clamp_stays(clamp: str) -> None:
    table = tableau(Schedule(), Solver(**TWO, weights=WEIGHTS, clamp=clamp))
    assert table.clamp == clamp
    assert table.rows == tableau(Schedule(), Solver(**TWO, weights=WEIGHTS)).rows


@together("output", OUTPUTS)
@each_prediction
@each_convention
@together(("method", "order"), TAKERS)
def test_a_methods_own_weights_make_the_methods_own_rows(
    method: str, order: int, convention: str, prediction: str, output: str
) -> None:
    """At whole times: between them, the published a and s do not quite belong together, nor do `ode`'s weights."""
    schedule = Schedule(convention=convention)
    for last_step in LAST_STEPS:
        solver = Solver(method, order, prediction, 6, "custom", times=SIX, last_step=last_step)
        own = tableau(schedule, solver, output)
        weights = own_weights(own)
        assert [len(row) for row in weights] == [2, 3, 4, 5, 5, 5]
        table = tableau(schedule, replace(solver, weights=weights), output)
        np.testing.assert_allclose(np.array(table.rows), np.array(own.rows), rtol=1e-12, atol=1e-13)
        assert (table.times, table.start, table.clamp) == (own.times, own.start, own.clamp)
        # Once they are given they are read as they were.
        assert own_weights(table) == weights


def test_own_weights_of_shorter_rows_are_filled_with_zeros() -> None:
    table = tableau(Schedule(), solver_of(((0.5, 0.25), (0.5, 0.25), (0.5, 0.25))))
    assert own_weights(table) == ((0.5, 0.25), (0.5, 0.25, 0.0), (0.5, 0.25, 0.0, 0.0))


@each_prediction
@each_convention
def test_denoise_last_still_wins_at_the_last_step(convention: str, prediction: str) -> None:
    schedule = Schedule(convention=convention)
    weights = ((0.5, 0.25), (0.5, 0.25, 0.125), (0.5, 0.25))
    weighted = tableau(schedule, solver_of(weights, prediction, denoise_last=True))
    without = tableau(schedule, solver_of(weights, prediction))
    plain = tableau(schedule, replace(solver_of(weights, prediction, denoise_last=True), weights=()))
    assert weighted.rows[:-1] == without.rows[:-1]
    assert weighted.rows[-1] == plain.rows[-1] != without.rows[-1]
