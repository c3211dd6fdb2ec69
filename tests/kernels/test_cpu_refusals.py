"""No wrong array or number ever reaches the compiled kernels; with the library or without, all is checked first."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from mrs.kernels import cpu
from mrs.kernels.table import Row
from tests.kernels import by_name
from tests.together import together

ROW = Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, b1=-0.25, b2=0.125, b3=-0.0625, n=0.4, m=0.375)
PREDICTIONS = ("q1", "q2", "q3", "kept")


@pytest.fixture(params=["compiled", "fallback"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the library and without."""
    if request.param == "fallback":
        monkeypatch.setattr(cpu, "_library", lambda: None)
        assert not cpu.compiled()
    elif not cpu.compiled():
        pytest.skip("there was no compiler")


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


def assert_refused(function: Any, arguments: dict[str, Any], match: str | None = None) -> None:
    """ValueError, and not one byte changed."""
    arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
    before = {name: array.tobytes() for name, array in arrays.items()}
    with pytest.raises(ValueError, match=match):
        function(**arguments)
    assert {name: array.tobytes() for name, array in arrays.items()} == before


def start(**arguments: Any) -> None:
    by_name.start(cpu.start, **arguments)


def step(**arguments: Any) -> None:
    by_name.step(cpu.step, **arguments)


def start_arguments(dtype: Any = np.float32) -> dict[str, Any]:
    mu, x = (np.ones((2, 3, 4, 6), np.float32) for _ in range(2))
    picture = np.ones((2, 4, 6, 3), dtype)
    return {"picture": picture, "sigma": 0.1, "seed": 0, "mu": mu, "x": x, "packed": np.zeros((2, 6, 8, 8), np.float32)}


def step_arguments() -> dict[str, Any]:
    random = np.random.default_rng(0)
    arrays = {name: random.normal(0.5, 0.8, (2, 3, 4, 6)).astype(np.float32) for name in ("x", "mu", *PREDICTIONS)}
    arrays["output"] = random.normal(0, 1, (2, 3, 8, 8)).astype(np.float32)
    arrays["packed"] = np.zeros((2, 6, 8, 8), np.float32)
    return {**arrays, "row": ROW, "clamp": "none", "seed": 0, "draw": 1}


def finish_arguments(dtype: Any = np.float32) -> dict[str, Any]:
    return {"x": np.ones((2, 3, 4, 6), np.float32), "picture": np.zeros((2, 4, 6, 3), dtype)}


@together("how", [*WRONG, "misaligned"])
@together("name", ["x", "mu", "output", *PREDICTIONS, "packed"])
def test_step_refuses_wrong_arrays(either: None, name: str, how: str) -> None:
    arguments = step_arguments()
    # A larger output is one with more padding; then it is `packed` that does not fit.
    arguments[name] = replaced(arguments[name], how)
    assert_refused(step, arguments)


@together("how", WRONG)
@together("name", ["picture", "mu", "x", "packed"])
@together("dtype", [np.uint8, np.float32])
def test_start_refuses_wrong_arrays(either: None, name: str, how: str, dtype: Any) -> None:
    arguments = start_arguments(dtype)
    if (name, how) == ("packed", "larger") or (name, how, dtype) == ("picture", "other byte order", np.uint8):
        start(**{**arguments, name: replaced(arguments[name], how)})  # more padding; one byte has no order
        return
    if (name, how) == ("packed", "smaller"):
        arguments["packed"] = np.zeros((2, 6, 8, 5), np.float32)
    else:
        arguments[name] = replaced(arguments[name], how)
    assert_refused(start, arguments)


@together("how", WRONG)
@together("name", ["x", "picture"])
@together("dtype", [np.float32])
def test_finish_refuses_wrong_arrays(either: None, name: str, how: str, dtype: Any) -> None:
    arguments = finish_arguments(dtype)
    arguments[name] = replaced(arguments[name], how)
    assert_refused(cpu.finish, arguments)


