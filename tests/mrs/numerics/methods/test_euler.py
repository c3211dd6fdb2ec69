"""The published Euler baselines are IR-SDE's loops, with all steps and with few."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mrs.numerics.methods.euler import single_steps
from mrs.numerics.schedule import CONVENTIONS, KINDS, Schedule
from mrs.numerics.solver import PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError
from tests.together import together

each_prediction = together("prediction", PREDICTIONS)
each_convention = together("convention", CONVENTIONS)
each_number = together("steps", [1, 2, 5, 10, 33, 100])


class Published:
    """IR-SDE's process as its paper writes it, in its own numbers: sigma_t, not S; tables of its own."""

    def __init__(self, schedule: Schedule) -> None:
        self.T, self.start = schedule.T, schedule.max_sigma / 255
        n = schedule.T + 2
        c = [math.cos((k / n + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(n + 1)]
        self.theta = [1 - c[t + 1] / c[0] for t in range(schedule.T + 1)]
        first = 1 if schedule.convention == "ir-sde" else 0
        total = [sum(self.theta[first : t + 1]) for t in range(schedule.T + 1)]
        self.dt = -math.log(schedule.eps) / total[-1]
        self.a = [math.exp(-part * self.dt) for part in total]
        self.s = [schedule.max_sigma / 255 * math.sqrt(max(0.0, 1 - a**2)) for a in self.a]
        # sigma_t^2 / theta_t = 2 lambda^2.
        self.sigma = [schedule.max_sigma / 255 * math.sqrt(2 * theta) for theta in self.theta]

    def drift(self, t: int, x: Any, mu: Any) -> Any:
        return self.theta[t] * (mu - x) * self.dt

    def score(self, t: int, eps: Any) -> Any:
        return -eps / self.s[t]

    def run(self, steps: int, mu: Any, z: Any, network: Callable[..., Any], move: Callable[..., Any]) -> Any:
        """From the start to the end; `move` gives the next x from t, x, the score there and fresh noise."""
        x = mu + self.start * z[0]
        for i, t in enumerate(visited(self.T, steps)):
            x = move(t, x, self.score(t, network(x, mu, float(t))), z[i + 1])
        return x


def visited(T: int, steps: int) -> list[int]:
    """The published few-step runs: whole times from 1 to T, from the back."""
    return [int(time) for time in np.linspace(1, T, steps)][::-1]


@each_number
@each_convention
@each_prediction
def test_the_sde_is_published_euler_maruyama(
    prediction: str, convention: str, steps: int, mu: Any, z: Any,
    predict: Callable[..., Any], solve: Callable[..., Any],
) -> None:  # fmt: skip
    schedule = Schedule(convention=convention)
    process = Published(schedule)

    def move(t: int, x: Any, score: Any, noise: Any) -> Any:
        reverse_drift = process.drift(t, x, mu) - process.sigma[t] ** 2 * score * process.dt
        dispersion = process.sigma[t] * noise * math.sqrt(process.dt)
        return x - reverse_drift - dispersion

    x = process.run(steps, mu, z, predict(schedule), move)
    result = mu + solve(schedule, Solver("euler-sde", 1, prediction, steps))
    np.testing.assert_allclose(result, x, rtol=0, atol=1e-9 * float(np.abs(x).max()))


@each_number
@each_convention
@each_prediction
def test_the_ode_is_published_euler(
    prediction: str, convention: str, steps: int, mu: Any, z: Any,
    predict: Callable[..., Any], solve: Callable[..., Any],
) -> None:  # fmt: skip
    schedule = Schedule(convention=convention)
    process = Published(schedule)

    def move(t: int, x: Any, score: Any, noise: Any) -> Any:
        return x - (process.drift(t, x, mu) - 0.5 * process.sigma[t] ** 2 * score * process.dt)

    x = process.run(steps, mu, z, predict(schedule), move)
    result = mu + solve(schedule, Solver("euler-ode", 1, prediction, steps))
    np.testing.assert_allclose(result, x, rtol=0, atol=1e-9 * float(np.abs(x).max()))


@together("method", ["euler-sde", "euler-ode"])
@together("kind", KINDS)
@each_convention
def test_only_t_says_what_a_step_is(convention: str, kind: str, method: str) -> None:
    """A few-step row is the row of the same t in the run of all steps: most of the way is never gone."""
    schedule = Schedule(kind, convention=convention)
    every = tableau(schedule, Solver(method, 1, steps=100))
    of_time = dict(zip(every.times, every.rows, strict=False))
    few = tableau(schedule, Solver(method, 1, steps=7))
    assert few.rows == tuple(of_time[time] for time in few.times[:-1])


@together(
    ("T", "steps", "expected"),
    [
        (100, 1, [1, 0]),
        (100, 2, [100, 1, 0]),
        (100, 5, [100, 75, 50, 25, 1, 0]),
        (10, 4, [10, 7, 4, 1, 0]),
        (10, 10, list(range(10, -1, -1))),
        # int() cuts 5.5, 3.25.
        (10, 3, [10, 5, 1, 0]),
    ],
)
def test_times(T: int, steps: int, expected: list[int]) -> None:
    assert single_steps(Schedule(T=T), steps) == expected
    assert list(tableau(Schedule(T=T), Solver("euler-ode", 1, steps=steps)).times) == expected


@together("method", ["euler-sde", "euler-ode", "posterior-published"])
def test_more_steps_than_there_are_times_are_refused(method: str) -> None:
    with pytest.raises(InputError) as caught:
        tableau(Schedule(T=20), Solver(method, 1, steps=21))
    assert caught.value.message == "there are no 21 single steps in 20"
    assert caught.value.hint == "use fewer steps"
