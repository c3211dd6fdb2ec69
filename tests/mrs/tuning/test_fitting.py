"""Fitted weights: nearer to the reference than the method's own, by true derivatives, and never further."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrs.export.architectures import load_checkpoint
from mrs.numerics.reference import sample
from mrs.numerics.schedule import CONVENTIONS, Schedule
from mrs.numerics.solver import OUTPUTS, PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from mrs.tuning import fitting
from mrs.tuning.fitting import fit, own_weights
from mrs.tuning.trial import Trial, of_network
from tests.gaussian import GaussianProblem
from tests.mrs.numerics.weight_takers import TAKERS
from tests.mrs.tuning.trials import HIGH, LOW, PICTURE, SCHEDULE, SHAPE, TIMES, Array, FakeTrial, solver_at, two_values

pytestmark = pytest.mark.slow(8)

each_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)
each_output = pytest.mark.parametrize("output", OUTPUTS)
each_convention = pytest.mark.parametrize("convention", CONVENTIONS)


def many_steps(trial: FakeTrial, schedule: Schedule = SCHEDULE, output: str = "noise") -> Array:
    return trial.restored(tableau(schedule, Solver(steps=100), output))


def exact(trial: FakeTrial, problem: GaussianProblem) -> Array:
    """Where the flow of a Gaussian problem takes the trial's start, without any step."""
    mu, x = trial.start(problem.schedule.S)
    final = mu + problem.flow((x - mu).astype(np.float64), problem.schedule.T, 0)
    return np.clip(final, 0, 1).transpose(0, 2, 3, 1).astype(np.float32)


# How near it gets


@pytest.mark.parametrize("method", ["dpm++", "deis", "unipc-b2", "ipndm"])
@each_prediction
@pytest.mark.parametrize("steps", TIMES)
def test_a_fit_is_nearer_by_decibels_for_these_pictures_and_for_others(
    steps: int, prediction: str, method: str
) -> None:
    trial, others = FakeTrial(two_values()), FakeTrial(two_values(), seed=1)
    solver = solver_at(TIMES[steps], method, prediction=prediction, last_step="lower-order")
    reference = many_steps(trial)
    fitted = fit(trial, SCHEDULE, solver, reference)
    assert trial.distance(fitted, reference) > trial.distance(solver, reference) + 3
    assert others.distance(fitted, many_steps(others)) > others.distance(solver, many_steps(others)) + 3
    # Nothing but the weights is changed.
    assert replace(fitted, weights=()) == solver
    assert len(fitted.weights) == steps


@each_output
@each_prediction
@each_convention
def test_the_exact_flow_of_a_gaussian_problem_is_found_with_three_steps(
    convention: str, prediction: str, output: str
) -> None:
    schedule = Schedule(convention=convention)
    problem = GaussianProblem(schedule, 0.05, 0.1)
    trial = FakeTrial(problem.denoiser(output))
    solver = solver_at(TIMES[3], prediction=prediction, last_step="lower-order")
    assert trial.distance(solver, exact(trial, problem), schedule, output) < 35
    fitted = fit(trial, schedule, solver, exact(trial, problem), output)
    assert trial.distance(fitted, exact(trial, problem), schedule, output) > 100
    # The flow is linear, so that it is found for all other pictures too.
    others = FakeTrial(problem.denoiser(output), seed=1)
    assert others.distance(fitted, exact(others, problem), schedule, output) > 95


@settings(max_examples=30)
@given(st.data())
def test_a_fit_never_gets_further_whatever_it_starts_from(data: Any) -> None:
    """Any times, any method, and weights that are far from every method's."""
    inner = data.draw(st.lists(st.integers(1, 99), min_size=0, max_size=4, unique=True))
    method, order = data.draw(st.sampled_from(TAKERS))
    prediction = data.draw(st.sampled_from(PREDICTIONS))
    solver = solver_at((100, *sorted(inner, reverse=True), 0), method, order, prediction=prediction)
    trial = FakeTrial(two_values(distance=data.draw(st.sampled_from([0.05, 0.15]))))
    if data.draw(st.booleans()):
        random = np.random.default_rng(data.draw(st.integers(0, 99)))
        own = own_weights(tableau(SCHEDULE, solver))
        solver = replace(
            solver, weights=[(np.array(row) + 0.1 * random.standard_normal(len(row))).tolist() for row in own]
        )
    reference = many_steps(trial)
    fitted = fit(trial, SCHEDULE, solver, reference)
    assert trial.distance(fitted, reference) >= trial.distance(solver, reference) - 1e-3


