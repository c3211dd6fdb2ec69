"""The compiled kernels: the reference's bits on any number of threads, and no wrong array ever reaches them."""

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
from mrs.kernels.row import Row
from mrs.schedule import Schedule
from mrs.solver import OUTPUTS, PREDICTIONS, Solver
from mrs.table import tableau

compiled_only = pytest.mark.skipif(not cpu.compiled(), reason="there was no compiler")
METHODS = (("ode", 1), ("ode", 2), ("ode", 3), ("sde", 1), ("sde", 2), ("posterior", 1))
ROW = Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, b1=-0.25, b2=0.125, n=0.4)
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
    x, mu, q1, q2 = (random.normal(0.5, 0.8, shape).astype(np.float32) for _ in range(4))
    output = random.normal(0, 1, (*shape[:2], *padded)).astype(np.float32)
    packed = np.zeros((shape[0], 2 * shape[1], *padded), np.float32)
    return {"x": x, "mu": mu, "output": output, "q1": q1, "q2": q2, "packed": packed}


def step_with(
    function: Any, arrays: dict[str, Any], row: Row = ROW, clamp: bool = False, **more: Any
) -> dict[str, Any]:
    """Run a step on copies; returns them."""
    copies = {name: array.copy() for name, array in arrays.items()}
    function(**copies, row=row, clamp=clamp, **{"seed": 5, "draw": 2, **more})
    return copies


def test_the_library_is_built_where_there_is_a_compiler() -> None:
    # Elsewhere its tests are left out, and this one says so.
    if not any(map(shutil.which, ("cc", "gcc"))):
        pytest.skip("there is no compiler")
    assert cpu.compiled()


@compiled_only
@pytest.mark.parametrize("clamp", [False, True], ids=["free", "clamp"])
@pytest.mark.parametrize(("method", "order"), METHODS)
def test_rows_of_every_method_give_the_same_bits(method: str, order: int, clamp: bool) -> None:
    arrays = states((2, 3, 3, 67), (4, 72))
    for prediction, output, steps, convention in itertools.product(
        PREDICTIONS, OUTPUTS, (1, 5, 10), ("mr-sampler", "ir-sde")
    ):
        table = tableau(Schedule(convention=convention), Solver(method, order, prediction, steps), output)
        for row in set(table.rows):
            quiet = row._replace(n=0.0)
            ours, theirs = (step_with(module.step, arrays, quiet, clamp) for module in (cpu, update))
            for name, array in ours.items():
                np.testing.assert_array_equal(array, theirs[name], err_msg=f"{name} of {row}")
            if row.n:
                # Two float32 roundings of nearly one number may differ in the last place.
                ours, theirs = (step_with(module.step, arrays, row, clamp) for module in (cpu, update))
                np.testing.assert_allclose(ours["x"], theirs["x"], rtol=2e-7, atol=1e-6 * row.n)
                np.testing.assert_array_equal(ours["q2"], theirs["q2"])


@compiled_only
@pytest.mark.parametrize(("shape", "padded"), SIZES, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_start_and_finish_give_the_same_bits(shape: Any, padded: Any, dtype: Any) -> None:
    random = np.random.default_rng(3)
    picture = random.random((shape[0], *shape[2:], shape[1]), dtype=np.float32)
    if dtype == np.uint8:
        picture = np.rint(picture * 255).astype(np.uint8)
    results = []
    for module in (cpu, update):
        mu, x = (np.full(shape, np.nan, np.float32) for _ in range(2))
        packed = np.zeros((shape[0], 2 * shape[1], *padded), np.float32)
        module.start(picture, 0.2, 9, mu, x, packed, origin=(5, 3), image=1)
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
    cpu.start(picture, 1.0, seed, mu, x, np.empty((shape[0], 2 * shape[1], *shape[2:]), np.float32), origin=origin)
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
@pytest.mark.parametrize("name", EXTREMES)
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
@pytest.mark.parametrize(("shape", "padded"), SIZES, ids=str)
def test_any_number_of_threads_gives_the_same_bytes(split_early: None, shape: Any, padded: Any) -> None:
    picture = np.random.default_rng(4).integers(0, 256, (shape[0], *shape[2:], shape[1]), dtype=np.uint8)

    def restore(threads: int) -> list[bytes]:
        arrays = states(shape, padded)
        more = {"threads": threads, "origin": (3, 2), "image": 1}
        cpu.start(picture, 0.3, 5, arrays["mu"], arrays["x"], arrays["packed"], **more)
        arrays = step_with(cpu.step, arrays, clamp=True, **more)
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
    submitted = []
    pool = cpu._pool

    def spied(process: int) -> Any:
        def submit(*arguments: Any) -> Any:
            submitted.append(arguments[1:])
            return pool(process).submit(*arguments)

        return SimpleNamespace(submit=submit)

    monkeypatch.setattr(cpu, "_pool", spied)
    two = step_with(cpu.step, arrays, threads=2)
    assert submitted == [(151, 303)]
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array)


