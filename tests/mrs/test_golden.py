"""The published implementations' own numbers: every case of tests/golden through `tableau` and `sample`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrs.kernels.table import Table
from mrs.numerics.reference import sample
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau

CASES = range(10)


def made(case: dict[str, Any]) -> tuple[Schedule, Table]:
    schedule = Schedule(case["schedule"], case["max_sigma"], case["eps"], 100, case.get("convention", "mr-sampler"))
    if case["algorithm"] == "posterior":
        solver = Solver("posterior", 1, steps=case["steps"])
    else:
        solver = Solver(
            case["solver_type"],
            case["order"],
            case["parameterization"],
            case["steps"],
            case["time_schedule"],
            case["lambda_min"],
        )
    return schedule, tableau(schedule, solver, case["fit_target"])


def denoiser(schedule: Schedule, output: str) -> Any:
    """The closed form that stands in for the network, as tests/golden/README.md gives it."""

    def network(x: Any, mu: Any, t: float) -> Any:
        a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
        middle = 0.5 + 0.4 * np.sin(4 * mu)
        eps = s * (x - a * middle - (1 - a) * mu) / (a**2 * 0.15**2 + s**2) + 0.05 * np.sin(5 * x + t / 20)
        x0 = (x - (1 - a) * mu - s * eps) / a
        outputs = {"noise": eps, "data": x0, "velocity": a * schedule.S * eps - s / schedule.S * (x0 - mu)}
        return outputs[output]

    return network


def test_every_case_is_tested(golden: Any) -> None:
    assert [case["index"] for case in golden.cases] == list(CASES)


@pytest.mark.parametrize("index", CASES)
def test_trajectory(golden: Any, index: int) -> None:
    case, arrays = golden.cases[index], golden.arrays
    schedule, table = made(case)
    result = sample(
        denoiser(schedule, case["fit_target"]),
        arrays["mu"].astype(np.float64),
        table,
        noise=arrays["noise_bank"],
        init_noise=arrays["init_noise"],
        clamp=False,
    )
    expected = arrays[f"out_{index}"]
    assert result.dtype == np.float64
    assert np.abs(result - expected).max() < 2e-4 * np.abs(expected).max()


@pytest.mark.parametrize("index", [index for index in CASES if index >= 8])
def test_the_published_posterior_by_its_own_name(golden: Any, index: int) -> None:
    """At all of T steps it is what was published, too: there the coefficients of single steps are right."""
    case, arrays = golden.cases[index], golden.arrays
    assert (case["algorithm"], case["steps"]) == ("posterior", 100)
    schedule, _ = made(case)
    table = tableau(schedule, Solver("posterior-published", 1, steps=100))
    mu = arrays["mu"].astype(np.float64)
    network = denoiser(schedule, "noise")
    result = sample(network, mu, table, arrays["noise_bank"], arrays["init_noise"], clamp=False)
    expected = arrays[f"out_{index}"]
    assert np.abs(result - expected).max() < 2e-4 * np.abs(expected).max()


@pytest.mark.parametrize("index", [0, 1, 2, 3, 4, 5])
def test_other_names_of_the_same_method_are_as_near(golden: Any, index: int) -> None:
    """Of order 1 and 2, `dpm++` gives the published ODE's trajectories, `sa` at tau = 1 the SDE's; of order 3 not."""
    case, arrays = golden.cases[index], golden.arrays
    schedule, published = made(case)
    assert all(time == int(time) for time in published.times)
    name, tau = ("dpm++", 0.0) if case["solver_type"] == "ode" else ("sa", 1.0)
    solver = Solver(name, case["order"], case["parameterization"], case["steps"], stochasticity=tau)
    table = tableau(schedule, solver, case["fit_target"])
    network, mu = denoiser(schedule, case["fit_target"]), arrays["mu"].astype(np.float64)
    result = sample(network, mu, table, arrays["noise_bank"], arrays["init_noise"], clamp=False)
    expected = arrays[f"out_{index}"]
    apart = np.abs(result - expected).max() / np.abs(expected).max()
    if case["order"] == 3:
        assert 1e-3 < apart < 0.1
    else:
        assert apart < 2e-4


@pytest.mark.parametrize("index", CASES)
def test_times(golden: Any, index: int) -> None:
    case = golden.cases[index]
    _, table = made(case)
    assert len(table.rows) == case["steps"]
    if case["algorithm"] == "posterior":
        assert table.times == tuple(range(100, -1, -1))
        return
    published = golden.arrays[f"ts_{index}"]
    # The published times are float32, and come from float32 tables where they are mapped back from lam.
    atol = 1e-3 if case["time_schedule"] == "linear-lambda" else 1e-5
    np.testing.assert_allclose(table.times, published, rtol=0, atol=atol)


@pytest.mark.parametrize("index", CASES)
def test_draws(golden: Any, index: int) -> None:
    case = golden.cases[index]
    _, table = made(case)
    # With s_0 = 0 the published last step draws noise and multiplies it by 0; the table draws none.
    unused = case.get("convention") == "ir-sde"
    assert table.draws == case["noise_used"] - unused
    assert [i for i, row in enumerate(table.rows) if row.n] == list(range(table.draws))


@pytest.mark.parametrize("index", CASES)
def test_float32_is_as_near(golden: Any, index: int) -> None:
    """In the precision of the runtime the distance to the published numbers hardly grows."""
    case, arrays = golden.cases[index], golden.arrays
    schedule, table = made(case)
    network = denoiser(schedule, case["fit_target"])
    result = sample(network, arrays["mu"], table, arrays["noise_bank"], arrays["init_noise"], clamp=False)
    expected = arrays[f"out_{index}"]
    assert result.dtype == np.float32
    assert np.abs(result - expected).max() < 5e-4 * np.abs(expected).max()
