"""The chain gives what the reference loop gives, on buffers made once, and refuses what is not finite."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mrs.kernels import cpu
from mrs.kernels.noise import normal
from mrs.kernels.table import Row, Table
from mrs.kernels.update import reflected
from mrs.numerics.methods import METHODS
from mrs.numerics.reference import sample
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.cpu_chain import CpuChain
from mrs.runtime.errors import BackendError

SOLVERS = {
    "ode-1": Solver(order=1, steps=4),
    "ode-2": Solver(order=2, steps=4),
    # Five steps: at least two with three predictions, the ring turned round once.
    "ode-3": Solver(order=3, steps=5),
    "sde-2": Solver(method="sde", steps=4),
    "posterior": Solver(method="posterior", order=1, steps=4),
    # Eight steps: the ring of three turned round more than once.
    "ipndm-4": Solver(method="ipndm", order=4, steps=8),
    "ghvb-4": Solver(method="ghvb", order=4, steps=8, momentum=0.4),
    "momentum alone": Solver(method="ghvb", order=1, steps=4, momentum=0.4),
    "clamped": Solver(steps=4, clamp="unit"),
    "threshold": Solver(steps=4, clamp="threshold"),
    "one step": Solver(order=1, steps=1),
}


def bytes_of(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def planes(picture: NDArray[Any]) -> NDArray[np.float32]:
    """What the reference loop is given for a picture."""
    scaled = picture / np.float32(255) if picture.dtype == np.uint8 else picture
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def table_of(name: str) -> Table:
    return tableau(Schedule(), SOLVERS[name], "data")


def chain_of(network: Any, table: Table, threads: int = 1) -> CpuChain:
    return CpuChain(network, table, threads)


def padded(height: int, width: int, count: int = 1) -> tuple[int, int, int, int]:
    return count, 6, -(-height // 4) * 4, -(-width // 4) * 4


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The NumPy kernels."""
    monkeypatch.setattr(cpu, "_library", lambda: None)


def by_reference(fake_network, picture: NDArray[Any], table: Table, seed: int) -> NDArray[np.float32]:
    """What the reference loop gives with the fake network, (N, H, W, C)."""
    # Counted, for some methods visit a time twice.
    steps = iter(range(len(table.rows)))
    out = sample(lambda x, mu, t: fake_network.predict(x - mu, mu, next(steps)), planes(picture), table, seed=seed)
    assert next(steps, None) is None
    return out.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", SOLVERS)
def test_equals_the_reference_loop(fake_network, name: str, dtype: type) -> None:
    table = table_of(name)
    picture = bytes_of((2, 9, 14, 3))
    if dtype == np.float32:
        picture = picture / np.float32(255)
    network = fake_network(padded(9, 14, count=2))
    out = np.full(picture.shape, np.nan, np.float32)
    chain_of(network, table).restore_into(picture, out, seed=7)
    np.testing.assert_allclose(out, by_reference(fake_network, picture, table, seed=7), rtol=0, atol=1e-5)
    assert network.evaluated == list(range(len(table.rows)))
    # Neither all black nor all white: then everything would be equal.
    assert out.std() > 0.05


EVERY = [(method, order) for method, facts in METHODS.items() for order in facts.orders]


@pytest.mark.parametrize(
    ("prediction", "clamp"), [("data", "none"), ("data", "unit"), ("data", "threshold"), ("noise", "none")]
)
@pytest.mark.parametrize(("method", "order"), EVERY)
def test_every_method_gives_the_bits_of_the_reference_loop(
    without_compiler: None, fake_network, method: str, order: int, prediction: str, clamp: str
) -> None:
    """With the NumPy kernels, which the compiled ones equal to the noise's last place, there is nothing to tolerate."""
    option = {"momentum": {"momentum": 0.3}, "stochasticity": {"stochasticity": 0.7}}.get(METHODS[method].option, {})
    table = tableau(Schedule(), Solver(method, order, prediction, 9, clamp=clamp, **option), "data")
    assert max(row.history for row in table.rows) <= 3
    picture = bytes_of((2, 5, 7, 3))
    out = np.empty(picture.shape, np.float32)
    chain_of(fake_network(padded(5, 7, count=2)), table).restore_into(picture, out, seed=3)
    np.testing.assert_array_equal(out, by_reference(fake_network, picture, table, seed=3))
    assert out.std() > 0.05


@pytest.mark.parametrize(
    ("name", "depth"), [("ode-1", 1), ("momentum alone", 1), ("ode-2", 1), ("ode-3", 2), ("ghvb-4", 3)]
)
def test_as_many_predictions_are_kept_as_a_row_looks_back_on(fake_network, name: str, depth: int) -> None:
    assert len(chain_of(fake_network(padded(4, 4)), table_of(name))._buffers) - len(["x", "mu"]) == depth


