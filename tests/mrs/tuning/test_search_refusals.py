"""A search never takes pictures that are no numbers, refuses what it cannot search, and needs whole times alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from mrs.kernels.table import Table
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import BackendError, InputError
from mrs.tuning import search as tuning
from mrs.tuning.search import CANDIDATES, POWERS, tune
from tests.gaussian import GaussianProblem
from tests.mrs.tuning.searches import PICTURES, ExactTrial, WholeTrial, search
from tests.mrs.tuning.trials import SCHEDULE, Array

pytestmark = pytest.mark.slow(5)


# Pictures that are no numbers


def spoilt(spoil: Callable[[], Array]) -> ExactTrial:
    """A trial where thresholded tables go wrong."""

    class Spoilt(ExactTrial):
        def restored(self, table: Table) -> Array:
            return spoil() if table.clamp == "threshold" else super().restored(table)

    return Spoilt()


def one_not_a_number() -> Array:
    pictures = PICTURES / 255
    pictures[0, 0, 0, 0] = np.nan
    return pictures


def refused() -> Array:
    raise BackendError("the network gave infinities or NaN")


@pytest.mark.parametrize("spoil", [one_not_a_number, refused])
def test_a_candidate_whose_pictures_are_not_finite_never_wins(spoil: Callable[[], Array]) -> None:
    candidates = [Solver("dpm++", 3, clamp="threshold"), Solver("dpm++", 1), Solver("deis", 2, clamp="threshold")]
    found = search(4, spoilt(spoil), candidates=candidates)
    assert [attempt.distance_db == -math.inf for attempt in found.attempts] == [False, True, True]
    assert found.best.solver.clamp == "none"


@pytest.mark.parametrize("spoil", [one_not_a_number, refused])
def test_a_search_without_any_finite_pictures_finds_nothing(
    spoil: Callable[[], Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = ExactTrial()
    monkeypatch.setattr(trial, "restored", lambda table: spoil() if len(table.rows) < 100 else PICTURES / 255)
    with pytest.raises(BackendError, match=r"no solver gives pictures .* \(check the weights\)"):
        search(4, trial)


def test_an_engine_that_fails_at_the_reference_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = ExactTrial()
    monkeypatch.setattr(trial, "restored", lambda table: refused())
    with pytest.raises(BackendError, match="the network gave"):
        search(4, trial)


# What is refused


@pytest.mark.parametrize(("T", "evaluations"), [(100, 0), (100, 1), (100, 51), (100, -3), (7, 4), (3, 2)])
def test_evaluations_that_leave_nothing_to_search(T: int, evaluations: int) -> None:
    trial = ExactTrial(refused)
    with pytest.raises(InputError) as caught:
        tune(trial, Schedule(T=T), evaluations)
    assert caught.value.message == f"{evaluations} evaluations are outside 2 to {T // 2}"
    assert caught.value.hint == "one has no times to move, more need no search of the grid"
    assert trial.ran == []


@pytest.mark.parametrize("evaluations", [2, 50])
def test_the_fewest_and_the_most_evaluations(evaluations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the time of some runs after those of the plain grids."""
    trial = ExactTrial()
    monkeypatch.setattr(tuning.time, "monotonic", lambda: float(len(trial.ran)))
    found = search(evaluations, trial, candidates=CANDIDATES[:1], seconds=len(POWERS) + 20)
    assert len(found.best.solver.times) == evaluations + 1


@pytest.mark.parametrize("candidate", [Solver("euler-ode", 1), Solver(start_time=50.0)], ids=["single", "later"])
def test_a_candidate_that_cannot_have_a_grid_of_its_own(candidate: Solver) -> None:
    with pytest.raises(InputError, match=r"times of its own|starts where its times start"):
        search(4, candidates=[candidate])


# Whole times


@pytest.mark.parametrize("evaluations", [3, 6, 7, 8, 9, 12])
def test_a_network_that_is_known_at_whole_times_is_enough(evaluations: int) -> None:
    trial = WholeTrial()
    found = search(evaluations, trial, seconds=0)
    assert found == search(evaluations, seconds=0)
    published = tableau(SCHEDULE, Solver("ode", 2, steps=evaluations)).times
    assert found.published.solver.steps == evaluations
    assert found.published.solver.times == tuple(float(round(t)) for t in published)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(T=150),
        Schedule(T=200),
        Schedule(T=37),
        Schedule(T=5),
        Schedule(max_sigma=255.0, eps=0.001),
        Schedule("linear", T=99, convention="ir-sde"),
    ],
    ids=lambda schedule: f"{schedule.kind} {schedule.T} {schedule.max_sigma:g}",
)
def test_every_process_has_a_reference_at_whole_times(schedule: Schedule) -> None:
    trial, lines = WholeTrial(GaussianProblem(schedule).denoiser()), []
    found = tune(trial, schedule, 2, candidates=CANDIDATES[:2], seconds=10, report=lines.append)
    times = trial.ran[0].times
    assert all(u > t for u, t in pairwise(times))
    assert times[-1] == 0
    assert schedule.half_log_snr(times[0]) >= -5
    assert lines[0] == f"reference: ode-2 at {len(times) - 1} evaluations, 2 pictures"
    assert len(times) - 1 >= 0.7 * min(100, schedule.T)
    assert math.isfinite(found.best.distance_db)
