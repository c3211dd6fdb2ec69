"""The search of solver and grid: what it finds is nearer than what it starts from, and it wastes no run."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.tuning import search as tuning
from mrs.tuning.search import CANDIDATES, POWERS, Attempt, Tuned, tune, whole_times
from tests.gaussian import GaussianProblem
from tests.mrs.tuning.searches import REFERENCE, ExactTrial, WholeTrial, distance, search
from tests.mrs.tuning.trials import SCHEDULE

pytestmark = pytest.mark.slow(9)


def plain(candidate: Solver, evaluations: int) -> list[Solver]:
    """A candidate on each of the grids that a search starts from."""
    grids = [whole_times(SCHEDULE.T, evaluations, power) for power in POWERS]
    return [replace(candidate, steps=evaluations, spacing="custom", times=grid) for grid in grids]


@pytest.fixture(scope="module")
def five() -> tuple[Tuned, ExactTrial, list[str]]:
    """A search of grids for five evaluations, its trial and what it reported."""
    trial, lines = ExactTrial(), []
    return search(5, trial, report=lines.append), trial, lines


# What is found


@pytest.mark.parametrize("evaluations", [2, 3, 5, 8])
def test_the_found_solver_is_at_least_as_near_as_all_that_it_starts_from(evaluations: int) -> None:
    found = search(evaluations)
    starts = [distance(solver) for candidate in CANDIDATES for solver in plain(candidate, evaluations)]
    assert found.best.distance_db >= max(starts) - 1e-9
    assert found.best.distance_db >= found.published.distance_db


def test_the_search_of_grids_brings_decibels(five) -> None:
    found, _, _ = five
    without = search(5, seconds=0)
    assert found.best.distance_db > without.best.distance_db + 10
    assert found.best.distance_db > found.published.distance_db + 20


def test_one_candidate_gets_nearer_by_its_grid_alone() -> None:
    candidate = Solver("dpm++", 2, last_step="lower-order")
    found = search(4, candidates=[candidate])
    assert found.best.distance_db > max(map(distance, plain(candidate, 4))) + 1
    assert found.best.solver == replace(candidate, steps=4, spacing="custom", times=found.best.solver.times)


def test_no_neighbouring_grid_is_nearer() -> None:
    """The search ends where moving one time by one step does not help."""
    best = search(4, candidates=[Solver("dpm++", 2, last_step="lower-order")]).best
    for index in (1, 2, 3):
        for move in (-1, 1):
            times = list(best.solver.times)
            times[index] += move
            if all(u > t for u, t in pairwise(times)):
                assert distance(replace(best.solver, times=tuple(times))) <= best.distance_db + 1e-9


def test_the_distances_told_are_the_true_ones(five) -> None:
    found, _, _ = five
    assert found.published.solver == Solver("ode", 2, steps=5)
    for attempt in (found.best, found.published, *found.attempts):
        assert attempt.distance_db == pytest.approx(distance(attempt.solver), abs=1e-6)


def test_the_attempts_are_the_best_of_each_candidate_nearest_first(five) -> None:
    found, _, _ = five
    shape = [(entry.method, entry.order, entry.prediction, entry.last_step) for entry in CANDIDATES]
    solvers = [attempt.solver for attempt in found.attempts]
    assert sorted((entry.method, entry.order, entry.prediction, entry.last_step) for entry in solvers) == sorted(shape)
    distances = [attempt.distance_db for attempt in found.attempts]
    assert distances == sorted(distances, reverse=True)
    assert found.best == found.attempts[0]


def test_times_are_whole_and_fall_from_the_first_to_the_last(five) -> None:
    found, trial, _ = five
    assert {attempt.solver.spacing for attempt in found.attempts} == {"custom"}
    for times in [attempt.solver.times for attempt in found.attempts] + [table.times for table in trial.ran[1:]]:
        assert len(times) == 6
        assert (times[0], times[-1]) == (SCHEDULE.T, 0)
        assert all(time.is_integer() for time in times)
        assert all(u > t for u, t in pairwise(times))


def test_two_searches_find_the_same(five) -> None:
    assert search(5) == five[0]


def test_the_published_solver_is_found_where_nothing_is_nearer() -> None:
    found = search(10, candidates=[Solver("posterior", 1)], seconds=0)
    assert found.attempts[0].distance_db < found.published.distance_db
    assert found.best == found.published == Attempt(Solver("ode", 2, steps=10), found.published.distance_db)
    assert search(4, candidates=[]).best.solver == Solver("ode", 2, steps=4)


@pytest.mark.parametrize("convention", ["mr-sampler", "ir-sde"])
@pytest.mark.parametrize("output", ["data", "velocity"])
def test_what_the_network_predicts_does_not_matter(convention: str, output: str) -> None:
    schedule = Schedule(convention=convention)
    problem = GaussianProblem(schedule, 0.05, 0.2)
    options: Any = {"candidates": CANDIDATES[:6], "seconds": 0, "fitted": False}
    one = tune(ExactTrial(problem.denoiser()), schedule, 4, **options)
    other = tune(ExactTrial(problem.denoiser(output)), schedule, 4, output, **options)
    assert other.best.solver == one.best.solver
    assert other.best.distance_db == pytest.approx(one.best.distance_db, abs=1e-3)
    assert other.published.distance_db == pytest.approx(one.published.distance_db, abs=1e-3)


def test_candidates_may_evaluate_twice_a_step_or_draw_noise() -> None:
    for candidate, times in ((Solver("heun"), 4), (Solver("sa", 2, stochasticity=1.0), 6)):
        (attempt,) = search(5, candidates=[candidate], seconds=0.2).attempts
        assert len(attempt.solver.times) == times
        assert attempt.distance_db == pytest.approx(distance(attempt.solver), abs=1e-6)


def test_fitting_weights_brings_decibels_more(five) -> None:
    lines: list[str] = []
    found = search(5, WholeTrial(), fitted=True, report=lines.append)
    assert found.best.distance_db > five[0].best.distance_db + 3
    with_weights = [attempt for attempt in found.attempts if attempt.solver.weights]
    assert len(with_weights) == tuning.FITTED
    for attempt in with_weights:
        assert attempt.distance_db == pytest.approx(distance(attempt.solver), abs=1e-6)
    # What was found before is still told, and fitted are the nearest.
    assert tuple(attempt for attempt in found.attempts if not attempt.solver.weights) == five[0].attempts
    without = [replace(attempt.solver, weights=()) for attempt in with_weights]
    assert set(without) == {attempt.solver for attempt in five[0].attempts[: tuning.FITTED]}
    assert sum(line.startswith("fitting the weights of ") for line in lines) == tuning.FITTED


def test_candidates_that_take_no_weights_are_left_as_they_are() -> None:
    candidates = [Solver("heun"), Solver("dpm++", 2, clamp="unit"), Solver("ghvb", 2, momentum=0.3)]
    found = search(4, fitted=True, candidates=candidates, seconds=0.5)
    assert len(found.attempts) == 3
    assert not any(attempt.solver.weights for attempt in found.attempts)


# What is run


@pytest.mark.parametrize("evaluations", [2, 3, 5])
def test_no_table_is_run_twice(evaluations: int) -> None:
    """Few evaluations make one table of several solvers: order 3 is order 2 where the order falls at the end."""
    trial = ExactTrial()
    found = search(evaluations, trial)
    assert len(trial.ran) == len(set(trial.ran)) == found.tried + 1


def test_the_reference_is_run_first_with_all_steps(five) -> None:
    assert five[1].ran[0] == tableau(SCHEDULE, REFERENCE)


def test_without_time_the_best_plain_grid_is_found() -> None:
    trial = ExactTrial()
    found = search(5, trial, seconds=0)
    starts = {candidate: plain(candidate, 5) for candidate in CANDIDATES}
    tables = {tableau(SCHEDULE, solver) for solvers in starts.values() for solver in solvers}
    assert set(trial.ran[2:]) == tables
    assert len(tables) > 70
    assert found.best.solver == max((entry for entries in starts.values() for entry in entries), key=distance)
    assert {attempt.solver for attempt in found.attempts} == {max(each, key=distance) for each in starts.values()}


def test_every_finalist_and_every_size_of_move_has_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only running moves."""
    trial = ExactTrial()
    monkeypatch.setattr(tuning.time, "monotonic", lambda: float(len(trial.ran)))
    seconds = len(CANDIDATES) * len(POWERS) + 1 + 80
    clock = []
    found = search(10, trial, seconds=seconds, report=lambda line: clock.append(len(trial.ran)))
    # One run may begin just before the time is up.
    assert seconds <= found.tried <= seconds + 1
    spent = np.diff(clock[len(CANDIDATES) :])
    assert len(spent) == 4 + 2 + 1 + 1
    assert spent.min() >= 10
    assert spent[:4].max() <= 11
    starts = {whole_times(SCHEDULE.T, 10, power) for power in POWERS}
    assert sum(attempt.solver.times not in starts for attempt in found.attempts) == tuning.FINALISTS