@pytest.mark.parametrize("clamp", ["clamped", "threshold"])
def test_the_clamp_changes_something(fake_network, clamp: str) -> None:
    picture = bytes_of((1, 8, 8, 3))
    outs = []
    for name in ("ode-2", clamp):
        outs.append(np.empty(picture.shape, np.float32))
        chain_of(fake_network(padded(8, 8)), table_of(name)).restore_into(picture, outs[-1], seed=0)
    assert np.abs(outs[0] - outs[1]).max() > 1e-3


def test_an_unknown_clamp_is_refused(fake_network) -> None:
    table = replace(table_of("ode-2"), clamp="unknown")
    picture = bytes_of((1, 8, 8, 3))
    with pytest.raises(ValueError, match="clamp 'unknown' is not one of none, unit, threshold"):
        chain_of(fake_network(padded(8, 8)), table).restore_into(picture, picture.copy(), seed=0)


@pytest.mark.parametrize("name", [name for name, each in backends.BACKENDS.items() if each.device == "cpu"])
def test_equals_the_reference_loop_on_a_real_engine(one_thread, tiny, name: str) -> None:
    picture = bytes_of((1, 15, 22, 3))
    network = backends.get(name).compile(tiny.graph, tiny.modulation, (1, 6, 16, 24), "fp32", CompileSettings(1))
    out = np.empty(picture.shape, np.float32)
    chain_of(network, tiny.table).restore_into(picture, out, seed=3)
    expected = sample(tiny.denoise, planes(picture), tiny.table, seed=3)
    np.testing.assert_allclose(out, expected.transpose(0, 2, 3, 1), rtol=0, atol=1e-5)
    assert out.std() > 0.05


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_without_an_array_the_result_is_a_new_one(fake_network, dtype: type) -> None:
    picture = (bytes_of((2, 8, 8, 3)) / (1 if dtype == np.uint8 else 255)).astype(dtype)
    chain = chain_of(fake_network(padded(8, 8, count=2)), table_of("sde-2"))
    given = np.empty_like(picture)
    assert chain.restore_into(picture, given, seed=1) is given
    kept = [chain.restore_into(picture, None, seed=seed) for seed in (1, 2)]
    assert [made.dtype for made in kept] == [dtype] * 2
    # The second restore leaves the first one's result alone.
    np.testing.assert_array_equal(kept[0], given)
    assert not np.array_equal(kept[1], given)


def test_warming_up_runs_every_step_and_changes_no_restore(fake_network) -> None:
    picture = bytes_of((1, 8, 8, 3))
    warm, cold = (chain_of(fake_network(padded(8, 8)), table_of("ode-3")) for _ in range(2))
    warm.warm_up(tensors=True)
    assert warm.network.evaluated == list(range(5))
    np.testing.assert_array_equal(warm.restore_into(picture, None, 0), cold.restore_into(picture, None, 0))


def test_bytes_are_the_nearest_levels(fake_network) -> None:
    picture = bytes_of((1, 8, 8, 3))
    chain = chain_of(fake_network(padded(8, 8)), table_of("ode-2"))
    levels, exact = np.empty(picture.shape, np.uint8), np.empty(picture.shape, np.float32)
    chain.restore_into(picture, levels, seed=0)
    chain.restore_into(picture, exact, seed=0)
    np.testing.assert_array_equal(levels, np.rint(exact * np.float32(255)))


@pytest.mark.parametrize("name", ["ode-3", "sde-2", "ipndm-4", "ghvb-4"])
def test_nothing_of_one_picture_is_left_for_the_next(fake_network, name: str) -> None:
    first, second = bytes_of((1, 9, 14, 3)), bytes_of((1, 9, 14, 3), seed=1)
    used, fresh = (chain_of(fake_network(padded(9, 14)), table_of(name)) for _ in range(2))
    outs = [np.empty(first.shape, np.float32) for _ in range(2)]
    used.restore_into(first, outs[0], seed=5)
    # Whatever a buffer may hold before a restore is written before it is read.
    fresh._buffers.fill(np.nan)
    used.restore_into(second, outs[0], seed=6)
    fresh.restore_into(second, outs[1], seed=6)
    np.testing.assert_array_equal(outs[0], outs[1])


def test_a_window_has_the_noise_of_the_whole_picture(fake_network) -> None:
    picture = bytes_of((1, 16, 24, 3))
    whole, part = np.empty((1, 16, 24, 3), np.float32), np.empty((1, 7, 9, 3), np.float32)
    table = table_of("sde-2")
    chain_of(fake_network(padded(16, 24)), table).restore_into(picture, whole, seed=1)
    window = np.ascontiguousarray(picture[:, 5:12, 10:19])
    chain_of(fake_network(padded(7, 9)), table).restore_into(window, part, seed=1, origin=(5, 10))
    np.testing.assert_allclose(part, whole[:, 5:12, 10:19], rtol=0, atol=1e-6)