@pytest.fixture(params=["compiled", "fallback"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the library and without."""
    if request.param == "fallback":
        monkeypatch.setattr(cpu, "_library", lambda: None)
        assert not cpu.compiled()
    elif not cpu.compiled():
        pytest.skip("there was no compiler")


def test_without_the_library_the_results_are_the_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_library", lambda: None)
    arrays = states((2, 3, 7, 13), (8, 16))
    picture = np.random.default_rng(4).integers(0, 256, (2, 7, 13, 3), dtype=np.uint8)
    window = {"origin": (3, 5), "image": 2}

    def restore(module: Any, **more: Any) -> list[bytes]:
        made = {name: array.copy() for name, array in arrays.items()}
        module.start(picture, 0.3, 5, made["mu"], made["x"], made["packed"], **window, **more)
        made = step_with(module.step, made, clamp=True, **window, **more)
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


def replaced(array: Any, how: str) -> Any:
    """`array` with one thing wrong."""
    if how == "smaller":
        return np.ascontiguousarray(array[..., :-1])
    if how == "larger":
        return np.zeros((*array.shape[:-1], array.shape[-1] + 1), array.dtype)
    if how == "one more":
        return np.zeros((array.shape[0] + 1, *array.shape[1:]), array.dtype)
    if how == "flat":
        return array.reshape(-1)
    if how == "float64":
        return array.astype(np.float64)
    if how == "int8":
        return array.astype(np.int8)
    if how == "other byte order":
        return array.astype(array.dtype.newbyteorder())
    if how == "strided":
        return np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2]
    if how == "transposed":
        return np.asfortranarray(array)
    if how == "misaligned":
        raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
        return raw.view(array.dtype).reshape(array.shape)
    assert how == "read-only"
    array = array.copy()
    array.flags.writeable = False
    return array


WRONG = ("smaller", "larger", "one more", "flat", "float64", "int8", "other byte order", "strided", "transposed")
WRITTEN = {"x", "q2", "packed", "mu", "picture"}


def assert_refused(function: Any, arguments: dict[str, Any], match: str | None = None) -> None:
    """ValueError, and not one byte changed."""
    arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
    before = {name: array.tobytes() for name, array in arrays.items()}
    with pytest.raises(ValueError, match=match):
        function(**arguments)
    assert {name: array.tobytes() for name, array in arrays.items()} == before


def start_arguments(dtype: Any = np.float32) -> dict[str, Any]:
    mu, x = (np.ones((2, 3, 4, 6), np.float32) for _ in range(2))
    picture = np.ones((2, 4, 6, 3), dtype)
    return {"picture": picture, "sigma": 0.1, "seed": 0, "mu": mu, "x": x, "packed": np.zeros((2, 6, 8, 8), np.float32)}


def step_arguments() -> dict[str, Any]:
    return {**states((2, 3, 4, 6), (8, 8)), "row": ROW, "clamp": False, "seed": 0, "draw": 1}


def finish_arguments(dtype: Any = np.float32) -> dict[str, Any]:
    return {"x": np.ones((2, 3, 4, 6), np.float32), "picture": np.zeros((2, 4, 6, 3), dtype)}


@pytest.mark.parametrize("how", [*WRONG, "misaligned"])
@pytest.mark.parametrize("name", ["x", "mu", "output", "q1", "q2", "packed"])
def test_step_refuses_wrong_arrays(either: None, name: str, how: str) -> None:
    arguments = step_arguments()
    # A larger output is one with more padding; then it is `packed` that does not fit.
    arguments[name] = replaced(arguments[name], how)
    assert_refused(cpu.step, arguments)


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("name", ["picture", "mu", "x", "packed"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_start_refuses_wrong_arrays(either: None, name: str, how: str, dtype: Any) -> None:
    arguments = start_arguments(dtype)
    if (name, how) == ("packed", "larger") or (name, how, dtype) == ("picture", "other byte order", np.uint8):
        cpu.start(**{**arguments, name: replaced(arguments[name], how)})  # more padding; one byte has no order
        return
    if (name, how) == ("packed", "smaller"):
        arguments["packed"] = np.zeros((2, 6, 8, 5), np.float32)
    else:
        arguments[name] = replaced(arguments[name], how)
    assert_refused(cpu.start, arguments)


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("name", ["x", "picture"])
@pytest.mark.parametrize("dtype", [np.float32])
def test_finish_refuses_wrong_arrays(either: None, name: str, how: str, dtype: Any) -> None:
    arguments = finish_arguments(dtype)
    arguments[name] = replaced(arguments[name], how)
    assert_refused(cpu.finish, arguments)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        *((cpu.start, name) for name in ("mu", "x", "packed")),
        *((cpu.step, name) for name in ("x", "q2", "packed")),
        (cpu.finish, "picture"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_is_written_must_be_writable(either: None, function: Any, name: str) -> None:
    arguments = {"start": start_arguments, "step": step_arguments, "finish": finish_arguments}[function.__name__]()
    arguments[name] = replaced(arguments[name], "read-only")
    assert_refused(function, arguments, f"{name} is read-only")


def test_what_is_read_may_be_read_only(either: None) -> None:
    arguments = step_arguments()
    for name in ("mu", "output", "q1"):
        arguments[name].flags.writeable = False
    cpu.step(**arguments)
    arguments = start_arguments(np.uint8)
    arguments["picture"].flags.writeable = False
    cpu.start(**arguments)
    arguments = finish_arguments()
    arguments["x"].flags.writeable = False
    cpu.finish(**arguments)


@pytest.mark.parametrize(
    ("height", "width"), [(3, 8), (8, 5), (3, 5), (0, 8)], ids=["low", "narrow", "low and narrow", "empty"]
)
def test_a_network_smaller_than_the_picture_is_refused(either: None, height: int, width: int) -> None:
    step, start = step_arguments(), start_arguments()
    step["output"] = np.zeros((2, 3, height, width), np.float32)
    step["packed"] = None
    start["packed"] = np.zeros((2, 6, height, width), np.float32)
    message = f"the network's {height}x{width} does not hold the state's 4x6"
    assert_refused(cpu.step, step, message)
    assert_refused(cpu.start, start, message)


@pytest.mark.parametrize(
    ("name", "other"), [*itertools.combinations(("x", "mu", "q1", "q2"), 2), ("packed", "output"), ("x", "packed")]
)
@pytest.mark.parametrize("offset", [0, 5])
def test_arrays_that_overlap_are_refused(either: None, name: str, other: str, offset: int) -> None:
    arguments = step_arguments()
    one, two = arguments[name], arguments[other]
    memory = np.zeros(one.size + two.size + offset, np.float32)
    arguments[name] = memory[: one.size].reshape(one.shape)
    arguments[other] = memory[offset : offset + two.size].reshape(two.shape)
    assert_refused(cpu.step, arguments, "overlap")


def test_the_two_predictions_may_be_one_array_only_without_the_older(either: None) -> None:
    arguments = step_arguments()
    arguments["q2"] = arguments["q1"]
    assert_refused(cpu.step, arguments, "overlap")
    cpu.step(**{**arguments, "row": ROW._replace(b2=0.0)})


def test_neighbours_in_memory_do_not_overlap(either: None) -> None:
    arguments = step_arguments()
    size = arguments["x"].size
    memory = np.ones(4 * size, np.float32)
    for i, name in enumerate(("x", "mu", "q1", "q2")):
        arguments[name] = memory[i * size : (i + 1) * size].reshape(arguments["x"].shape)
    cpu.step(**arguments)


def test_start_and_finish_refuse_to_work_in_place(either: None) -> None:
    memory = np.ones(2 * 3 * 4 * 6, np.float32)
    planes, pixels = memory.reshape(2, 3, 4, 6), memory.reshape(2, 4, 6, 3)
    assert_refused(cpu.finish, {"x": planes, "picture": pixels}, "overlap")
    assert_refused(cpu.start, {**start_arguments(), "picture": pixels, "x": planes}, "overlap")
    assert_refused(cpu.start, {**start_arguments(), "mu": planes, "x": planes}, "overlap")


@pytest.mark.parametrize(
    "wrong",
    [{"seed": -1}, {"seed": 2**32}, {"image": -1}, {"origin": (-1, 0)}, {"origin": (0, 2**32)}, {"draw": -1}],
    ids=str,
)
def test_numbers_beyond_32_bits_are_refused(either: None, wrong: dict[str, Any]) -> None:
    """Cut to 32 bits without a word, they would give another picture's noise."""
    assert_refused(cpu.step, {**step_arguments(), **wrong}, "outside 0 to")
    if "draw" not in wrong:
        assert_refused(cpu.start, {**start_arguments(), **wrong}, "outside 0 to")


def test_numpy_numbers_are_numbers(either: None) -> None:
    """Seeds and sizes often come out of arrays."""
    plain, strange = step_arguments(), step_arguments()
    strange.update(seed=np.int64(0), draw=np.uint32(1), origin=(np.int64(3), np.int32(4)), image=np.int16(1))
    strange["row"] = Row(*map(np.float64, ROW))
    cpu.step(**plain, origin=(3, 4), image=1)
    cpu.step(**strange)
    np.testing.assert_array_equal(strange["x"], plain["x"])


def test_a_picture_without_pixels_is_a_no_op(either: None) -> None:
    empty = np.zeros((1, 3, 0, 5), np.float32)
    arrays = {name: empty.copy() for name in ("x", "mu", "output", "q1", "q2")}
    cpu.step(**arrays, packed=np.zeros((1, 6, 0, 5), np.float32), row=ROW, clamp=False, seed=0, draw=1)
    cpu.finish(empty, np.zeros((1, 0, 5, 3), np.uint8))