def test_a_solver_that_is_the_reference_stays_there() -> None:
    for solver in (solver_at(TIMES[3]), solver_at(TIMES[3], prediction="noise")):
        trial = FakeTrial(two_values())
        reference = trial.restored(tableau(SCHEDULE, solver))
        assert trial.distance(fit(trial, SCHEDULE, solver, reference), reference) > 115


def test_a_fit_goes_on_from_the_weights_of_the_fit_before() -> None:
    trial = FakeTrial(two_values())
    reference = many_steps(trial)
    first = fit(trial, SCHEDULE, solver_at(TIMES[5]), reference)
    assert fit(trial, SCHEDULE, first, reference, deadline=-math.inf) == first
    second = fit(trial, SCHEDULE, first, reference)
    assert trial.distance(second, reference) >= trial.distance(first, reference) - 1e-3


def test_two_fits_are_the_same() -> None:
    solver = solver_at(TIMES[5])
    one, other = (fit(FakeTrial(two_values()), SCHEDULE, solver, many_steps(FakeTrial(two_values()))) for _ in range(2))
    assert one == other


def test_the_last_step_that_denoises_is_where_the_fit_starts() -> None:
    """Its weights are then fitted like others; with `denoise_last` they would not be read."""
    for prediction in PREDICTIONS:
        solver = solver_at(TIMES[3], prediction=prediction, denoise_last=True)
        trial = FakeTrial(two_values())
        reference = many_steps(trial)
        unmoved = fit(trial, SCHEDULE, solver, reference, deadline=-math.inf)
        rows, own = (np.array(tableau(SCHEDULE, each).rows) for each in (unmoved, solver))
        np.testing.assert_allclose(rows, own, rtol=1e-12, atol=1e-13)
        fitted = fit(trial, SCHEDULE, solver, reference)
        assert not fitted.denoise_last
        assert trial.distance(fitted, reference) > trial.distance(solver, reference) + 3


# By which derivatives


@each_output
@each_prediction
@pytest.mark.parametrize("problem", ["gaussian", "mixture"])
def test_the_derivatives_are_those_of_the_reference_loop(problem: str, prediction: str, output: str) -> None:
    """J^T r and J^T J by central differences of the whole loop in float64, one weight after the other."""
    denoiser = (
        two_values(output=output) if problem == "mixture" else GaussianProblem(SCHEDULE, 0.05, 0.1).denoiser(output)
    )
    trial = FakeTrial(denoiser)
    solver = solver_at(TIMES[5], prediction=prediction)
    reference = many_steps(trial, output=output)
    own = own_weights(tableau(SCHEDULE, solver, output))
    runs = fitting._Runs(trial, SCHEDULE, solver, reference, output)
    gradient, curvature = runs.normal_equations(own, runs.states(own))

    def final(weights: Any) -> Array:
        table = tableau(SCHEDULE, replace(solver, weights=weights), output)
        return sample(denoiser, trial.mu.astype(np.float64), table, init_noise=trial.z, clamp=False)

    inside = (final(own) >= 0) & (final(own) <= 1)
    assert inside.mean() > 0.9
    columns = []
    for index, row in enumerate(own):
        for place in range(len(row)):
            ends = []
            for change in (1e-5, -1e-5):
                weights = [list(each) for each in own]
                weights[index][place] += change
                ends.append(final(weights))
            columns.append(((ends[0] - ends[1]) / 2e-5 * inside).ravel()[:: fitting.STRIDE])
    jacobian = np.array(columns)
    missing = (reference.transpose(0, 3, 1, 2) - np.clip(final(own), 0, 1)).ravel()[:: fitting.STRIDE]
    # What hardly moves the picture is lost in float32's rounding, and matters as little.
    size = np.linalg.norm(jacobian, axis=1)
    scale = 1 / np.maximum(size, 0.1 * size.max())
    expected = jacobian @ jacobian.T * scale[:, None] * scale
    np.testing.assert_allclose(curvature * scale[:, None] * scale, expected, rtol=0, atol=0.02)
    scale = scale / np.linalg.norm(missing)
    assert np.abs(jacobian @ missing * scale).max() > 0.1
    np.testing.assert_allclose(gradient * scale, jacobian @ missing * scale, rtol=0, atol=0.02)


