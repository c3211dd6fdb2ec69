"""A trial gives what a restore gives, whatever was tried before; and a plan's network is the checkpoint's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.kernels.table import Row, Table
from mrs.numerics.reference import sample
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.cpu_chain import CpuChain
from mrs.runtime.errors import BackendError, InputError
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.session import Restorer
from mrs.runtime.system import machine
from mrs.tuning.trial import TimedNetwork, Trial, of_network, of_plan
from tests.random_nafnet import random_nafnet

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(24)]

T = 100
SOLVERS = {
    "ode-2": Solver(steps=3),
    "one step": Solver(order=1, steps=1),
    "sde-2": Solver(method="sde", steps=4),
    "ipndm-4, threshold": Solver(method="ipndm", order=4, steps=6, clamp="threshold"),
    "ghvb-4, clamped": Solver(method="ghvb", order=4, steps=5, momentum=0.3, clamp="unit"),
    "heun": Solver(method="heun", steps=5),
    "sa-3": Solver(method="sa", order=3, steps=4, stochasticity=0.7, spacing="trailing"),
}
# Neither side is a multiple of the network's.
PICTURES = np.random.default_rng(0).integers(0, 256, (5, 7, 10, 3), np.uint8)


def table_of(name: str) -> Table:
    return tableau(Schedule(T=T), SOLVERS[name], "data")


@pytest.fixture(scope="module")
def net() -> ConditionalNAFNet:
    return random_nafnet(NAFNet(4, (1,), 0, (1,)), scale=0.3, gains=0.3, contrast=0.2)


@pytest.fixture(scope="module")
def network(net: ConditionalNAFNet) -> TimedNetwork:
    return of_network(net.arch, net)


def plan_of(net: ConditionalNAFNet, network: TimedNetwork, table: Table) -> Plan:
    """What a build would make of the network and a table, on the backend of the trials."""
    name = network.backend.name
    manifest: dict[str, Any] = {
        "network": {"channels": 3, "multiple": network.multiple, "bytes_per_pixel": 160},
        "table": {
            "times": list(table.times),
            "rows": [list(row) for row in table.rows],
            "start": table.start,
            "clamp": table.clamp,
        },
        "shape": [1, 8, 12],
        "backend": name,
        "precision": "fp32",
        "fingerprint": machine.fingerprint(name, network.backend.version()),
    }
    modulation = modulation_table(net, table.times[: len(table.rows)])
    return Plan(manifest, network.graph, modulation, None, modulation_table(net, np.arange(T + 1.0).tolist()))


def run(trial: Trial, name: str, seed: int = 0) -> NDArray[np.float32]:
    table = table_of(name)
    return trial.run(table, seed)


# What a trial gives


@pytest.mark.parametrize("name", SOLVERS)
def test_a_trial_is_the_reference_loop_on_the_torch_network(
    net: ConditionalNAFNet, network: TimedNetwork, name: str
) -> None:
    def denoise(x: Any, mu: Any, t: float) -> Any:
        with torch.no_grad():
            return net(torch.from_numpy(x), torch.from_numpy(mu), t).numpy()

    restored = run(Trial(network, PICTURES[:1], "fp32", 1), name, seed=3)
    assert (restored.shape, restored.dtype) == ((1, 7, 10, 3), np.float32)
    mu = np.ascontiguousarray((PICTURES[:1] / np.float32(255)).transpose(0, 3, 1, 2))
    expected = sample(denoise, mu, table_of(name), seed=3).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(restored, expected, rtol=0, atol=2e-5)
    assert restored.std() > 0.02


@pytest.mark.parametrize("name", SOLVERS)
def test_a_trial_is_what_a_plan_with_this_table_restores(
    net: ConditionalNAFNet, network: TimedNetwork, name: str
) -> None:
    restored = run(Trial(network, PICTURES[:1], "fp32", 1), name, seed=3)
    out = np.empty(PICTURES[0].shape, np.float32)
    with Restorer(plan_of(net, network, table_of(name)), threads=1) as restorer:
        restorer.restore_into(PICTURES[0], out, seed=3)
    np.testing.assert_array_equal(restored[0], out)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_batches_that_do_not_divide_are_restored_each_with_its_own_seed(network: TimedNetwork, batch: int) -> None:
    table = table_of("sde-2")
    restored = run(Trial(network, PICTURES, "fp32", 1, batch), "sde-2", seed=11)
    assert restored.shape == PICTURES.shape
    for index, low in enumerate(range(0, 5, batch)):
        part = PICTURES[low : low + batch]
        size = len(part)
        compiled = network.backend.compile(
            network.graph, network.modulation(table.times[:-1]), (size, 6, 8, 10), "fp32", CompileSettings(1)
        )
        chain = CpuChain(compiled, table, 1)
        out = np.empty(part.shape, np.float32)
        chain.restore_into(part, out, 11 + index)
        np.testing.assert_array_equal(restored[low : low + batch], out)


def test_seeds_count_up_with_the_batches(network: TimedNetwork) -> None:
    same = np.repeat(PICTURES[:1], 3, axis=0)
    trial = Trial(network, same, "fp32", 1)
    first, second = run(trial, "ode-2", seed=7), run(trial, "ode-2", seed=8)
    np.testing.assert_array_equal(first[1:], second[:2])
    assert np.abs(first[0] - first[1]).max() > 1e-3
    np.testing.assert_array_equal(run(trial, "ode-2"), run(trial, "ode-2", seed=0))


def test_a_run_is_not_affected_by_the_runs_before_it(network: TimedNetwork) -> None:
    # More steps and fewer, longer histories and none, clamps and none, noise and none.
    names = ("ode-2", "ipndm-4, threshold", "one step", "sde-2")
    fresh = {name: run(Trial(network, PICTURES[:3], "fp32", 1, 2), name, seed=5) for name in names}
    trial = Trial(network, PICTURES[:3], "fp32", 1, 2)
    for name in (*names, *reversed(names), "ode-2", "sde-2", "ode-2", "ode-2"):
        np.testing.assert_array_equal(run(trial, name, seed=5), fresh[name], err_msg=name)
    for one, other in itertools.combinations(fresh.values(), 2):
        assert np.abs(one - other).max() > 1e-3


def test_a_result_stays_when_another_is_made(network: TimedNetwork) -> None:
    trial = Trial(network, PICTURES[:1], "fp32", 1)
    result = run(trial, "ode-2")
    copy = result.copy()
    run(trial, "sde-2")
    np.testing.assert_array_equal(result, copy)


def test_the_clamp_of_the_table_is_applied(network: TimedNetwork) -> None:
    table = table_of("ode-2")
    # Thrice the network's output reaches beyond every bound.
    rows = [row._replace(cf=3 * row.cf) for row in table.rows]
    trial = Trial(network, PICTURES[:1], "fp32", 1)
    outs = [trial.run(replace(table, rows=tuple(rows), clamp=clamp)) for clamp in ("none", "unit", "threshold")]
    assert min(np.abs(outs[i] - outs[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-2


def test_pictures_that_are_views(network: TimedNetwork) -> None:
    turned = PICTURES[::-2, :, ::-1]
    np.testing.assert_array_equal(
        run(Trial(network, turned, "fp32", 1), "ode-2"), run(Trial(network, turned.copy(), "fp32", 1), "ode-2")
    )


# Parts of a run: the start, and one evaluation


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
@pytest.mark.parametrize(("sigma", "seed"), [(50 / 255, 0), (0.05, 7), (0.0, 3)])
def test_the_start_is_that_of_a_run(network: TimedNetwork, sigma: float, seed: int, batch: int) -> None:
    """A run of one step that keeps the state, and nothing else, ends where it started."""
    trial = Trial(network, PICTURES, "fp32", 1, batch)
    mu, x = trial.start(sigma, seed)
    assert (mu.shape, mu.dtype, x.shape, x.dtype) == ((5, 3, 7, 10), np.float32, (5, 3, 7, 10), np.float32)
    np.testing.assert_array_equal(mu, PICTURES.transpose(0, 3, 1, 2) / np.float32(255))
    ended = trial.run(Table((50.0, 0.0), (Row(0.0, 0.0, 0.0, 1.0, 0.0, 0.0),), sigma, "none"), seed)
    np.testing.assert_allclose(np.clip(x, 0, 1).transpose(0, 2, 3, 1), ended, rtol=0, atol=1e-6)
    if sigma:
        # Noise of this deviation, another one in each batch.
        noise = (x - mu) / sigma
        assert abs(noise.mean()) < 0.15
        assert abs(noise.std() - 1) < 0.1
        firsts = noise[::batch]
        assert all(np.abs(one - other).max() > 1 for one, other in itertools.combinations(firsts, 2))
    else:
        np.testing.assert_array_equal(x, mu)


def test_the_start_is_that_of_seed_0_unless_another_is_given(network: TimedNetwork) -> None:
    trial = Trial(network, PICTURES, "fp32", 1, 2)
    np.testing.assert_array_equal(trial.start(0.1), trial.start(0.1, 0))
    assert np.abs(trial.start(0.1)[1] - trial.start(0.1, 1)[1]).max() > 0.1


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_a_prediction_is_what_the_torch_network_says(net: ConditionalNAFNet, network: TimedNetwork, batch: int) -> None:
    """At several times by turns, between whole ones too, and of states that are no pictures."""
    trial = Trial(network, PICTURES, "fp32", 1, batch)
    mu, x = trial.start(1.0, 2)
    said = []
    for t in (80.0, 3.0, 80.0, 0.25, 100.0):
        x = x[::-1] * np.float32(0.9)
        with torch.no_grad():
            expected = net(torch.from_numpy(x.copy()), torch.from_numpy(mu), t).numpy()
        said.append(trial.predict(x, mu, t))
        assert (said[-1].shape, said[-1].dtype) == (x.shape, np.float32)
        np.testing.assert_allclose(said[-1], expected, rtol=0, atol=2e-5)
        assert expected.std() > 0.02
    # Time matters to this network, so that a time that stayed would have been seen.
    first, second = (trial.predict(x, mu, t) for t in (80.0, 3.0))
    assert np.abs(first - second).max() > 1e-3


def test_a_prediction_stays_when_another_is_made_and_writes_into_nothing(network: TimedNetwork) -> None:
    trial = Trial(network, PICTURES, "fp32", 1, 2)
    mu, x = trial.start(0.2)
    mu.setflags(write=False)
    x.setflags(write=False)
    said = trial.predict(x, mu, 40.0)
    copy = said.copy()
    trial.predict(mu, mu, 90.0)
    run(trial, "ode-2")
    np.testing.assert_array_equal(said, copy)
    np.testing.assert_array_equal(trial.predict(x, mu, 40.0), copy)


def test_runs_and_predictions_by_turns_do_not_affect_one_another(network: TimedNetwork) -> None:
    fresh = run(Trial(network, PICTURES, "fp32", 1, 2), "ode-2", seed=5)
    trial = Trial(network, PICTURES, "fp32", 1, 2)
    mu, x = trial.start(0.2)
    said = trial.predict(x, mu, 40.0)
    for _ in range(2):
        np.testing.assert_array_equal(run(trial, "ode-2", seed=5), fresh)
        np.testing.assert_array_equal(trial.predict(x, mu, 40.0), said)


def test_a_table_may_be_run_by_hand(network: TimedNetwork) -> None:
    """Start, predictions and a row's weighted sums are all that there is to a run without noise."""
    trial = Trial(network, PICTURES, "fp32", 1, 2)
    table = table_of("ode-2")
    mu, x = trial.start(table.start, 4)
    older = np.zeros_like(x)
    for t, row in zip(table.times, table.rows, strict=False):
        newest = row.cx * x + row.cm * mu + row.cf * trial.predict(x, mu, t)
        x = (row.ax * x + row.am * mu + row.b0 * newest + row.b1 * older).astype(np.float32)
        older = newest
    np.testing.assert_allclose(np.clip(x, 0, 1).transpose(0, 2, 3, 1), run(trial, "ode-2", seed=4), rtol=0, atol=2e-5)


