"""The search for the truth: what it finds restores pictures better that it never saw, and it tells so truly."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import BackendError, InputError
from mrs.tuning import ascent, truth
from mrs.tuning.ascent import Ascent
from mrs.tuning.truth import SCALES, Truest, plain_settings, tune_truth
from tests.gaussian import GaussianProblem
from tests.mrs.tuning.trials import SCHEDULE, solver_at, two_values
from tests.mrs.tuning.truths import judge

QUIET = {"noise_scale": 0.0, "start_noise": 0.0}


def quiet(*times: float) -> Solver:
    return solver_at(times, "posterior", 1, **QUIET)


@pytest.fixture(scope="module")
def three() -> tuple[Truest, list[str], list[Solver]]:
    """A search at three evaluations, what it reported and what it kept."""
    lines: list[str] = []
    kept: list[Solver] = []
    return tune_truth(judge(0), judge(1), SCHEDULE, 3, report=lines.append, kept=kept.append), lines, kept


# What is found


@pytest.mark.parametrize("evaluations", [2, 3, 5])
def test_what_is_found_restores_unseen_pictures_better_by_decibels(evaluations: int) -> None:
    found = tune_truth(judge(0), judge(1), SCHEDULE, evaluations)
    assert found.best.searched > found.plain.searched + 3
    assert np.mean(found.best.unseen) > np.mean(found.plain.unseen) + 3
    assert found.best.solver.weights
    assert found.best.solver.steps == evaluations


def test_the_scores_told_are_those_of_tables_run_again(three) -> None:
    found, _, _ = three
    for judged in (found.best, found.plain):
        table = tableau(SCHEDULE, judged.solver)
        assert judged.searched == pytest.approx(judge(0).judged(table).mean(), abs=1e-6)
        np.testing.assert_allclose(judged.unseen, judge(1).judged(table), atol=1e-6)


def test_the_plain_settings_are_all_tried_and_the_best_of_them_is_told(three) -> None:
    found, _, _ = three
    assert [solver for solver, _ in found.tried] == plain_settings(SCHEDULE, 3)
    assert {(s.noise_scale, s.start_noise) for s, _ in found.tried} == {(n, s) for n in SCALES for s in SCALES}
    assert {solver.times for solver, _ in found.tried} == {(100.0, 67.0, 33.0, 0.0)}
    assert (found.plain.solver, found.plain.searched) == max(found.tried, key=lambda each: each[1])


def test_the_unseen_pictures_change_nothing_but_what_is_told(three) -> None:
    other = tune_truth(judge(0), judge(7), SCHEDULE, 3)
    assert other.best.solver == three[0].best.solver
    assert other.best.unseen != three[0].best.unseen


def test_times_are_whole_and_fall(three) -> None:
    found, _, kept = three
    for solver in (found.best.solver, *kept):
        assert all(time.is_integer() for time in solver.times)
        assert sorted(set(solver.times), reverse=True) == list(solver.times)
        assert solver.times[0] <= SCHEDULE.T
        assert solver.times[-1] == 0


def test_what_is_kept_on_the_way_gets_better_and_ends_with_the_best(three) -> None:
    found, lines, kept = three
    scores = [judge(0).judged(tableau(SCHEDULE, solver)).mean() for solver in kept]
    assert scores == sorted(scores)
    assert kept[-1] == found.best.solver
    assert sum(line.startswith("times and weights, step ") for line in lines) == len(kept)


def test_a_search_goes_on_from_what_an_earlier_one_found(three) -> None:
    found, _, _ = three
    again = tune_truth(judge(0), judge(1), SCHEDULE, 3, begin=found.best.solver, seconds=0)
    assert again.best == found.best
    first = tune_truth(judge(0), judge(1), SCHEDULE, 3, seconds=0)
    assert first.best == first.plain


def test_the_climb_of_a_later_search_starts_where_the_earlier_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ascent, "ITERATIONS", 1)
    first = tune_truth(judge(0), judge(1), SCHEDULE, 3)
    second = tune_truth(judge(0), judge(1), SCHEDULE, 3, begin=first.best.solver)
    assert second.best.searched > first.best.searched


def test_where_noise_restores_best_times_and_scales_are_moved_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best denoiser of a Gaussian problem, judged by how near the spread of its pictures is to the true one."""
    problem = GaussianProblem(SCHEDULE, 0.0, 0.1)
    spreads = judge(0, problem.denoiser()), judge(1, problem.denoiser())

    def spread(self: Any, x: Any, clean: Any) -> Any:
        found = np.std(x - self_mu[len(x)], axis=(1, 2, 3))
        return -10 * np.log10(np.abs(found - 0.1) + 1e-4)

    self_mu = {len(each.trial.mu): each.trial.mu for each in spreads}
    monkeypatch.setattr(type(spreads[0].metric), "__call__", spread)
    grey = np.full_like(spreads[0].trial.pictures, 128)
    for each in spreads:
        each.trial.pictures = grey
        each.trial.mu = np.full_like(each.trial.mu, 128 / 255)
        self_mu[len(grey)] = each.trial.mu
    found = tune_truth(*spreads, SCHEDULE, 3)
    assert found.plain.solver.noise_scale > 0
    assert found.best.searched > found.plain.searched + 3
    assert found.best.solver.noise_scale > 0
    assert not found.best.solver.weights


