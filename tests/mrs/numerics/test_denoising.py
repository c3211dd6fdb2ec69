"""The denoising process: noise around the clean picture itself, from the noisy picture as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrs.numerics.methods import METHODS
from mrs.numerics.reference import sample
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError
from tests.together import together

GOLDEN = Path(__file__).parents[2] / "golden" / "networks" / "trajectory_denoising.npz"
# Between whole times of the published schedule a, s and lam do not quite belong together.
EXACT = Schedule(max_sigma=75, eps=0.04, convention="ir-sde", interpolation="exact", process="denoising")
PUBLISHED = Schedule(max_sigma=75, eps=0.04, convention="ir-sde", process="denoising")


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    with np.load(GOLDEN) as file:
        return dict(file)


def test_the_tables_are_the_published_ones(golden: dict[str, Any]) -> None:
    # They were computed in float32, where 1 - exp(-2 Theta dt) loses digits near 0.
    np.testing.assert_allclose(PUBLISHED.sigmas, golden["sigma_bars"], rtol=0, atol=5e-7)
    np.testing.assert_allclose(PUBLISHED.theta, golden["thetas"], rtol=0, atol=1e-6)
    assert PUBLISHED.dt == pytest.approx(float(golden["dt"]), rel=1e-6)
    np.testing.assert_array_equal(PUBLISHED.alphas, np.ones(101))


@together("schedule", [PUBLISHED, EXACT], ids=["published", "exact"])
@together("sigma", [15, 25, 50])
def test_the_time_that_fits_a_noise(golden: dict[str, Any], sigma: int, schedule: Schedule) -> None:
    """The published code takes the nearest whole time; ours is where the noise is that very one."""
    time = schedule.time_of_noise(sigma)
    assert abs(time - int(golden[f"T_for_sigma{sigma}"])) <= 0.5
    assert 255 * schedule.sigma(time) == pytest.approx(sigma, rel=1e-12)


@together("sigma", [0, -1, 75, 300, float("nan")])
def test_a_noise_that_the_process_does_not_reach_is_refused(sigma: float) -> None:
    with pytest.raises(InputError, match=r"noise of .* is outside \(0, 74.94\]"):
        PUBLISHED.time_of_noise(sigma)


@together("prediction", ["data", "noise"])
@together("steps", [1, 4, 21])
@together("method", [name for name in METHODS if METHODS[name].times == "grid"])
def test_every_method_finds_the_picture_of_a_perfect_network(method: str, steps: int, prediction: str) -> None:
    """eps = (x - x0) / s holds along the way of an ODE, and x' = q0 is the end of every method."""
    facts = METHODS[method]
    options: dict[str, Any] = {"momentum": {"momentum": 0.2}, "stochasticity": {}}.get(facts.option or "", {})
    solver = Solver(method, min(facts.orders), prediction, steps, start_time=EXACT.time_of_noise(25), **options)
    table = tableau(EXACT, solver)
    assert table.start == 0
    random = np.random.default_rng(0)
    clean = random.random((1, 3, 5, 7))
    noisy = clean + 25 / 255 * random.standard_normal(clean.shape)
    sigma = dict(zip(table.times, EXACT.sigma(table.times), strict=True))
    found = sample(lambda x, mu, t: (x - clean) / sigma[t], noisy, table, clamp=False)
    np.testing.assert_allclose(found, clean, rtol=0, atol=1e-9)


@together("method", ["euler-ode", "euler-sde"])
def test_single_steps_are_the_published_formula(golden: dict[str, Any], method: str) -> None:
    """`reverse_ode` and `reverse_sde` of DenoisingSDE, from the published tables in float32."""
    table = tableau(PUBLISHED, Solver(method, 1, "noise", 21, start_time=21.0))
    assert table.times == tuple(map(float, range(21, -1, -1)))
    dt = float(golden["dt"])
    for row, t in zip(table.rows, range(21, 0, -1), strict=True):
        left = np.exp(-2 * golden["thetas_cumsum"][t] * dt)
        share = left if method == "euler-ode" else 1 + left
        assert (row.ax, row.am) == (1, 0)
        assert row.b0 == pytest.approx(-0.5 * golden["sigmas"][t] ** 2 * share * dt / golden["sigma_bars"][t], rel=1e-4)
        noise = 0 if method == "euler-ode" else -golden["sigmas"][t] * np.sqrt(dt)
        assert row.n == pytest.approx(noise, rel=1e-4)


def test_the_mean_of_a_posterior_step_is_that_of_gaussians() -> None:
    """x_t given x_u and x0, both x0 plus noise: weights s_t^2 / s_u^2 and the rest."""
    table = tableau(PUBLISHED, Solver("posterior", 1, "data", 3, start_time=60))
    for row, u, t in zip(table.rows, table.times, table.times[1:], strict=False):
        share = float(PUBLISHED.sigma(t) / PUBLISHED.sigma(u)) ** 2
        assert row.ax == pytest.approx(share, abs=1e-12)
        assert row.b0 == pytest.approx(1 - share, rel=1e-12)
        assert row.n == pytest.approx(float(PUBLISHED.sigma(t)) * np.sqrt(1 - share), abs=1e-12)


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="process 'noising' is unknown"):
        Schedule(process="noising")
    with pytest.raises(InputError, match=r"the denoising process is IR-SDE's \(use convention ir-sde\)"):
        Schedule(process="denoising")
    with pytest.raises(InputError, match="no single steps of the denoising process"):
        tableau(PUBLISHED, Solver("posterior-published", 1, "data", 5))
    for method in ("euler-ode", "posterior-published"):
        with pytest.raises(InputError, match="a published baseline with times of its own"):
            tableau(Schedule(), Solver(method, 1, "data", 5, start_time=50))


def test_a_schedule_of_an_older_plan_is_mean_reverting() -> None:
    said = Schedule().to_dict()
    del said["process"]
    assert Schedule(**said) == Schedule()
