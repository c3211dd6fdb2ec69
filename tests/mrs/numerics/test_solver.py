"""A solver that cannot be is refused when it is made, by name; short names are read and written."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrs.kernels.table import CLAMPS
from mrs.numerics.methods import METHODS
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import (
    LAST_STEPS,
    PREDICTIONS,
    RECOMMENDED,
    SPACINGS,
    Solver,
    grid_intervals,
    parse_name,
    renamed,
)
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError
from tests.together import together

FIVE = (100.0, 60.0, 30.0, 10.0, 2.0, 0.0)


def options(method: str) -> dict[str, float]:
    """What a method cannot do without."""
    return {"momentum": 0.2} if METHODS[method].option == "momentum" else {}


def test_the_default_is_the_published_setting() -> None:
    assert Solver() == Solver("ode", 2, "data", 10, "linspace", -5.0, False, "published", "none", 0.0, 0.0, None, ())
    assert (Solver().noise_scale, Solver().start_noise) == (1, 1)


@together(
    ("arguments", "named", "hint"),
    [
        ({"method": "euler"}, "method 'euler'", "ode, sde, posterior"),
        ({"method": "ODE"}, "method 'ODE'", "ode"),
        ({"method": ""}, "method ''", "ode"),
        ({"method": None}, "method None", "ode"),
        ({"method": "ode-2"}, "method 'ode-2'", "ode"),
        ({"method": "unipc"}, "method 'unipc'", "unipc-b1, unipc-b2"),
        ({"prediction": "velocity"}, "prediction 'velocity'", "data, noise"),
        ({"prediction": "x0"}, "prediction 'x0'", "data, noise"),
        ({"spacing": "karras"}, "spacing 'karras'", "linspace, leading, trailing, karras-n, karras-t, linear-lambda"),
        ({"spacing": ["linspace"]}, "spacing ['linspace']", "linspace"),
        ({"last_step": "highest"}, "last_step 'highest'", "published, lower-order, full"),
        ({"clamp": "dynamic"}, "clamp 'dynamic'", "none, unit, threshold"),
        ({"clamp": True}, "clamp True", "none, unit"),
        ({"order": 0}, "'ode' has no order 0", "1 or 2 or 3"),
        ({"order": 4}, "'ode' has no order 4", "1 or 2 or 3"),
        ({"order": -1}, "'ode' has no order -1", "1 or 2 or 3"),
        ({"order": 2.0}, "'ode' has no order 2.0", "1 or 2 or 3"),
        ({"order": "2"}, "'ode' has no order 2", "1 or 2 or 3"),
        ({"order": None}, "'ode' has no order None", "1 or 2 or 3"),
        ({"method": "posterior", "order": 2}, "'posterior' has no order 2: a posterior step knows one", "use order 1"),
        ({"method": "posterior"}, "'posterior' has no order 2", "use order 1"),
        ({"method": "unipc-b1", "order": 1}, "'unipc-b1' has no order 1", "2 or 3"),
        ({"method": "heun", "order": 1}, "'heun' has no order 1", "use order 2"),
        ({"method": "ghvb", "order": 5, "momentum": 0.1}, "'ghvb' has no order 5", "1 or 2 or 3 or 4"),
        ({"order": True}, "'ode' has no order True", "1 or 2 or 3"),
        ({"steps": 0}, "steps 0 ", ""),
        ({"steps": 2001}, "steps 2001 are more than 2000", "published samplers take 100"),
        ({"steps": 999_999_999}, "steps 999999999 are more than 2000", ""),
        ({"steps": 10**400}, "are more than 2000", ""),
        ({"steps": True}, "steps True ", ""),
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
        ({"lambda_min": False}, "lambda_min False", "-inf"),
        ({"denoise_last": 1}, "denoise_last 1 is neither true nor false", ""),
        ({"denoise_last": None}, "denoise_last None", ""),
        ({"clamp": "unit", "prediction": "noise"}, "noise prediction cannot be clamped", "prediction='data'"),
        ({"clamp": "threshold", "prediction": "noise"}, "noise prediction cannot be clamped", "prediction='data'"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], named: str, hint: str) -> None:
    refuse(arguments, named, hint)


def refuse(arguments: dict[str, Any], named: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        Solver(**arguments)
    assert named in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)


def test_order_3_of_the_sde_is_refused_with_its_reason() -> None:
    refuse({"method": "sde", "order": 3}, "'sde' has no order 3: MR Sampler's reverse SDE has no third order", "1 or 2")
    refuse({"method": "sde", "order": 3}, "its noise limits the error; sa takes 3 predictions", "use order 1 or 2")


# Stochasticity and momentum


@together("value", [-0.1, 1000, 1e200, math.nan, math.inf, "1", None, True], ids=str)
def test_a_stochasticity_that_is_none_is_refused(value: Any) -> None:
    refuse({"method": "sa", "stochasticity": value}, f"stochasticity {value!r} is not a number from 0 (the ODE)", "")


@together("value", [-0.1, 1.0, 1, 2.5, math.nan, math.inf, "0.2", None], ids=str)
def test_a_momentum_that_is_none_is_refused(value: Any) -> None:
    refuse({"method": "ghvb", "momentum": value}, f"momentum {value!r} is not a number from 0 and below 1", "")


@together("method", [name for name, facts in METHODS.items() if facts.option != "stochasticity"])
def test_stochasticity_is_for_sa_and_its_midpoint_alone(method: str) -> None:
    arguments = {"method": method, "order": METHODS[method].orders[0], "stochasticity": 0.5, **options(method)}
    refuse(
        arguments, f"method {method!r} takes no stochasticity: it has a fixed amount of noise", "sa and sa-2m take it"
    )


@together("method", [name for name, facts in METHODS.items() if facts.option != "momentum"])
def test_momentum_is_for_ghvb_alone_and_the_reason_is_given(method: str) -> None:
    noisy = "draws noise, which an average of predictions would not match"
    why = noisy if METHODS[method].stochastic else "has coefficients that hold for plain predictions"
    arguments = {"method": method, "order": METHODS[method].orders[0], "momentum": 0.5}
    refuse(arguments, f"method {method!r} takes no momentum: it {why}", "ghvb takes it")


def test_ghvb_without_momentum_is_refused() -> None:
    refuse({"method": "ghvb"}, "ghvb without momentum is ipndm", "or use ipndm")


# Scales of noise


@together("name", ["noise_scale", "start_noise"])
@together("value", [-0.1, 2.01, math.nan, math.inf, "1", None, True, 10**400], ids=lambda v: str(v)[:9])
def test_a_factor_of_noise_that_is_none_is_refused(name: str, value: Any) -> None:
    named = f"{name} {value!r} is not a number from 0 to 2"
    refuse({"method": "posterior", "order": 1, name: value}, named, "0 is no noise, 1 the noise as derived")


@together("value", [0, 0.5, 1.01])
@together(
    "method", [name for name, facts in METHODS.items() if not facts.stochastic and facts.option != "stochasticity"]
)
def test_a_noise_scale_is_for_methods_that_draw_noise(method: str, value: float) -> None:
    arguments = {"method": method, "order": METHODS[method].orders[0], **options(method)}
    hint = (
        "sde, posterior, posterior-published, euler-sde, sa, sde-2m, sa-2m draw noise; start_noise is for every method"
    )
    named = f"method {method!r} takes no noise_scale: its steps draw no noise"
    refuse({**arguments, "noise_scale": value}, named, hint)
    assert Solver(**arguments, noise_scale=1, start_noise=value).start_noise == value


def test_sa_without_stochasticity_has_no_noise_to_scale() -> None:
    named = "method 'sa' without stochasticity draws no noise that noise_scale could change"
    refuse({"method": "sa", "noise_scale": 0.5}, named, "give a stochasticity such as 0.5")
    assert Solver("sa", stochasticity=0.1, noise_scale=0.5).stochastic
    assert not Solver("sa", stochasticity=0.1, noise_scale=0).stochastic


def test_a_method_that_is_named_begins_as_derived() -> None:
    base = Solver("sa", 3, steps=4, stochasticity=0.5, noise_scale=0.4, start_noise=0.9)
    for name in ("ode-3", "posterior", "sa-1"):
        method, order = parse_name(name)
        assert replace(base, **renamed(name)) == Solver(method, order, steps=4)
    with pytest.raises(InputError, match="solver 'euler' is unknown"):
        renamed("euler")


# Times


@together("value", [0, -1.0, math.nan, math.inf, "50", [50], True], ids=str)
def test_a_start_that_is_no_time_is_refused(value: Any) -> None:
    refuse({"start_time": value}, f"start_time {value!r} is not a time above 0", "")


@together("method", [name for name, facts in METHODS.items() if facts.times == "single"])
def test_a_published_baseline_keeps_its_own_times(method: str) -> None:
    for more in (
        {"spacing": "karras-n"}, {"spacing": "trailing"}, {"spacing": "custom", "times": FIVE}
    ):  # fmt: skip
        named = f"method {method!r} is a published baseline with times of its own"
        refuse({"method": method, "order": 1, "steps": 5, **more}, named, "leave spacing as it is")


@together(
    ("arguments", "named", "hint"),
    [
        ({"times": "100"}, "times '100' are not a list of numbers", ""),
        ({"times": ("100", 0)}, "are not a list of numbers", ""),
        ({"times": None}, "times None are not a list of numbers", ""),
        ({"times": {100.0, 0.0}}, "are not a list of numbers", ""),
        ({"times": (True, False)}, "are not a list of numbers", ""),
        ({"times": (100, None)}, "are not a list of numbers", ""),
        ({"times": ()}, "custom spacing and times go together", "give both or none"),
        ({"spacing": "linspace"}, "custom spacing and times go together", "give both or none"),
        ({"start_time": 60}, "a custom grid starts where its times start", "leave start_time out"),
        ({"times": (0, 10, 30, 60, 80, 100)}, "times [0, 10, 30, 60, 80, 100] do not fall", ""),
        ({"times": (100, 60, 60, 10, 2, 0)}, "do not fall", ""),
        ({"times": (100, 60, 30, 10, 2, -1)}, "do not fall to 0 or above", ""),
        ({"times": (math.inf, 60, 30, 10, 2, 0)}, "do not fall", ""),
        ({"times": (100, 60, math.nan, 10, 2, 0)}, "do not fall", ""),
        ({"times": (math.nan, 60, 30, 10, 2, 0)}, "do not fall", ""),
        ({"times": (100, 60, 30, 10, 2, math.nan)}, "do not fall", ""),
        ({"times": (100, 0)}, "2 times are not 6, what 5 evaluations of ode visit", ""),
        ({"times": (100, 60, 30, 10, 0)}, "5 times are not 6", ""),
        ({"times": (100,)}, "1 times are not 6", ""),
        # Heun's five evaluations are three steps.
        ({"method": "heun"}, "6 times are not 4, what 5 evaluations of heun visit", ""),
    ],
    ids=str,
)
def test_custom_times_that_cannot_be_are_refused(arguments: dict[str, Any], named: str, hint: str) -> None:
    refuse({"steps": 5, "spacing": "custom", "times": FIVE, **arguments}, named, hint)


def test_custom_times_that_can_be_are_taken() -> None:
    assert Solver(steps=5, spacing="custom", times=FIVE).times == FIVE
    # A list, as it comes from JSON, and whole numbers.
    assert Solver(steps=5, spacing="custom", times=[100, 60, 30, 10, 2, 0]).times == FIVE
    assert Solver("heun", 2, steps=5, spacing="custom", times=(100, 50, 20, 0)).times == (100, 50, 20, 0)
    assert Solver(steps=1, spacing="custom", times=(3, 0.25)).times == (3, 0.25)


@together(
    ("method", "expected"),
    [("ode", [1, 2, 3, 4, 5, 6]), ("euler-ode", [1, 2, 3, 4, 5, 6]), ("heun", [1, 2, 2, 3, 3, 4])],
)
def test_intervals_of_evaluations(method: str, expected: list[int]) -> None:
    assert [grid_intervals(method, steps) for steps in range(1, 7)] == expected


# What can be


def test_everything_declared_can_be_made() -> None:
    for method, facts in METHODS.items():
        for order in facts.orders:
            for prediction in PREDICTIONS:
                for last_step in LAST_STEPS:
                    for spacing in SPACINGS if facts.times != "single" else ("linspace",):
                        times = (9.0, 1.0) if spacing == "custom" else ()
                        more = {"last_step": last_step, "times": times, **options(method)}
                        Solver(method, order, prediction, 1, spacing, **more)
    for clamp in CLAMPS:
        Solver(clamp=clamp)
    for stochasticity in (0, 0.3, 1, 7.5):
        Solver("sa", stochasticity=stochasticity)
    Solver("ghvb", momentum=0.999)
    Solver(lambda_min=-math.inf)
    Solver(start_time=0.5)


def test_numpy_numbers_become_pythons() -> None:
    """They come out of sweeps over arrays, and a plan is written as JSON."""
    solver = Solver(
        order=np.int64(3), steps=np.int32(2), lambda_min=np.float32(-4),
        spacing="custom", times=list(np.array([90.0, 20, 0])),
    )  # fmt: skip
    assert solver == Solver(order=3, steps=2, lambda_min=-4.0, spacing="custom", times=(90.0, 20.0, 0.0))
    assert json.loads(json.dumps(solver.to_dict()))["steps"] == 2
    assert type(Solver(lambda_min=-5).lambda_min) is float
    started = Solver("sa", start_time=np.float64(50), stochasticity=np.int64(1))
    assert (type(started.start_time), type(started.stochasticity)) == (float, float)
    quiet = Solver("sde", noise_scale=np.float32(0.5), start_noise=np.int64(0))
    assert (type(quiet.noise_scale), type(quiet.start_noise)) == (float, float)
    assert json.loads(json.dumps(Solver("ghvb", momentum=np.float32(0.5)).to_dict()))["momentum"] == 0.5


@together(
    "solver",
    [
        Solver(),
        Solver("sde", 1, "noise", 3, "karras-t", -math.inf, True),
        Solver("posterior", 1, clamp="unit"),
        Solver("posterior", 1, noise_scale=1 / 3, start_noise=0.875),
        Solver("unipc-b2", 3, steps=5, spacing="custom", times=FIVE, last_step="full"),
        Solver("dpm++", 2, steps=4, start_time=62.5, clamp="threshold"),
        Solver("sa", 3, "noise", stochasticity=1.5),
        Solver("ghvb", 4, momentum=0.125),
        Solver("heun"),
        RECOMMENDED,
    ],
    ids=lambda solver: solver.name,
)
def test_to_json_and_back(solver: Solver) -> None:
    again = Solver(**json.loads(json.dumps(solver.to_dict())))
    assert again == solver
    assert hash(again) == hash(solver)
    # JSON has no tuples, and its lists are of plain numbers.
    assert type(solver.to_dict()["times"]) is list


# Names


@together(
    ("solver", "name", "stochastic"),
    [
        (Solver("ode", 1), "ode-1", False),
        (Solver("ode", 3), "ode-3", False),
        (Solver("sde", 2), "sde-2", True),
        (Solver("posterior", 1), "posterior", True),
        (Solver("posterior", 1, noise_scale=0.01), "posterior", True),
        (Solver("posterior", 1, noise_scale=0), "posterior", False),
        (Solver("posterior-published", 1), "posterior-published", True),
        (Solver("euler-sde", 1), "euler-sde", True),
        (Solver("euler-ode", 1), "euler-ode", False),
        (Solver("heun", 2), "heun", False),
        (Solver("dpm++", 2), "dpm++-2", False),
        (Solver("dpm++-2m"), "dpm++-2m", False),
        (Solver("sde-2m"), "sde-2m", True),
        (Solver("sa-2m", stochasticity=1), "sa-2m", True),
        (Solver("unipc-b1", 2), "unipc-b1-2", False),
        (Solver("unipc-b2", 3), "unipc-b2-3", False),
        (Solver("ghvb", 4, momentum=0.2), "ghvb-4", False),
        (Solver("sa", 2), "sa-2", False),
        (Solver("sa", 2, stochasticity=0.1), "sa-2", True),
    ],
)
def test_names(solver: Solver, name: str, stochastic: bool) -> None:
    assert solver.name == name
    assert solver.stochastic is stochastic
    assert parse_name(name) == (solver.method, solver.order)


@together("method", METHODS)
def test_every_name_is_read_as_it_is_written(method: str) -> None:
    for order in METHODS[method].orders:
        assert parse_name(Solver(method, order, **options(method)).name) == (method, order)
        assert parse_name(f"{method}-{order}") == (method, order)
    # Without an order, 2 where there is one, else the only one.
    order = 2 if 2 in METHODS[method].orders else 1
    assert parse_name(method) == (method, order)


@together(
    ("name", "expected"),
    [
        ("ode", ("ode", 2)),
        ("sde", ("sde", 2)),
        ("posterior-1", ("posterior", 1)),
        ("ode-9", ("ode", 9)),
        ("dpm++", ("dpm++", 2)),
        ("dpm++-3", ("dpm++", 3)),
        ("unipc-b2", ("unipc-b2", 2)),
        ("unipc-b2-3", ("unipc-b2", 3)),
        ("posterior-published", ("posterior-published", 1)),
        ("heun", ("heun", 2)),
        ("heun-2", ("heun", 2)),
        ("dpm++-2m", ("dpm++-2m", 2)),
        ("sde-2m-2", ("sde-2m", 2)),
    ],
)
def test_names_that_are_read(name: str, expected: tuple[str, int]) -> None:
    assert parse_name(name) == expected


def test_an_order_that_is_read_but_does_not_exist_is_refused_by_the_solver() -> None:
    with pytest.raises(InputError, match="'ode' has no order 9"):
        Solver(*parse_name("ode-9"))


@together(
    "name",
    [
        "", "-", "-2", "ode-", "ode2", "ode-22", "ode--2", "ODE-2", " ode", "ode-2\n", "ode-x", "unipc-2", "unipc-b3",
        "unipc-b2-", "dpm-2", "dpm+-2", "dpm++2", "euler", "heun-2-2", "dpm++-3m", "sde-2m-", "ode-2m",
    ],
)  # fmt: skip
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_name(name)
    assert repr(name) in caught.value.message
    known = caught.value.hint.removeprefix("use one of ").split(", ")
    assert len(known) == len(set(known))
    assert {"ode-1", "ode-2", "ode-3", "sde-1", "posterior", "heun", "dpm++-3", "unipc-b2-2", "ghvb-4"} <= set(known)
    # What is offered can be read.
    assert all(order in METHODS[method].orders for method, order in map(parse_name, known))


@together("limit", [-math.inf, math.inf])
def test_an_infinite_limit_is_json_and_means_the_same(limit: float) -> None:
    solver = Solver(lambda_min=limit)
    again = Solver(**json.loads(json.dumps(solver.to_dict(), allow_nan=False)))
    assert math.copysign(1.0, again.lambda_min) == math.copysign(1.0, limit)
    if limit < 0:
        assert tableau(Schedule(), again) == tableau(Schedule(), solver)


def test_a_limit_beyond_floats_is_refused() -> None:
    with pytest.raises(InputError, match="is not a number"):
        Solver(lambda_min=10**400)