@each_output
@each_prediction
@each_convention
def test_what_is_fitted_is_what_the_reference_loop_runs(convention: str, prediction: str, output: str) -> None:
    schedule = Schedule(convention=convention)
    trial = FakeTrial(GaussianProblem(schedule, 0.05, 0.1).denoiser(output))
    solver = solver_at(TIMES[5], "ipndm", 4, prediction=prediction)
    lines: list[str] = []
    reference = np.clip(many_steps(trial, schedule, output) + 0.01 * np.sin(np.arange(40 * 3)).reshape(SHAPE), 0, 1)
    fitted = fit(trial, schedule, solver, reference, output, report=lines.append)
    runs = fitting._Runs(trial, schedule, solver, reference, output)
    ended = np.clip(runs.states(fitted.weights)[-1][0], 0, 1).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ended, trial.restored(tableau(schedule, fitted, output)), rtol=0, atol=2e-5)
    # And the distance told is that of the solver returned.
    told = float(lines[-1].split(": ")[1].removesuffix(" dB"))
    assert told == pytest.approx(trial.distance(fitted, reference, schedule, output), abs=0.02)


def test_a_network_that_reads_no_state_leaves_its_last_weights_to_fit() -> None:
    """Without noise at the end the last step keeps no state: nothing before it moves the picture."""
    schedule = Schedule(convention="ir-sde")
    trial = FakeTrial(lambda x, mu, t: np.float32(0.5) + 0.2 * np.sin(9 * mu))
    solver = solver_at(TIMES[3])
    reference = (0.8 * trial.predict(trial.mu, trial.mu, 1) + 0.2 * trial.mu).transpose(0, 2, 3, 1)
    fitted = fit(trial, schedule, solver, reference, "data")
    assert (
        trial.distance(fitted, reference, schedule, "data") > 100 > trial.distance(solver, reference, schedule, "data")
    )


# Pixels that are clamped


