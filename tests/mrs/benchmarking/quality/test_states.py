"""The states are those of the restore itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrs.benchmarking.quality import states as module
from mrs.benchmarking.quality.solvers import others
from mrs.benchmarking.quality.states import states
from mrs.kernels.noise import normal
from mrs.runtime.manifest import LatentFacts
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.session import Restorer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(plan: Path) -> Plan:
    (other,) = others(read_plan(plan), ["posterior:10"])
    return other.plan


# Sides that the network's multiple does not divide.
PICTURE = np.random.default_rng(0).integers(0, 256, (21, 26, 3), np.uint8)


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_the_first_is_the_noise_and_the_last_the_result(made: Plan, padding: str) -> None:
    network = {**made.manifest["network"], "padding": padding}
    plan = replace(made, manifest={**made.manifest, "network": network})
    found = states(plan, PICTURE, 3, 1, 4)
    assert not isinstance(found, str)
    assert [step for step, _ in found] == [0, 3, 7, 10]
    mu = PICTURE / np.float32(255)
    noise = normal(3, 0, (1, 3, 21, 26))[0].transpose(1, 2, 0)
    start = np.clip(mu + np.float32(plan.table.start) * noise, 0, 1)
    np.testing.assert_allclose(found[0][1] / 255, start, atol=0.51 / 255)
    with Restorer(plan, precision="fp32", threads=1, cache=False) as restorer:
        result = restorer.restore(PICTURE, seed=3)
    assert np.abs(found[-1][1].astype(int) - result).max() <= 1


def test_a_plan_that_enlarges(made: Plan) -> None:
    plan = replace(made, manifest={**made.manifest, "upscale": 2})
    found = states(plan, PICTURE, 3, 1, 2)
    assert not isinstance(found, str)
    with Restorer(plan, precision="fp32", threads=1, cache=False) as restorer:
        result = restorer.restore(PICTURE, seed=3)
    assert found[-1][1].shape == result.shape == (42, 52, 3)
    assert np.abs(found[-1][1].astype(int) - result).max() <= 1


def test_where_there_is_nothing_to_see_it_is_said(made: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    latent = replace(made)
    latent.__dict__["facts"] = replace(made.facts, latent=LatentFacts(3, 8, 100, 4))
    assert "latents" in str(states(latent, PICTURE, 0, 1, 3))
    monkeypatch.setattr(module.backends, "available", list)
    assert "no engine" in str(states(made, PICTURE, 0, 1, 3))
