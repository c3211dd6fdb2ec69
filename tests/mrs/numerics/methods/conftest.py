"""What the tests of several methods share: pictures, a network that is linear in nothing, and a run of a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mrs.numerics.reference import sample
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau

SHAPE = (1, 3, 4, 5)
# Of enough draws for every run here.
DRAWS = 120


@pytest.fixture(scope="session")
def mu() -> Any:
    """A degraded picture."""
    return frozen(np.random.default_rng(0).random(SHAPE))


@pytest.fixture(scope="session")
def z() -> Any:
    """Draws: z[0] is x_T's, z[i + 1] that of step i."""
    return frozen(np.random.default_rng(1).standard_normal((DRAWS, *SHAPE)))


@pytest.fixture(scope="session")
def predict() -> Callable[[Schedule], Any]:
    """A noise prediction that is linear neither in x nor in t, to be called as `predict(schedule)(x, mu, t)`."""

    def of(schedule: Schedule) -> Any:
        def noise(x: Any, mu: Any, t: float) -> Any:
            a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
            eps = s * (x - a * (0.5 + 0.4 * np.sin(4 * mu)) - (1 - a) * mu) / (a**2 * 0.15**2 + s**2)
            return eps + 0.05 * np.sin(5 * x + t / 20)

        return noise

    return of


@pytest.fixture(scope="session")
def solve(mu: Any, z: Any, predict: Callable[[Schedule], Any]) -> Callable[[Schedule, Solver], Any]:
    """y = x - mu at the end of a solver's table, with the shared picture, draws and noise prediction."""

    def run(schedule: Schedule, solver: Solver) -> Any:
        table = tableau(schedule, solver)
        return sample(predict(schedule), mu, table, z[1:], z[0], clamp=False) - mu

    return run


@pytest.fixture(scope="session")
def belief(mu: Any, predict: Callable[[Schedule], Any]) -> Callable[..., Any]:
    """What that network believes of x = mu + y: x0 - mu for a data prediction, eps for a noise prediction."""

    def of(schedule: Schedule, prediction: str, y: Any, t: float) -> Any:
        eps = predict(schedule)(mu + y, mu, t)
        return (y - float(schedule.sigma(t)) * eps) / float(schedule.alpha(t)) if prediction == "data" else eps

    return of


def frozen(array: Any) -> Any:
    """Shared by many tests: who writes into it would spoil the others."""
    array.setflags(write=False)
    return array