@together(
    ("function", "name"),
    [
        *((start, name) for name in ("mu", "x", "packed")),
        *((step, name) for name in ("x", "kept", "packed")),
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
    for name in ("mu", "output", "q1", "q2", "q3"):
        arguments[name].flags.writeable = False
    step(**arguments)
    arguments = start_arguments(np.uint8)
    arguments["picture"].flags.writeable = False
    start(**arguments)
    arguments = finish_arguments()
    arguments["x"].flags.writeable = False
    cpu.finish(**arguments)


@together(("height", "width"), [(3, 8), (8, 5), (3, 5), (0, 8)], ids=["low", "narrow", "low and narrow", "empty"])
def test_a_network_smaller_than_the_picture_is_refused(either: None, height: int, width: int) -> None:
    of_step, of_start = step_arguments(), start_arguments()
    of_step["output"] = np.zeros((2, 3, height, width), np.float32)
    of_step["packed"] = None
    of_start["packed"] = np.zeros((2, 6, height, width), np.float32)
    message = f"the network's {height}x{width} does not hold the state's 4x6"
    assert_refused(step, of_step, message)
    assert_refused(start, of_start, message)


@together(
    ("name", "other"),
    [
        *((name, other) for name in ("x", "mu") for other in ("mu", *PREDICTIONS) if name != other),
        ("packed", "output"),
        ("x", "packed"),
        ("q3", "packed"),
        ("kept", "output"),
    ],
)
@together("offset", [0, 5])
def test_arrays_that_overlap_are_refused(either: None, name: str, other: str, offset: int) -> None:
    arguments = step_arguments()
    one, two = arguments[name], arguments[other]
    memory = np.zeros(one.size + two.size + offset, np.float32)
    arguments[name] = memory[: one.size].reshape(one.shape)
    arguments[other] = memory[offset : offset + two.size].reshape(two.shape)
    assert_refused(step, arguments, "overlap")


@together(("name", "other"), list(itertools.combinations(PREDICTIONS, 2)))
@together("offset", [1, 5, 143])
def test_predictions_are_one_array_or_apart(either: None, name: str, other: str, offset: int) -> None:
    """The same array is what a ring of few predictions gives; one that is shifted is a mistake."""
    arguments = step_arguments()
    size, shape = arguments["x"].size, arguments["x"].shape
    memory = np.zeros(2 * size, np.float32)
    arguments[name] = memory[:size].reshape(shape)
    arguments[other] = memory[offset : offset + size].reshape(shape)
    assert_refused(step, arguments, "overlap")
    # Another view of the same memory is the same array.
    step(**{**arguments, other: memory[:size].reshape(shape)})
    step(**{**arguments, other: memory[size:].reshape(shape)})


def test_a_third_prediction_that_is_shifted_is_found_among_equal_ones(either: None) -> None:
    arguments = step_arguments()
    size, shape = arguments["x"].size, arguments["x"].shape
    memory = np.zeros(size + 1, np.float32)
    for name in ("q1", "q2", "kept"):
        arguments[name] = memory[:size].reshape(shape)
    assert_refused(step, {**arguments, "q3": memory[1:].reshape(shape)}, "overlap")


@together("clamp", [True, False, None, 1, "", "Unit", "thresh"], ids=repr)
def test_an_unknown_clamp_is_refused(either: None, clamp: Any) -> None:
    assert_refused(step, {**step_arguments(), "clamp": clamp}, "is not one of none, unit, threshold")


def test_neighbours_in_memory_do_not_overlap(either: None) -> None:
    arguments = step_arguments()
    size = arguments["x"].size
    names = ("x", "mu", *PREDICTIONS)
    memory = np.ones(len(names) * size, np.float32)
    for i, name in enumerate(names):
        arguments[name] = memory[i * size : (i + 1) * size].reshape(arguments["x"].shape)
    step(**arguments)


def test_start_and_finish_refuse_to_work_in_place(either: None) -> None:
    memory = np.ones(2 * 3 * 4 * 6, np.float32)
    planes, pixels = memory.reshape(2, 3, 4, 6), memory.reshape(2, 4, 6, 3)
    assert_refused(cpu.finish, {"x": planes, "picture": pixels}, "overlap")
    assert_refused(start, {**start_arguments(), "picture": pixels, "x": planes}, "overlap")
    assert_refused(start, {**start_arguments(), "mu": planes, "x": planes}, "overlap")


@together(
    "wrong",
    [{"seed": -1}, {"seed": 2**32}, {"image": -1}, {"origin": (-1, 0)}, {"origin": (0, 2**32)}, {"draw": -1}],
    ids=str,
)
def test_numbers_beyond_32_bits_are_refused(either: None, wrong: dict[str, Any]) -> None:
    """Cut to 32 bits without a word, they would give another picture's noise."""
    assert_refused(step, {**step_arguments(), **wrong}, "outside 0 to")
    if "draw" not in wrong:
        assert_refused(start, {**start_arguments(), **wrong}, "outside 0 to")


def test_numpy_numbers_are_numbers(either: None) -> None:
    """Seeds and sizes often come out of arrays."""
    plain, strange = step_arguments(), step_arguments()
    strange.update(seed=np.int64(0), draw=np.uint32(1), origin=(np.int64(3), np.int32(4)), image=np.int16(1))
    strange["row"] = Row(*map(np.float64, ROW))
    step(**plain, origin=(3, 4), image=1)
    step(**strange)
    np.testing.assert_array_equal(strange["x"], plain["x"])


@together("clamp", cpu.CLAMPS)
def test_a_picture_without_pixels_is_a_no_op(either: None, clamp: str) -> None:
    empty = np.zeros((1, 3, 0, 5), np.float32)
    arrays = {name: empty.copy() for name in ("x", "mu", "output", *PREDICTIONS)}
    step(**arrays, packed=np.zeros((1, 6, 0, 5), np.float32), row=ROW, clamp=clamp, seed=0, draw=1)
    cpu.finish(empty, np.zeros((1, 0, 5, 3), np.uint8))
