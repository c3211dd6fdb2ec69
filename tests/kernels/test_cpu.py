"""The compiled kernels: the reference's bits, for every row, on any number of threads."""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.kernels import cpu, noise, update
from mrs.kernels.noise import Draw
from mrs.kernels.table import CLAMPS, Row
from mrs.numerics.methods import METHODS
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import OUTPUTS, PREDICTIONS, Solver
from mrs.numerics.tableau import tableau
from tests.kernels import by_name
from tests.together import together

compiled_only = pytest.mark.skipif(not cpu.compiled(), reason="there was no compiler")
SOLVERS = [(method, order) for method, facts in METHODS.items() for order in facts.orders]
ROW = Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, b1=-0.25, b2=0.125, b3=-0.0625, n=0.4, m=0.375)
SIZES = [
    ((1, 1, 1, 1), (8, 8)),
    ((2, 3, 7, 13), (8, 16)),
    ((1, 3, 5, 63), (5, 63)),
    ((2, 2, 4, 64), (6, 64)),
    ((1, 1, 3, 65), (3, 72)),
    ((1, 3, 2, 131), (16, 144)),
]


def states(shape: Any, padded: Any, seed: int = 0) -> dict[str, Any]:
    """Arguments of a step."""
    random = np.random.default_rng(seed)
    x, mu, q1, q2, q3 = (random.normal(0.5, 0.8, shape).astype(np.float32) for _ in range(5))
    output = random.normal(0, 1, (*shape[:2], *padded)).astype(np.float32)
    packed = np.zeros((shape[0], 2 * shape[1], *padded), np.float32)
    kept = np.full(shape, np.nan, np.float32)
    return {"x": x, "mu": mu, "output": output, "q1": q1, "q2": q2, "q3": q3, "kept": kept, "packed": packed}


def step_with(
    function: Any, arrays: dict[str, Any], row: Row = ROW, clamp: str = "none", **more: Any
) -> dict[str, Any]:
    """Run a step on copies; returns them."""
    copies = {name: array.copy() for name, array in arrays.items()}
    by_name.step(function, **copies, row=row, clamp=clamp, **{"seed": 5, "draw": 2, **more})
    return copies


def assert_same_bits(ours: dict[str, Any], theirs: dict[str, Any], said: object = "") -> None:
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=f"{name} {said}")


def test_the_library_is_built_where_there_is_a_compiler() -> None:
    # Elsewhere its tests are left out, and this one says so.
    if not any(map(shutil.which, ("cc", "gcc"))):
        pytest.skip("there is no compiler")
    assert cpu.compiled()


@compiled_only
@together("clamp", CLAMPS)
@together(("method", "order"), SOLVERS)
def test_rows_of_every_method_give_the_same_bits(method: str, order: int, clamp: str) -> None:
    arrays = states((2, 3, 3, 67), (4, 72))
    option = {"momentum": {"momentum": 0.3}, "stochasticity": {"stochasticity": 0.7}}.get(METHODS[method].option, {})
    rows: set[Row] = set()
    # With s_0 = 0, so that the last row is the limit of its method where it has one.
    schedule = Schedule(convention="ir-sde")
    for prediction, output in itertools.product(PREDICTIONS, OUTPUTS):
        rows.update(tableau(schedule, Solver(method, order, prediction, 6, **option), output).rows)
    for row in rows:
        quiet = row._replace(n=0.0)
        assert_same_bits(*(step_with(module.step, arrays, quiet, clamp) for module in (cpu, update)), f"of {row}")
        if row.n:
            # Two float32 roundings of nearly one number may differ in the last place.
            ours, theirs = (step_with(module.step, arrays, row, clamp) for module in (cpu, update))
            np.testing.assert_allclose(ours["x"], theirs["x"], rtol=2e-7, atol=1e-6 * abs(row.n))
            np.testing.assert_array_equal(ours["kept"], theirs["kept"])


@compiled_only
@together("clamp", CLAMPS)
@together("weights", list(itertools.product((0.0, 0.3), repeat=4)), ids=str)
@together(("shape", "padded"), SIZES, ids=str)
def test_any_weights_of_history_give_the_same_bits(shape: Any, padded: Any, weights: Any, clamp: str) -> None:
    """Sums are taken in one order, whichever weights are 0."""
    b1, b2, b3, m = weights
    row = ROW._replace(b1=b1, b2=-0.7 * b2, b3=0.9 * b3, m=m, n=0.0)
    arrays = states(shape, padded)
    assert_same_bits(*(step_with(module.step, arrays, row, clamp) for module in (cpu, update)))


