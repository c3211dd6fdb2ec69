"""Other solvers on a plan's network: their names, when they are refused, and that they are those of a build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mrs
from mrs.benchmarking.quality.solvers import others, parse
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import RECOMMENDED, Solver
from mrs.numerics.solver_file import write_solver
from mrs.runtime.errors import InputError
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.session import Restorer

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEDULE = Schedule()


@pytest.fixture(scope="module")
def made(plan: Path) -> Plan:
    return read_plan(plan)


def test_names_with_evaluations() -> None:
    found = parse("ode-2:4,10", SCHEDULE)
    assert [label for label, _ in found] == ["ode-2 at 4", "ode-2 at 10"]
    assert [solver for _, solver in found] == [Solver("ode", 2, steps=n, last_step="lower-order") for n in (4, 10)]
    assert parse("published-ode-2:10", SCHEDULE) == [("published ode-2 at 10", Solver(steps=10))]


def test_intents_with_evaluations() -> None:
    (label, solver), *others = parse("balanced:3,5", SCHEDULE)
    assert (label, solver) == ("balanced at 3", replace(RECOMMENDED, steps=3))
    assert others == [("balanced at 5", RECOMMENDED)]
    assert parse("vivid:5", SCHEDULE)[0][1].noise_scale == 1


def test_a_file_of_tune(tmp_path: Path) -> None:
    solver = Solver(method="dpm++", order=2, steps=2, spacing="custom", times=(100, 40, 0))
    write_solver(tmp_path / "t.json", solver, SCHEDULE, {})
    assert parse(str(tmp_path / "t.json"), SCHEDULE) == [("dpm++-2 tuned at 2", solver)]
    with pytest.raises(InputError, match="found for another schedule"):
        parse(str(tmp_path / "t.json"), replace(SCHEDULE, max_sigma=10))


@pytest.mark.parametrize("text", ["ode-2", "ode-2:", "ode-2:a", ":3", "ode-2:3,", "ode-2:3;4", ""])
def test_what_is_no_solver(text: str) -> None:
    with pytest.raises(InputError, match="is no solver with its evaluations"):
        parse(text, SCHEDULE)


def test_the_plans_own_solver_named_again_is_the_plan(made: Plan) -> None:
    solver = Solver(**made.manifest["solver"])
    # Its own at two evaluations.
    assert (solver.name, solver.steps) == ("ode-2", 2)
    (other,) = others(made, ["ode-2:2"])
    assert other.label == "ode-2 at 2"
    assert other.plan.table == made.table
    np.testing.assert_allclose(other.plan.modulation, made.modulation, atol=1e-6)


def test_a_restore_is_that_of_a_plan_built_with_the_solver(made: Plan, golden, quick, tmp_path: Path) -> None:
    (other,) = others(made, ["posterior:5"])
    path = tmp_path / "built.mrsplan"
    built = mrs.build(golden.weights, path, size=(32, 32), solver=other.solver, backend="onnxruntime", threads=1)
    picture = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    results = []
    for each in (other.plan, built):
        with Restorer(each, precision="fp32", threads=1, cache=False) as restorer:
            results.append(restorer.restore(picture, seed=3).astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1


def test_times_between_whole_ones_are_moved_and_told(made: Plan) -> None:
    (other,) = others(made, ["ode-2:3"])
    assert other.label == "ode-2 at 3, at whole times"
    assert other.plan.table.times == (100, 67, 33, 0)
    assert other.plan.modulation.shape[0] == 3
    with pytest.raises(InputError, match="heun at 5 evaluates between whole times"):
        others(made, ["heun:5"])


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["posterior:101"], "has no 101 different whole times"),
        (["ode-9:3"], "has no order 9"),
        (["odd:3"], "'odd' is unknown"),
        (["posterior:5", "posterior:5"], "posterior at 5 is named twice"),
        (["posterior:" + ",".join(map(str, range(1, 66)))], "65 solvers are more than 64"),
    ],
)
def test_solvers_that_cannot_be(made: Plan, texts: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        others(made, texts)


def test_a_plan_without_its_timetable(made: Plan) -> None:
    with pytest.raises(InputError, match="does not hold its network at other times"):
        others(replace(made, timetable=None), ["posterior:5"])
    assert others(replace(made, timetable=None), []) == []


def test_warnings_of_the_build_are_the_plans_own(made: Plan) -> None:
    warned = replace(made, manifest={**made.manifest, "verdict": {"warnings": ["it restores nothing"]}})
    (other,) = others(warned, ["posterior:5"])
    assert warned.facts.warnings
    assert not other.plan.facts.warnings