def test_pixels_that_end_clamped_and_right_change_nothing() -> None:
    """A picture that ends white, as it should, beside one that is fitted."""
    means = np.array([0.0, 0.9]).reshape(2, 1, 1, 1)
    both = FakeTrial(GaussianProblem(SCHEDULE, means, 0.05).denoiser())
    reference = exact(both, GaussianProblem(SCHEDULE, means, 0.05))
    assert (reference[1] == 1).all()
    alone = FakeTrial(GaussianProblem(SCHEDULE, 0.0, 0.05).denoiser(), pictures=both.pictures[:1])
    alone.z = both.z[:1]
    solver = solver_at(TIMES[3], last_step="lower-order")
    # One step, for the squared distance is a mean over more pixels, and may stop the fit elsewhere.
    own = own_weights(tableau(SCHEDULE, solver))
    found = []
    for trial, target in ((both, reference), (alone, reference[:1])):
        runs = fitting._Runs(trial, SCHEDULE, solver, target, "noise")
        found.append(runs.normal_equations(own, runs.states(own)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
    assert both.distance(fit(both, SCHEDULE, solver, reference), reference) > 100


def test_pictures_of_which_many_pixels_are_clamped_get_nearer_too() -> None:
    pictures = np.random.default_rng(5).integers(0, 256, SHAPE, np.uint8)
    trial = FakeTrial(two_values(), pictures=pictures)
    reference = many_steps(trial)
    assert ((reference == 0) | (reference == 1)).mean() > 0.05
    for prediction in PREDICTIONS:
        solver = solver_at(TIMES[5], prediction=prediction, last_step="lower-order")
        fitted = fit(trial, SCHEDULE, solver, reference)
        assert trial.distance(fitted, reference) > trial.distance(solver, reference) + 3


def test_where_all_pixels_are_clamped_the_methods_own_weights_stay() -> None:
    trial = FakeTrial(lambda x, mu, t: np.full_like(mu, 1.5))
    solver = solver_at(TIMES[3])
    fitted = fit(trial, SCHEDULE, solver, np.full(SHAPE, 0.5, np.float32), "data")
    assert fitted.weights == own_weights(tableau(SCHEDULE, solver, "data"))


# When it ends


def test_after_the_deadline_the_methods_own_weights_are_given() -> None:
    for solver in (solver_at(TIMES[5], "unipc-b2", 3), solver_at(TIMES[3], "ipndm", 3, prediction="noise")):
        trial = FakeTrial(two_values())
        lines: list[str] = []
        fitted = fit(trial, SCHEDULE, solver, PICTURE, deadline=-math.inf, report=lines.append)
        assert fitted == replace(solver, weights=own_weights(tableau(SCHEDULE, solver)))
        assert trial.evaluations == solver.steps
        assert lines == []


def test_a_deadline_between_two_steps_keeps_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only the network moves."""
    trial = FakeTrial(two_values())
    reference = many_steps(trial)
    monkeypatch.setattr(fitting.time, "monotonic", lambda: float(trial.evaluations))
    solver, lines = solver_at(TIMES[5]), []
    fitted = fit(trial, SCHEDULE, solver, reference, deadline=solver.steps + 1, report=lines.append)
    assert len(lines) == 1
    assert trial.distance(solver, reference) < trial.distance(fitted, reference)
    longer = fit(trial, SCHEDULE, solver, reference)
    assert trial.distance(fitted, reference) < trial.distance(longer, reference)


def test_each_step_is_reported_with_its_distance() -> None:
    trial, lines = FakeTrial(two_values()), []
    reference = many_steps(trial)
    fitted = fit(trial, SCHEDULE, solver_at(TIMES[3]), reference, report=lines.append)
    matches = [re.fullmatch(r"weights fitted, step (\d): (\d+\.\d\d) dB", line) for line in lines]
    assert [int(match[1]) for match in matches] == list(range(1, len(lines) + 1))
    assert 1 < len(lines) <= fitting.ITERATIONS
    distances = [float(match[2]) for match in matches]
    assert all(one <= other for one, other in itertools.pairwise(distances))
    assert distances[-1] == pytest.approx(trial.distance(fitted, reference), abs=0.02)


# With a network


@pytest.mark.usefixtures("one_thread")
def test_a_fit_of_a_network_is_what_its_trial_then_runs(golden: Any) -> None:
    schedule = Schedule()
    pictures = np.random.default_rng(3).integers(LOW, HIGH, (3, 9, 14, 3), np.uint8)
    net = load_checkpoint(golden.weights)
    trial = Trial(of_network(net.arch, net), pictures, "fp32", 1, batch=2)

    def run(solver: Solver) -> Array:
        table = tableau(schedule, solver)
        return trial.run(table)

    reference = run(solver_at(range(100, -1, -5)))
    solver, lines = solver_at(TIMES[3], last_step="lower-order"), []
    fitted = fit(trial, schedule, solver, reference, report=lines.append)
    before, after = (-10 * np.log10(np.mean((run(each) - reference) ** 2)) for each in (solver, fitted))
    assert after > before + 3
    assert float(lines[-1].split(": ")[1].removesuffix(" dB")) == pytest.approx(after, abs=0.02)
