"""Our rows equal diffusers' schedulers where conventions agree: `tests/golden/peers.json`, made by `peers.py` there."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrs.kernels.table import Table
from mrs.numerics.reference import sample
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from tests.golden import peers

FOUND = json.loads((Path(peers.__file__).parent / "peers.json").read_text())
CASES = [peers.Case(*(found[field] for field in peers.Case._fields)) for found in FOUND["cases"]]
PLAIN = {"steps": peers.STEPS, "last_step": "lower-order", "lambda_min": -math.inf}


def solver(case: peers.Case) -> Solver:
    """Ours with diffusers' habit at the end, where the order falls to 1 below 15 steps."""
    return Solver(**{**PLAIN, **case.ours})


def made(case: peers.Case) -> Table:
    """Our table, with what SA-Solver's code adds to a step of order 2 of a data prediction (docs/solvers.md)."""
    table = tableau(peers.SCHEDULE, solver(case))
    if case.scheduler != peers.SA or case.ours["order"] != 2 or case.ours["prediction"] != "data":
        return table
    lam, k = peers.SCHEDULE.half_log_snr(table.times), 1 + peers.TAU**2
    rows = list(table.rows)
    for i in range(1, peers.STEPS - 1):
        h, a_t = lam[i + 1] - lam[i], float(peers.SCHEDULE.alpha(table.times[i + 1]))
        slope = k * a_t * h**2 / 2 / (lam[i] - lam[i - 1])
        rows[i] = rows[i]._replace(b0=-a_t * math.expm1(-k * h) + slope, b1=-slope)
    return replace(table, rows=tuple(rows))


def result(table: Table) -> dict[str, Any]:
    """y after half of the steps and after all of them."""
    mu = np.full((1, 1, 1, 6), 0.25)

    def network(x: Any, mu: Any, t: float) -> Any:
        return peers.noise_prediction(x - mu, t)

    start, noise = peers.START.reshape(mu.shape), peers.NOISE.reshape(-1, *mu.shape)
    half = len(table.rows) // 2
    return {
        name: (sample(network, mu, table.first(steps), noise, start, clamp=False) - mu).ravel().tolist()
        for name, steps in (("half", half), ("end", len(table.rows)))
    }


def test_the_numbers_are_those_of_the_recipe() -> None:
    """Who changes a case makes the numbers again."""
    assert [case._replace(ours=dict(case.ours)) for case in CASES] == peers.CASES
    assert FOUND["diffusers"] in (peers.__doc__ or "")


@pytest.mark.parametrize(
    "index", range(len(CASES)), ids=lambda index: f"{CASES[index].scheduler} {solver(CASES[index]).name}"
)
def test_states_are_those_of_diffusers(index: int) -> None:
    """To round-off: states are of the order of one."""
    case = CASES[index]
    table = made(case)
    assert set(table.times) == set(map(float, peers.TIMES))
    assert table.start == 1
    found = result(table)
    for name in ("half", "end"):
        np.testing.assert_allclose(found[name], FOUND["cases"][index][name], rtol=0, atol=1e-12)


def test_other_variants_are_told_apart() -> None:
    """What ends differently does so by far more than the tolerance, so that one variant cannot pass for another."""
    ends = np.array([found["end"] for found in FOUND["cases"] if found["scheduler"] in (peers.DPM, peers.UNIPC)])
    apart = np.abs(ends[:, None] - ends).max(axis=-1)
    # The same twice: two names of ours for both lines, and DDIM, which is one for data and noise.
    assert np.count_nonzero(apart < 1e-9) == len(ends) + 2 * 3
    assert np.min(apart[apart >= 1e-9]) > 1e-4
