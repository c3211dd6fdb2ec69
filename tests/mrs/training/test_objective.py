"""What training minimises: the published loss, or velocity, at every time of every process."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mrs.numerics.schedule import CONVENTIONS, KINDS, Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.training.objective import Objective
from tests.together import together

pytestmark = pytest.mark.usefixtures("one_thread")


SCHEDULES = [Schedule(kind, 10.0, convention=convention) for kind in KINDS for convention in CONVENTIONS]


def posterior_mean(schedule: Schedule, t: int) -> tuple[float, float]:
    """Weights of x_t - mu and x0 - mu in the mean of x_{t-1} - mu, by multiplying the two Gaussians, in float64."""
    if t == 1 and schedule.convention == "ir-sde":
        return 0.0, 1.0
    a, s = (float(f(t - 1)) for f in (schedule.alpha, schedule.sigma))
    ratio = float(schedule.alpha(t)) / a
    prior, likelihood = 1 / s**2, ratio**2 / (schedule.S**2 * (1 - ratio**2))
    total = prior + likelihood
    return likelihood / ratio / total, prior * a / total


def expected_loss(schedule: Schedule, t: int, x0: float, mu: float, z: float, f: float) -> float:
    a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
    x = mu + a * (x0 - mu) + s * z
    of_state, of_clean = posterior_mean(schedule, t)
    optimum = mu + of_state * (x - mu) + of_clean * (x0 - mu)
    # dx = theta (mu - x) dt - 2 theta S^2 score dt, backwards from t, where theta dt is the fall of log a.
    step = (math.log(schedule.alpha(t - 1)) if t > 1 or schedule.convention == "mr-sampler" else 0.0) - math.log(a)
    mean = x - (step * (mu - x) - 2 * step * schedule.S**2 * (-f / s))
    return abs(mean - optimum)


def constants(shape: tuple[int, ...], *values: float) -> list[torch.Tensor]:
    return [torch.full(shape, value) for value in values]


@together("schedule", SCHEDULES, ids=lambda s: f"{s.kind} {s.convention}")
@together("t", [1, 2, 7, 50, 99, 100])
def test_loss_is_the_published_one(schedule: Schedule, t: int) -> None:
    objective = Objective(schedule, "noise", torch.device("cpu"))
    for x0, mu, z, f in [(0.9, 0.2, 0.7, -0.4), (0.1, 0.6, -1.5, 2.0), (0.5, 0.5, 0.0, 1.0)]:
        clean, degraded, noise = constants((1, 3, 2, 2), x0, mu, z)
        predicted = torch.full_like(clean, f)
        (loss,) = objective(lambda *_, predicted=predicted: predicted, clean, degraded, torch.tensor([t]), noise)
        expected = expected_loss(schedule, t, x0, mu, z, f)
        assert float(loss) == pytest.approx(expected, rel=1e-4, abs=3e-7)


@together("schedule", SCHEDULES, ids=lambda s: f"{s.kind} {s.convention}")
def test_loss_is_least_where_the_step_is_optimal(schedule: Schedule) -> None:
    torch.manual_seed(0)
    clean, mu, noise = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    t = torch.tensor([1, 5, 30, 60, 100])
    objective = Objective(schedule, "noise", torch.device("cpu"))

    def at(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)[:, None, None, None]

    weights = [posterior_mean(schedule, int(time)) for time in t]
    of_state, of_clean = at([a for a, _ in weights]), at([b for _, b in weights])
    a, s = at(schedule.alpha(t.numpy()).tolist()), at(schedule.sigma(t.numpy()).tolist())
    step = at((schedule.theta[t.numpy()] * schedule.dt).tolist())
    y0, z = (clean - mu).double(), noise.double()
    y = a * y0 + s * z
    # Solved for the output: the reverse step's mean equals the optimum.
    best = ((1 + step - of_state) * y - of_clean * y0) * s / (2 * step * schedule.S**2)

    def loss(off: float) -> float:
        return float(objective(lambda x, mu, t: (best + off).float(), clean, mu, t, noise).mean())

    assert loss(0.0) < 1e-6
    assert 0 < 10 * loss(0.0) < loss(0.01) < loss(0.1) < loss(1.0)
    assert loss(-1.0) == pytest.approx(loss(1.0), rel=1e-3)


@together("schedule", SCHEDULES, ids=lambda s: f"{s.kind} {s.convention}")
def test_velocity_is_what_a_restore_takes_it_for(schedule: Schedule) -> None:
    """Where the loss is 0, a table for velocity finds x0, at any time; and an error of x0 counts S / s times."""
    torch.manual_seed(0)
    clean, mu, noise = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    t = torch.tensor([1, 5, 30, 60, 100])
    objective = Objective(schedule, "velocity", torch.device("cpu"))
    seen: list[torch.Tensor] = []
    zero = torch.zeros_like(clean)
    # What is missed by an answer of zero is the right answer, up to its sign.
    objective(lambda x, mu, t: seen.append(x) or zero, clean, mu, t, noise)
    for index, time in enumerate(t.tolist()):
        a, s = float(schedule.alpha(time)), float(schedule.sigma(time))
        solver = Solver(method="posterior", order=1, steps=1, spacing="custom", times=(float(time), 0.0))
        row = tableau(schedule, solver, output="velocity").rows[0]
        x = seen[0][index]
        right = (a * x + (1 - a) * mu[index] - clean[index]) / (s / schedule.S)
        found = row.cx * x + row.cm * mu[index] + row.cf * right
        torch.testing.assert_close(found, clean[index], rtol=0, atol=2e-5)
        answers = torch.zeros_like(clean)
        answers[index] = right + 0.01
        losses = objective(lambda *_, answers=answers: answers, clean, mu, t, noise)
        assert float(losses[index]) == pytest.approx(0.01, rel=0.02)
        assert losses.shape == (5,)


def test_the_network_is_given_state_condition_and_time() -> None:
    schedule = Schedule(max_sigma=10, convention="ir-sde")
    seen = {}

    def net(x: torch.Tensor, mu: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.update(x=x, mu=mu, t=t)
        return torch.zeros_like(x)

    clean, mu, noise = constants((2, 3, 1, 1), 0.8, 0.3, 1.0)
    Objective(schedule, "noise", torch.device("cpu"))(net, clean, mu, torch.tensor([1, 100]), noise)
    for index, t in enumerate((1, 100)):
        expected = 0.3 + float(schedule.alpha(t)) * 0.5 + float(schedule.sigma(t))
        assert seen["x"][index].mean() == pytest.approx(expected, rel=1e-6)
    assert torch.equal(seen["mu"], mu)
    assert seen["t"].tolist() == [1.0, 100.0]


DENOISING = Schedule(max_sigma=75, eps=0.04, convention="ir-sde", process="denoising")


@together("t", [1, 2, 50, 100])
def test_the_loss_of_the_denoising_process_is_the_published_one(t: int) -> None:
    """The distance of the reverse step's mean, by the score that the network says, to the best step's."""
    objective = Objective(DENOISING, "noise", torch.device("cpu"))
    S, step, s = DENOISING.S, float(DENOISING.theta[t] * DENOISING.dt), float(DENOISING.sigma(t))
    decays = np.exp(-DENOISING.Theta * DENOISING.dt)
    for x0, z, f in [(0.9, 0.7, -0.4), (0.1, -1.5, 2.0), (0.5, 0.0, 1.0)]:
        clean, noise = constants((1, 3, 2, 2), x0, z)
        seen: list[tuple[torch.Tensor, ...]] = []

        def net(*given: torch.Tensor, f: float = f, seen: list[tuple[torch.Tensor, ...]] = seen) -> torch.Tensor:
            seen.append(given)
            return torch.full_like(given[0], f)

        (loss,) = objective(net, clean, clean, torch.tensor([t]), noise)
        x, time = seen[0]
        assert float(x[0, 0, 0, 0]) == pytest.approx(x0 + s * z, abs=1e-6)
        assert time.tolist() == [t]
        mean = x0 + s * z + step * S**2 * (1 + decays[t] ** 2) * (-f / s)
        kept = np.exp(-step) * (1 - decays[t - 1] ** 2) / (1 - decays[t] ** 2)
        assert float(loss) == pytest.approx(abs(mean - (x0 + kept * s * z)), rel=1e-3, abs=2e-6)
