"""What cannot be fitted: solvers that take no weights, and networks that give no numbers; alone or after a search."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from mrs.kernels.table import Table
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import BackendError, InputError
from mrs.tuning.fitting import can_be_fitted, fit, own_weights
from mrs.tuning.search import tune
from tests.gaussian import GaussianProblem
from tests.mrs.tuning.trials import PICTURE, SCHEDULE, TIMES, Array, FakeTrial, solver_at

gaussian = GaussianProblem(SCHEDULE, 0.05, 0.1).denoiser()


# Networks that give no numbers


@pytest.mark.parametrize(
    ("value", "where"),
    [
        *itertools.product((math.nan, math.inf, -math.inf), ("everywhere", "in one pixel", "at the end")),
        # Finite itself, but not what is made of it.
        (3e38, "everywhere"),
    ],
)
def test_a_network_that_gives_no_finite_pictures_is_refused_at_once(value: float, where: str) -> None:
    def spoilt(x: Array, mu: Array, t: float) -> Array:
        said = np.zeros_like(mu)
        # What is infinite in the last step alone is so at the end, where a clamp would hide it.
        if where != "at the end" or t == TIMES[5][-2]:
            said[(0, 0, 0, 0) if where == "in one pixel" else (...,)] = value
        return said

    trial = FakeTrial(spoilt)
    with pytest.raises(BackendError) as caught:
        fit(trial, SCHEDULE, solver_at(TIMES[5]), PICTURE)
    assert caught.value.message == "the network gave infinities or NaN: no weights to fit"
    assert caught.value.hint == "check its weights"
    assert trial.evaluations == 5


@pytest.mark.parametrize("value", [math.nan, math.inf, 3e38], ids=str)
def test_a_network_that_gives_no_numbers_later_leaves_the_methods_own_weights(value: float) -> None:
    """Finite for the method itself, and for nothing that is near it."""

    def spoilt(x: Array, mu: Array, t: float) -> Array:
        said = gaussian(x, mu, t)
        return said if trial.evaluations <= 3 else np.full_like(said, value, dtype=np.float32)

    trial = FakeTrial(spoilt)
    solver = solver_at(TIMES[3])
    fitted = fit(trial, SCHEDULE, solver, PICTURE)
    assert fitted.weights == own_weights(tableau(SCHEDULE, solver))
    assert trial.evaluations < 100


# What is refused


@pytest.mark.parametrize(
    "solver",
    [
        Solver(), Solver("dpm++", spacing="trailing"), Solver("euler-ode", 1), Solver("posterior-published", 1),
        solver_at(TIMES[3], "sde"), solver_at(TIMES[3], "posterior", 1), solver_at(TIMES[3], "sa", stochasticity=1.0),
        solver_at(TIMES[3], "ghvb", momentum=0.2),
        Solver("heun", steps=3, spacing="custom", times=(100, 40, 0)),
    ],
    ids=lambda solver: f"{solver.name} {solver.spacing}",
)  # fmt: skip
def test_solvers_that_take_no_weights_are_refused(solver: Solver) -> None:
    assert not can_be_fitted(solver)
    trial = FakeTrial(gaussian)
    with pytest.raises(InputError) as caught:
        fit(trial, SCHEDULE, solver, PICTURE)
    expected = "weights replace those of a solver without noise or momentum that visits given times"
    assert caught.value.message == expected
    assert trial.evaluations == 0


@pytest.mark.parametrize("clamp", ["unit", "threshold"])
def test_a_clamp_is_refused_for_it_would_change_what_was_fitted(clamp: str) -> None:
    solver = solver_at(TIMES[3], clamp=clamp)
    assert not can_be_fitted(solver)
    assert can_be_fitted(replace(solver, clamp="none"))
    trial = FakeTrial(gaussian)
    with pytest.raises(InputError) as caught:
        fit(trial, SCHEDULE, solver, PICTURE)
    assert caught.value.message == f"weights are not fitted with clamp {clamp!r}"
    assert caught.value.hint == "use clamp='none'"
    assert trial.evaluations == 0


# At the end of a search


def test_a_search_fits_the_nearest_solvers_that_take_weights() -> None:
    """Others may be candidates too."""
    candidates = [
        Solver("heun"),
        Solver("dpm++", clamp="unit"),
        Solver("posterior", 1),
        Solver("ipndm"),
        Solver("deis"),
    ]
    trial, lines = FakeTrial(gaussian), []
    found = tune(trial, SCHEDULE, 4, candidates=candidates, report=lines.append)
    fitted = [attempt for attempt in found.attempts if attempt.solver.weights]
    assert {attempt.solver.method for attempt in fitted} == {"ipndm", "deis"}
    assert len(found.attempts) == len(candidates) + 2
    for attempt in fitted:
        before = [each for each in found.attempts if each.solver == replace(attempt.solver, weights=())]
        assert attempt.distance_db > before[0].distance_db + 3
    assert found.best in fitted
    assert sum(line.startswith("fitting the weights of ") for line in lines) == 2


def test_weights_of_a_candidate_are_not_used() -> None:
    given = solver_at(TIMES[2], weights=((0.5, 0.5), (0.1, 0.9)))
    one, other = (
        tune(FakeTrial(gaussian), SCHEDULE, 3, candidates=[candidate]) for candidate in (given, Solver("dpm++"))
    )
    assert one.best == other.best


def test_solvers_without_finite_pictures_are_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = FakeTrial(gaussian)
    restored = trial.restored

    def spoilt(table: Table) -> Array:
        if len(table.rows) < 100:
            raise BackendError("the network gave infinities or NaN")
        return restored(table)

    monkeypatch.setattr(trial, "restored", spoilt)
    with pytest.raises(BackendError, match="no solver gives pictures"):
        tune(trial, SCHEDULE, 3, candidates=[Solver("dpm++")])
    assert trial.evaluations == 0