def test_the_nearest_are_searched_and_the_nearer_half_of_them_goes_on(five) -> None:
    _, _, lines = five
    known = dict(line.removesuffix(" dB").split(": ") for line in lines[1 : len(CANDIDATES) + 1])
    searched = [re.fullmatch(r"(.*), times moved by (\d+): (.*) dB", line) for line in lines[len(CANDIDATES) + 1 :]]
    left = tuning.FINALISTS
    for move in ("8", "4", "2", "1"):
        group = {match[1]: match[3] for match in searched if match and match[2] == move}
        assert sorted(map(float, known.values()), reverse=True)[:left] == sorted(
            (float(known[name]) for name in group), reverse=True
        )
        assert all(float(nearer) >= float(known[name]) for name, nearer in group.items())
        known, left = group, max(1, left // 2)
    assert f"{five[0].best.distance_db:.2f}" in known.values()


def test_what_is_reported(five) -> None:
    _, _, lines = five
    assert lines[0] == "reference: ode-2 at 100 evaluations, 2 pictures"
    assert lines[1].startswith("dpm++-2 data lower-order: ")
    form = r"[a-z0-9+-]+ (data|noise) [a-z-]+(, times moved by \d+)?: \d+\.\d\d dB"
    assert all(re.fullmatch(form, line) for line in lines[1:])
