"""The loop in torch equals the reference loop for every kind of row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import mrs
from mrs.benchmarking.rivals.in_torch import loop
from mrs.kernels.table import Row, Table
from mrs.kernels.update import threshold
from mrs.numerics.reference import sample
from mrs.runtime.errors import BackendError
from mrs.runtime.system import machine

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (2, 3, 6, 7)
SOLVERS = {
    "two predictions": mrs.Solver(method="ode", order=2, steps=5),
    "noise": mrs.Solver(method="sde", order=2, steps=5),
    "four predictions": mrs.Solver(method="ipndm", order=4, steps=6),
    "momentum": mrs.Solver(method="ghvb", order=1, steps=5, momentum=0.3),
    "unit": mrs.Solver(method="ode", order=1, steps=4, clamp="unit"),
    "threshold": mrs.Solver(method="ode", order=2, steps=4, clamp="threshold"),
    "posterior": mrs.Solver(method="posterior", order=1, steps=4),
}


def network(x: Any, mu: Any, t: Any, exp: Any = np.exp) -> Any:
    return (x - 0.5 * mu) * exp(-t / 50)


def both(table: Table) -> tuple[Any, Any]:
    mu = np.random.default_rng(0).random(SHAPE, np.float32)
    expected = sample(lambda x, mu, t: network(x, mu, np.float32(t)), mu, table, seed=3, clamp=False)
    noise = loop.SameNoise(3, table, SHAPE, "cpu")
    found = loop.solve(table, torch.from_numpy(mu), lambda x, mu, t: network(x, mu, t, torch.exp), noise)
    return found.numpy(), expected


@pytest.mark.parametrize("name", SOLVERS)
def test_it_is_the_reference_loop(name: str) -> None:
    found, expected = both(mrs.tableau(mrs.Schedule(), SOLVERS[name]))
    np.testing.assert_allclose(found, expected, atol=2e-5 * max(1, np.abs(expected).max()))


def test_a_start_without_noise_and_weights_of_nothing() -> None:
    """As the process that takes noise away has it."""
    rows = (Row(0, 0, 1, 0, 0, 0), Row(0, 0, 1, 0, 0, 0.5, 0.25, m=0.5))
    found, expected = both(Table((9.0, 4.0, 0.0), rows, 0.0, "none"))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_noise_is_drawn_where_it_is_needed() -> None:
    ode, sde = (mrs.tableau(mrs.Schedule(), SOLVERS[name]) for name in ("two predictions", "noise"))
    assert set(loop.SameNoise(0, ode, SHAPE, "cpu")._drawn) == {0}
    assert len(loop.SameNoise(0, sde, SHAPE, "cpu")._drawn) == 1 + sde.draws


def test_noise_beyond_the_memory_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: 1000)
    with pytest.raises(BackendError, match="noise of 1 draws needs"):
        loop.SameNoise(0, mrs.tableau(mrs.Schedule(), SOLVERS["unit"]), SHAPE, "cpu")


def test_torch_s_own_noise_leaves_the_program_s_as_it_is() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, second = loop.TorchNoise(5, "cpu"), loop.TorchNoise(5, "cpu")
    drawn = first(0, SHAPE)
    assert torch.equal(drawn, second(0, SHAPE))
    assert not torch.equal(drawn, first(1, SHAPE))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("size", [1, 2, 67, 200, 201, 4001])
@pytest.mark.parametrize("scale", [0.1, 1.0, 9.0])
def test_the_dynamic_threshold(size: int, scale: float) -> None:
    q = scale * np.random.default_rng(size).standard_normal((2, 1, 1, size)).astype(np.float32)
    np.testing.assert_allclose(loop.threshold(torch.from_numpy(q))[:, 0, 0, 0].numpy(), threshold(q), rtol=1e-6)
