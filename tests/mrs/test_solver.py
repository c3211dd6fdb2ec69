"""A solver that cannot be is refused when it is made, by name; short names are read and written."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from mrs.methods import METHODS
from mrs.runtime.errors import InputError
from mrs.schedule import Schedule
from mrs.solver import CLAMPS, LAST_STEPS, PREDICTIONS, RECOMMENDED, SPACINGS, Solver, parse_name
from mrs.table import tableau


def test_the_default_is_the_published_setting() -> None:
    assert Solver() == Solver("ode", 2, "data", 10, "linspace", -5.0, False, "published", "none")


@pytest.mark.parametrize(
    ("arguments", "named", "hint"),
    [
        ({"method": "euler"}, "method 'euler'", "ode, sde, posterior"),
        ({"method": "ODE"}, "method 'ODE'", "ode"),
        ({"method": ""}, "method ''", "ode"),
        ({"method": None}, "method None", "ode"),
        ({"method": "ode-2"}, "method 'ode-2'", "ode"),
        ({"prediction": "velocity"}, "prediction 'velocity'", "data, noise"),
        ({"prediction": "x0"}, "prediction 'x0'", "data, noise"),
        ({"spacing": "karras"}, "spacing 'karras'", "linspace, leading, trailing, karras-n, karras-t, linear-lambda"),
        ({"spacing": ["linspace"]}, "spacing ['linspace']", "linspace"),
        ({"last_step": "full"}, "last_step 'full'", "published, lower-order"),
        ({"clamp": "dynamic"}, "clamp 'dynamic'", "none, unit"),
        ({"clamp": True}, "clamp True", "none, unit"),
        ({"order": 0}, "'ode' has no order 0", "1 or 2 or 3"),
        ({"order": 4}, "'ode' has no order 4", "1 or 2 or 3"),
        ({"order": -1}, "'ode' has no order -1", "1 or 2 or 3"),
        ({"order": 2.0}, "'ode' has no order 2.0", "1 or 2 or 3"),
        ({"order": "2"}, "'ode' has no order 2", "1 or 2 or 3"),
        ({"order": None}, "'ode' has no order None", "1 or 2 or 3"),
        ({"method": "sde", "order": 3}, "'sde' has no order 3", "1 or 2"),
        ({"method": "posterior", "order": 2}, "'posterior' has no order 2", "use order 1"),
        ({"method": "posterior"}, "'posterior' has no order 2", "use order 1"),
        ({"steps": 0}, "steps 0 ", ""),
        ({"steps": -3}, "steps -3 ", ""),
        ({"steps": 2.5}, "steps 2.5 ", ""),
        ({"steps": 10.0}, "steps 10.0 ", ""),
        ({"steps": math.nan}, "steps nan ", ""),
        ({"steps": math.inf}, "steps inf ", ""),
        ({"steps": "ten"}, "steps 'ten' ", ""),
        ({"steps": "10"}, "steps '10' ", ""),
        ({"steps": None}, "steps None ", ""),
        ({"lambda_min": math.nan}, "lambda_min nan", "-inf"),
        ({"lambda_min": "-5"}, "lambda_min '-5'", "-inf"),
        ({"lambda_min": None}, "lambda_min None", "-inf"),
        ({"clamp": "unit", "prediction": "noise"}, "noise prediction cannot be clamped", "prediction='data'"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], named: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        Solver(**arguments)
    assert named in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)


def test_everything_declared_can_be_made() -> None:
    for method, facts in METHODS.items():
        for order in facts.orders:
            for prediction in PREDICTIONS:
                for spacing in SPACINGS:
                    for last_step in LAST_STEPS:
                        Solver(method, order, prediction, 1, spacing, last_step=last_step)
    for clamp in CLAMPS:
        Solver(clamp=clamp)
    Solver(lambda_min=-math.inf)


def test_numpy_numbers_become_pythons() -> None:
    """They come out of sweeps over arrays, and a plan is written as JSON."""
    solver = Solver(order=np.int64(3), steps=np.int32(7), lambda_min=np.float32(-4))
    assert solver == Solver(order=3, steps=7, lambda_min=-4.0)
    assert json.loads(json.dumps(solver.to_dict()))["steps"] == 7
    assert type(Solver(lambda_min=-5).lambda_min) is float


@pytest.mark.parametrize(
    "solver",
    [
        Solver(),
        Solver("sde", 1, "noise", 3, "karras-t", -math.inf, True),
        Solver("posterior", 1, clamp="unit"),
        RECOMMENDED,
    ],
    ids=lambda solver: solver.name,
)
def test_to_json_and_back(solver: Solver) -> None:
    again = Solver(**json.loads(json.dumps(solver.to_dict())))
    assert again == solver
    assert hash(again) == hash(solver)


@pytest.mark.parametrize(
    ("solver", "name", "stochastic"),
    [
        (Solver("ode", 1), "ode-1", False),
        (Solver("ode", 3), "ode-3", False),
        (Solver("sde", 2), "sde-2", True),
        (Solver("posterior", 1), "posterior", True),
    ],
)
def test_names(solver: Solver, name: str, stochastic: bool) -> None:
    assert solver.name == name
    assert solver.stochastic is stochastic
    assert parse_name(name) == (solver.method, solver.order)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_declares_is_so(method: str) -> None:
    """A method draws noise where it says so, and looks back as far as its order says."""
    for order in METHODS[method].orders:
        table = tableau(Schedule(), Solver(method, order, steps=12))
        assert {row.n != 0 for row in table.rows} == {METHODS[method].stochastic}
        assert max(row.history for row in table.rows) == order - 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ode", ("ode", 2)), ("sde", ("sde", 2)), ("posterior-1", ("posterior", 1)), ("ode-9", ("ode", 9))],
)
def test_names_that_are_read(name: str, expected: tuple[str, int]) -> None:
    assert parse_name(name) == expected


def test_an_order_that_is_read_but_does_not_exist_is_refused_by_the_solver() -> None:
    with pytest.raises(InputError, match="'ode' has no order 9"):
        Solver(*parse_name("ode-9"))


@pytest.mark.parametrize(
    "name", ["", "-", "-2", "ode-", "ode2", "ode-22", "ode--2", "ODE-2", " ode", "ode-2\n", "heun", "ode-x"]
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_name(name)
    assert repr(name) in caught.value.message
    assert caught.value.hint == "use one of ode-1, ode-2, ode-3, sde-1, sde-2, posterior"