def test_each_draw_is_another(fake_network) -> None:
    row = Row(cx=0, cm=0, cf=0, ax=1, am=0, b0=0, n=0.25)
    table = Table((2.0, 1.0, 0.0), (row, row), 0.1, "none")
    picture = np.full((1, 4, 4, 3), 0.5, np.float32)
    out = np.empty(picture.shape, np.float32)
    chain_of(fake_network(padded(4, 4)), table).restore_into(picture, out, seed=9)
    start, first, second = (normal(9, draw, (1, 3, 4, 4)) for draw in range(3))
    expected = np.clip(0.5 + 0.1 * start + 0.25 * (first + second), 0, 1)
    np.testing.assert_allclose(out, expected.transpose(0, 2, 3, 1), atol=1e-6)


@pytest.fixture(params=["compiled", "fallback"])
def either(request: pytest.FixtureRequest) -> None:
    """With the library, where there is one, and without."""
    if request.param == "fallback":
        request.getfixturevalue("without_compiler")


@pytest.mark.parametrize("share", ["one", "most", "all"])
@pytest.mark.parametrize("name", ["ode-2", "clamped", "threshold", "ghvb-4"])
@pytest.mark.parametrize("step", [0, 3])
def test_a_network_that_gives_nan_is_refused(either: None, fake_network, step: int, name: str, share: str) -> None:
    class Broken(fake_network):  # type: ignore[misc]
        def evaluate(self, number: int) -> None:
            super().evaluate(number)
            if number == step:
                self.output[{"one": (0, 1, 2, 3), "most": (0, slice(1, 3)), "all": ...}[share]] = np.nan

    picture = bytes_of((1, 8, 8, 3))
    out = np.full(picture.shape, 77, np.uint8)
    chain = chain_of(Broken(padded(8, 8)), table_of(name))
    with pytest.raises(BackendError, match="infinities or NaN") as caught:
        chain.restore_into(picture, out, seed=0)
    assert "--precision fp32" in caught.value.hint
    # The caller's array is not touched.
    assert (out == 77).all()


@pytest.mark.parametrize("name", ["one step", "ode-2", "ghvb-4"])
def test_infinities_of_both_signs_are_refused_without_a_warning(either: None, fake_network, name: str) -> None:
    class Broken(fake_network):  # type: ignore[misc]
        def evaluate(self, number: int) -> None:
            self.output.fill(0.5)
            self.output[0, 0, 0, :2] = np.inf, -np.inf

    picture = bytes_of((1, 8, 8, 3))
    chain = chain_of(Broken(padded(8, 8)), table_of(name))
    with pytest.raises(BackendError, match="infinities or NaN"):
        chain.restore_into(picture, np.empty_like(picture), seed=0)


@pytest.mark.parametrize("name", ["clamped", "threshold"])
def test_a_clamp_ends_infinities(either: None, fake_network, name: str) -> None:
    class Infinite(fake_network):  # type: ignore[misc]
        def evaluate(self, number: int) -> None:
            self.output.fill(0.5)
            self.output[0, 0, 0, :2] = np.inf, -np.inf

    picture, out = bytes_of((1, 8, 8, 3)), np.empty((1, 8, 8, 3), np.float32)
    chain_of(Infinite(padded(8, 8)), table_of(name)).restore_into(picture, out, seed=0)
    assert np.isfinite(out).all()
    assert out[0, 0, 0, 0] > out[0, 0, 1, 0]


@pytest.mark.skipif(not cpu.compiled(), reason="the NumPy kernels allocate")
@pytest.mark.parametrize("name", ["ode-3", "sde-2", "ghvb-4"])
def test_nothing_is_allocated_after_the_first_restore(fake_network, name: str) -> None:
    class Still(fake_network):  # type: ignore[misc]
        def evaluate(self, number: int) -> None:
            self.output.fill(0.5)

    picture = bytes_of((1, 256, 256, 3))
    out = np.empty_like(picture)
    chain = chain_of(Still(padded(256, 256)), table_of(name))
    chain.restore_into(picture, out, seed=0)
    tracemalloc.start()
    try:
        chain.restore_into(picture, out, seed=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # NumPy sums in a buffer of 8192 values.
    assert peak < 100_000 < picture.nbytes


@pytest.mark.parametrize("size", [(5, 7), (8, 6), (1, 3), (8, 8)], ids=str)
def test_a_network_of_reflected_padding_sees_the_picture_reflected(fake_network, size: tuple[int, int]) -> None:
    """Both halves of its input, at every evaluation, and whatever was restored before."""
    table, network, seen = table_of("sde-2"), fake_network((1, 6, 8, 8)), []
    chain = CpuChain(network, table, 1, mirrors=True)
    chain.restore_into(bytes_of((1, 8, 5, 3), 1), None, 3)
    evaluate = network.evaluate
    network.evaluate = lambda step: (seen.append(network.packed.copy()), evaluate(step))
    chain.restore_into(bytes_of((1, *size, 3)), None, 3)
    assert len(seen) == len(table.rows)
    for packed in seen:
        rows, columns = reflected(size[0], 8), reflected(size[1], 8)
        np.testing.assert_array_equal(packed, packed[:, :, rows][..., columns])
    assert (seen[0] != seen[-1]).any()