# What it costs


@pytest.mark.parametrize(("batch", "sizes"), [(1, {1}), (2, {2, 1}), (3, {3, 2}), (5, {5}), (8, {5})])
def test_each_size_of_batch_is_compiled_once(
    network: TimedNetwork, monkeypatch: pytest.MonkeyPatch, batch: int, sizes: set[int]
) -> None:
    compiled: list[Sequence[int]] = []
    compile_ = type(network.backend).compile

    def spied(self: Any, graph: bytes, modulation: Any, shape: Sequence[int], *rest: Any) -> Any:
        compiled.append(shape)
        return compile_(self, graph, modulation, shape, *rest)

    monkeypatch.setattr(type(network.backend), "compile", spied)
    trial = Trial(network, PICTURES, "fp32", 1, batch)
    for name in ("ode-2", "sde-2"):
        run(trial, name)
    assert sorted(compiled) == sorted((size, 6, 8, 10) for size in sizes)


# Where the network comes from


def test_a_checkpoint_runs_on_the_first_backend_that_can(
    net: ConditionalNAFNet, network: TimedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert network.backend is backends.available()[0]
    monkeypatch.setattr(type(backends.get("openvino")), "missing", lambda self: "openvino is gone")
    other = of_network(net.arch, net)
    assert other.backend.name == "onnxruntime"
    np.testing.assert_allclose(
        run(Trial(other, PICTURES[:1], "fp32", 1), "ode-2"),
        run(Trial(network, PICTURES[:1], "fp32", 1), "ode-2"),
        rtol=0, atol=1e-5,
    )  # fmt: skip


def test_without_any_backend_it_says_what_to_install(net: ConditionalNAFNet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in backends.BACKENDS:
        monkeypatch.setattr(type(backends.get(name)), "missing", lambda self: f"{self.name} is gone")
    with pytest.raises(BackendError, match="no backend can run here") as caught:
        of_network(net.arch, net)
    assert caught.value.hint == "pip install openvino"


def test_the_modulation_is_that_of_the_network_at_any_time(net: ConditionalNAFNet, network: TimedNetwork) -> None:
    times = (99.5, 40.0, 0.25)
    np.testing.assert_array_equal(network.modulation(times), modulation_table(net, times))


def test_a_precision_that_the_engine_lacks(network: TimedNetwork) -> None:
    with pytest.raises(BackendError, match="runs no int8"):
        Trial(network, PICTURES[:1], "int8", 1)


@pytest.fixture(scope="module")
def plan(net: ConditionalNAFNet, network: TimedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan as it comes from its file, for a solver other than those that are tried."""
    path = tmp_path_factory.mktemp("plan") / "a.mrsplan"
    plan_of(net, network, table_of("one step")).save(path)
    return read_plan(path)


@pytest.mark.parametrize("name", ["ipndm-4, threshold", "heun"])
def test_a_plan_at_whole_times_is_its_checkpoint(network: TimedNetwork, plan: Plan, name: str) -> None:
    solver = replace(SOLVERS[name], spacing="trailing")
    table = tableau(Schedule(T=T), solver, "data")
    whole = replace(table, times=tuple(float(round(time)) for time in table.times))
    of_a_plan = of_plan(plan)
    assert of_a_plan.backend is network.backend
    assert of_a_plan.multiple == network.multiple
    ours, theirs = (Trial(one, PICTURES[:3], "fp32", 1, 2).run(whole, 3) for one in (of_a_plan, network))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_a_plan_knows_every_whole_time_from_0_to_its_last(net: ConditionalNAFNet, plan: Plan) -> None:
    times = np.arange(T + 1.0)[::-1].tolist()
    ours = of_plan(plan).modulation(times)
    np.testing.assert_allclose(ours, modulation_table(net, times), rtol=0, atol=1e-5)
    # A row each, not one for all.
    assert np.abs(np.diff(ours, axis=0)).max(axis=1).min() > 1e-4
    # NumPy's numbers are times too, and a time may come twice.
    np.testing.assert_array_equal(of_plan(plan).modulation(np.array([3.0, 3.0])), ours[[T - 3, T - 3]])


@pytest.mark.parametrize("time", [0.5, 99.999, -1.0, T + 1.0, float("nan"), float("inf")])
def test_a_plan_refuses_other_times(plan: Plan, time: float) -> None:
    network = of_plan(plan)
    for times in ([time], [50.0, time, 1.0]):
        with pytest.raises(InputError, match="a plan holds its network at whole times only") as caught:
            network.modulation(times)
        assert caught.value.hint == "give the checkpoint instead"
    table = table_of("ode-2")
    trial = Trial(network, PICTURES[:1], "fp32", 1)
    with pytest.raises(InputError, match="whole times only"):
        trial.run(replace(table, times=(time,) * 4))
    with pytest.raises(InputError, match="whole times only"):
        trial.predict(*reversed(trial.start(table.start)), time)


def test_a_plan_without_its_timetable_is_refused(plan: Plan) -> None:
    with pytest.raises(InputError, match="the plan does not hold its network at other times") as caught:
        of_plan(replace(plan, timetable=None))
    assert caught.value.hint == "give the checkpoint instead"


def test_a_plan_for_a_backend_that_is_not_here(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.get(plan.manifest["backend"])
    monkeypatch.setattr(type(backend), "missing", lambda self: "it is gone: install it")
    with pytest.raises(BackendError, match="the plan's backend cannot run here: it is gone: install it"):
        of_plan(plan)
    with pytest.raises(InputError, match="'tensorflow' is unknown"):
        of_plan(replace(plan, manifest={**plan.manifest, "backend": "tensorflow"}))
