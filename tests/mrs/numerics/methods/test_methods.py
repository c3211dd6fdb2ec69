"""Every method is what it declares to be: its orders, its noise, its history, its times and its options."""

from __future__ import annotations

from typing import Any

import pytest

from mrs.kernels.table import Table
from mrs.numerics.methods import METHODS
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import LAST_STEPS, PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError
from tests.together import together

each_method = together("method", METHODS)
each_prediction = together("prediction", PREDICTIONS)


def table(method: str, order: int, prediction: str = "data", steps: int = 12, **more: Any) -> Table:
    """With an average, where the method needs one."""
    momentum = 0.3 if METHODS[method].option == "momentum" else 0.0
    return tableau(Schedule(), Solver(method, order, prediction, steps, momentum=momentum, **more))


@each_method
def test_facts_fit_each_other(method: str) -> None:
    facts = METHODS[method]
    assert list(facts.orders) == sorted(set(facts.orders))
    assert not facts.converges or len(facts.converges) == len(facts.orders)
    # A method that draws noise, always or with an option, or makes single steps, has no order of an ODE.
    assert bool(facts.converges) == (
        not facts.stochastic and facts.times != "single" and facts.option != "stochasticity"
    )
    assert facts.weights.__doc__


@each_prediction
@each_method
def test_a_method_draws_noise_where_it_says_so(method: str, prediction: str) -> None:
    for order in METHODS[method].orders:
        rows = table(method, order, prediction).rows
        assert {row.n != 0 for row in rows} == {METHODS[method].stochastic}
    if METHODS[method].option == "stochasticity":
        order = METHODS[method].orders[0]
        assert all(row.n > 0 for row in table(method, order, prediction, stochasticity=0.7).rows)


@each_prediction
@each_method
@together("last_step", LAST_STEPS)
def test_a_method_looks_back_as_far_as_its_order_says(last_step: str, method: str, prediction: str) -> None:
    # UniPC's corrector repeats the last step with one prediction more; GHVB of order 1 draws its average.
    further = int(method.startswith("unipc"))
    for order in METHODS[method].orders:
        rows = table(method, order, prediction, last_step=last_step).rows
        # What a row reads exists.
        assert all(row.history <= index for index, row in enumerate(rows))
        assert max(row.history for row in rows) == max(order - 1 + further, int(method == "ghvb"))


@each_method
def test_only_the_method_that_takes_momentum_averages(method: str) -> None:
    for order in METHODS[method].orders:
        averaged = [row.m for row in table(method, order).rows]
        assert averaged == ([0.0, *[0.3] * 11] if method == "ghvb" else [0.0] * 12)


@each_method
def test_rows_and_times_are_as_many_as_evaluations(method: str) -> None:
    for order in METHODS[method].orders:
        for steps in (1, 2, 3, 4, 9):
            made = table(method, order, steps=steps)
            assert len(made.rows) == steps
            assert len(made.times) == steps + 1
            repeated = steps + 1 - len(set(made.times))
            # Of two evaluations per step, one is at a time that was visited before.
            assert repeated == ((steps - 1) // 2 if METHODS[method].times == "pairs" else 0)
            assert all(time == int(time) for time in made.times) or METHODS[method].times != "single"


@each_method
def test_a_missing_order_is_explained(method: str) -> None:
    facts = METHODS[method]
    with pytest.raises(InputError) as caught:
        Solver(method, facts.orders[-1] + 1)
    assert caught.value.message.startswith(f"method {method!r} has no order {facts.orders[-1] + 1}")
    assert caught.value.message.endswith(facts.missing)
    assert str(facts.orders[-1]) in caught.value.hint
    assert "\n" not in str(caught.value)