def test_the_denoising_process_starts_as_it_is() -> None:
    solvers = plain_settings(Schedule(process="denoising", convention="ir-sde"), 3)
    assert [(solver.noise_scale, solver.start_noise) for solver in solvers] == [(scale, 1.0) for scale in SCALES]


# Noise


def test_only_what_draws_noise_is_judged_by_several() -> None:
    one = judge(0, seeds=3)
    one.judged(tableau(SCHEDULE, quiet(100, 50, 0)))
    assert len(one.trial.seeds) == 1
    one.judged(tableau(SCHEDULE, replace(quiet(100, 50, 0), start_noise=0.5)))
    assert len(set(one.trial.seeds)) == 3


# The climb


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_the_gradient_is_that_of_the_score(start: float) -> None:
    problem = judge(0, two_values())
    solver = replace(quiet(90, 60, 25, 0), start_noise=start)
    climb = Ascent(problem, SCHEDULE, solver, "noise")
    gradient, curvature = climb._derivatives()
    weights = climb.at.weights
    places = [(row, place) for row, own in enumerate(weights) for place in range(len(own))]
    for at, (row, place) in enumerate(places):
        if start == 0 and place == 0:
            assert gradient[at] == curvature[at, at] == 0
            continue
        scores = []
        for change in (-1e-3, 1e-3):
            moved = [list(own) for own in weights]
            moved[row][place] += change
            table = tableau(SCHEDULE, replace(solver, weights=moved))
            scores.append(problem.judged(table).mean())
        assert gradient[at] == pytest.approx((scores[1] - scores[0]) / 2e-3, rel=0.1, abs=0.05)
        assert curvature[at, at] > 0
    for index in range(3):
        scores = []
        for change in (-1, 1):
            times = list(solver.times)
            times[index] += change
            table = tableau(SCHEDULE, replace(solver, times=times, weights=weights))
            scores.append(problem.judged(table).mean())
        assert gradient[len(places) + index] == pytest.approx((scores[1] - scores[0]) * 50, rel=0.2, abs=0.5)


def test_the_ridge_keeps_weights_near_their_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    own = np.concatenate(Ascent(judge(0), SCHEDULE, quiet(100, 67, 33, 0), "noise").at.weights)
    distances = []
    for ridge in (0.0, 1.0, 1000.0):
        monkeypatch.setattr(ascent, "RIDGE", ridge)
        found = tune_truth(judge(0), judge(1), SCHEDULE, 3).best.solver.weights
        distances.append(float(np.linalg.norm(np.concatenate(found) - own)) if found else 0.0)
    assert distances[0] > distances[1] > 2 * distances[2]


def test_a_climb_begins_no_step_after_its_deadline() -> None:
    climb = Ascent(judge(0), SCHEDULE, quiet(100, 67, 33, 0), "noise")
    before = climb.found
    assert climb.climb(-math.inf, lambda line: None, lambda solver, score: pytest.fail("kept")) == before


def test_infinities_are_no_good_score_though_the_clip_would_hide_them() -> None:
    climb = Ascent(judge(0), SCHEDULE, quiet(100, 67, 33, 0), "noise")
    assert climb._score(np.full_like(climb.judge.clean, np.inf)) == -math.inf
    assert climb._score(np.full_like(climb.judge.clean, 2.0)) > 0


# What is refused


def test_evaluations_that_leave_nothing_to_search() -> None:
    with pytest.raises(InputError, match="1 evaluations are outside 2 to 50"):
        tune_truth(judge(0), judge(1), SCHEDULE, 1)


def test_a_network_of_infinities_has_no_best_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, table: Any, seed: int = 0) -> Any:
        raise BackendError("not finite")

    broken_judge = judge(0)
    monkeypatch.setattr(type(broken_judge.trial), "run", broken)
    with pytest.raises(BackendError, match="no solver gives pictures without infinities"):
        truth.tune_truth(broken_judge, judge(1), SCHEDULE, 3)