@compiled_only
@together(("shape", "padded"), SIZES, ids=str)
@together("dtype", [np.uint8, np.float32])
def test_start_and_finish_give_the_same_bits(shape: Any, padded: Any, dtype: Any) -> None:
    random = np.random.default_rng(3)
    picture = random.random((shape[0], *shape[2:], shape[1]), dtype=np.float32)
    if dtype == np.uint8:
        picture = np.rint(picture * 255).astype(np.uint8)
    results = []
    for module in (cpu, update):
        mu, x = (np.full(shape, np.nan, np.float32) for _ in range(2))
        packed = np.zeros((shape[0], 2 * shape[1], *padded), np.float32)
        module.start(picture, 0.2, Draw(9, 0, (5, 3), 1), mu, x, packed)
        out = np.full_like(picture, 99)
        # Of the same numbers: x itself may differ in the noise's last place.
        module.finish(mu * np.float32(1.4) - np.float32(0.2), out)
        results.append((mu, packed[:, shape[1] :], out, x, packed[:, : shape[1]]))
    for ours, theirs in zip(results[0][:3], results[1][:3], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(results[0][3:], results[1][3:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-7)


def compiled_normals(shape: Any, seed: int, origin: tuple[int, int] = (0, 0)) -> Any:
    """Noise as the library draws it for x_T, alone."""
    picture = np.zeros((shape[0], *shape[2:], shape[1]), np.float32)
    mu, x = (np.empty(shape, np.float32) for _ in range(2))
    packed = np.empty((shape[0], 2 * shape[1], *shape[2:]), np.float32)
    cpu.start(picture, 1.0, Draw(seed, 0, origin), mu, x, packed)
    return x


@compiled_only
def test_normals_within_a_millionth_of_the_reference() -> None:
    shape = (1, 3, 640, 640)
    ours, theirs = compiled_normals(shape, 2024), noise.normal(2024, 0, shape)
    assert ours.size > 10**6
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    # Nearly all are the same bits: both round once from far more digits.
    assert (ours == theirs).mean() > 0.9999


# Where seed 0 draws the ends of the ranges of u and v, and the bounds between quarter turns: found by search.
EXTREMES = {
    "u least": (51, 31646),
    "u 1": (1229, 2648),
    "v 0": (266, 50250),
    "v 1/8": (337, 61980),
    "below v 1/8": (1623, 10068),
    "v 3/8": (269, 29556),
    "v most": (454, 48946),
}


@compiled_only
@together("name", EXTREMES)
def test_normals_at_extremes(name: str) -> None:
    origin = EXTREMES[name]
    ours, theirs = compiled_normals((1, 1, 1, 2), 0, origin), noise.normal(0, 0, (1, 1, 1, 2), origin=origin)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    radius = float(np.hypot(*ours.astype(np.float64).ravel()))
    if name == "u least":
        assert radius == pytest.approx(np.sqrt(48 * np.log(2)), rel=1e-7)
    elif name == "u 1":
        assert radius == 0


@pytest.fixture
def split_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads for small arrays too."""
    monkeypatch.setattr(cpu, "SPLIT_FROM", 1)


@compiled_only
@together("clamp", ["unit", "threshold"])
@together(("shape", "padded"), SIZES, ids=str)
def test_any_number_of_threads_gives_the_same_bytes(split_early: None, shape: Any, padded: Any, clamp: str) -> None:
    picture = np.random.default_rng(4).integers(0, 256, (shape[0], *shape[2:], shape[1]), dtype=np.uint8)

    def restore(threads: int) -> list[bytes]:
        arrays = states(shape, padded)
        draw = Draw(5, 0, (3, 2), 1)
        cpu.start(picture, 0.3, draw, arrays["mu"], arrays["x"], arrays["packed"], threads=threads)
        arrays = step_with(cpu.step, arrays, clamp=clamp, origin=draw.origin, image=draw.image, threads=threads)
        out = np.full_like(picture, 99)
        cpu.finish(arrays["x"], out, threads=threads)
        return [array.tobytes() for array in (*arrays.values(), out)]

    one = restore(1)
    # 64 threads are more than there are lines.
    for threads in (0, 2, 3, 64):
        assert restore(threads) == one


@compiled_only
def test_large_arrays_are_split_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (1, 3, 101, 127)
    assert np.prod(shape) > cpu.SPLIT_FROM
    arrays = states(shape, (104, 128))
    one = step_with(cpu.step, arrays, threads=1)
    given = []
    shared = cpu._shared_threads()

    def submit(task: Any) -> None:
        given.extend(call.args for call in task._call)
        shared.submit(task)

    monkeypatch.setattr(cpu, "_shared_threads", lambda: SimpleNamespace(submit=submit))
    two = step_with(cpu.step, arrays, threads=2)
    assert given == [(151, 303)]
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array)


@pytest.mark.parametrize("clamp", CLAMPS)
def test_without_the_library_the_results_are_the_references(monkeypatch: pytest.MonkeyPatch, clamp: str) -> None:
    monkeypatch.setattr(cpu, "_library", lambda: None)
    arrays = states((2, 3, 7, 13), (8, 16))
    picture = np.random.default_rng(4).integers(0, 256, (2, 7, 13, 3), dtype=np.uint8)
    window = {"origin": (3, 5), "image": 2}

    def restore(module: Any, **more: Any) -> list[bytes]:
        made = {name: array.copy() for name, array in arrays.items()}
        module.start(picture, 0.3, Draw(5, 0, **window), made["mu"], made["x"], made["packed"], **more)
        made = step_with(module.step, made, clamp=clamp, **window, **more)
        out = np.full_like(picture, 99)
        module.finish(made["x"], out, **more)
        return [array.tobytes() for array in (*made.values(), out)]

    assert restore(cpu, threads=2) == restore(update)


@pytest.mark.parametrize("failure", ["not there", "not a library", "another library"])
def test_a_library_that_does_not_load_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, failure: str
) -> None:
    origin = tmp_path / "_cpu.so"
    origin.write_bytes(b"\x7fELF, but nothing follows")
    spec = None if failure == "not there" else SimpleNamespace(origin=str(origin))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    if failure == "another library":
        monkeypatch.setattr(ctypes, "CDLL", lambda path: SimpleNamespace(mrs_start=SimpleNamespace()))
    assert cpu._library.__wrapped__() is None
