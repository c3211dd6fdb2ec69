"""No wrong array or number ever reaches a kernel: one line says what is wrong, and nothing was written."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from mrs.kernels import gpu
from mrs.kernels.table import Row
from tests.together import together

ROW = Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, b1=-0.25, b2=0.125, b3=-0.0625, n=0.4, m=0.375)
ARRAYS = {
    "start": ("picture", "mu", "x", "packed", "records", "key"),
    "step": ("x", "mu", "output", "history", "packed", "records", "key", "bounds"),
    "finish": ("x", "mu", "output", "history", "picture", "records", "key", "bounds"),
    "threshold": ("x", "mu", "output", "records", "counts", "bounds"),
}
EACH = [(kernel, name) for kernel, names in ARRAYS.items() for name in names]
# What is wrong, and what is said of it; of x, by which the others are measured, something is said of another.
WRONG = {
    "one column less": "is .*; expected ",
    "one more": "is .*; expected ",
    "flat": "is .*; expected ",
    "without dimensions": "is .*; expected ",
    "float64": "is float64.*; expected ",
    "int16": "is int16.*; expected ",
    "with gaps": "has strides .*; expected dense ",
    "reversed": "has strides .*; expected dense ",
    "on another device": "is on meta, the state on ",
}


def changed(array: Any, how: str) -> Any:
    """An array with one thing wrong."""
    order = tuple(reversed(range(array.dim())))
    return {
        "one column less": lambda: array[..., :-1].contiguous(),
        "one more": lambda: torch.cat([array, array[:1]]),
        "flat": lambda: array.flatten(),
        "without dimensions": lambda: array.flatten()[0],
        "float64": lambda: array.to(torch.float64),
        "int16": lambda: array.to(torch.int16),
        "with gaps": lambda: torch.stack([array, array], -1)[..., 0],
        "reversed": lambda: array.permute(order).contiguous().permute(order),
        "on another device": lambda: array.to("meta"),
    }[how]()


@pytest.fixture
def made(restore: Any) -> Any:
    """Arrays of two pictures, ready for any kernel."""
    result = restore([ROW] * 4, images=2, size=(3, 5), padded=(4, 8), clamp="threshold")
    result.fill()
    return result


def named(made: Any, kernel: str) -> dict[str, Any]:
    """Arguments of a kernel by name."""
    parameters = inspect.signature(getattr(gpu, kernel)).parameters
    return dict(zip(parameters, made.arguments(kernel), strict=True))


def assert_refused(made: Any, kernel: str, message: str, **wrong: Any) -> None:
    """ValueError of one line, and not one byte changed."""
    held = [array for array in wrong.values() if isinstance(array, torch.Tensor) and array.device.type != "meta"]
    memory = [*made.memory.values(), *held]
    before = [array.clone() for array in memory]
    with pytest.raises(ValueError, match=message) as caught:
        getattr(gpu, kernel)(**{**named(made, kernel), **wrong})
    assert "\n" not in str(caught.value)
    for array, old in zip(memory, before, strict=True):
        assert torch.equal(*(one.contiguous().flatten().view(torch.uint8) for one in (array, old)))


@together("how", WRONG)
@together(("kernel", "name"), EACH)
def test_wrong_arrays(made: Any, kernel: str, name: str, how: str) -> None:
    given = named(made, kernel)[name]
    array, message = changed(given, how), f"^{name} {WRONG[how]}"
    if name == "x" and how in ("one column less", "one more", "flat", "without dimensions", "on another device"):
        message = "^x is .*; expected|^[a-z]+ is .*; expected|^[a-z]+ is on .*, the state on meta$"
    if array.stride() == given.stride() and array.shape == given.shape and how in ("reversed", "flat"):
        return  # one dimension has one order
    if name == "records" and how == "one more":
        return  # it is a longer table
    if name == "history" and how == "one more":
        message = "^history is .*; expected .*, at most 3 slots$"
    if name == "picture" and how == "one column less":
        message = r"^picture is .*\(2, 3, 5, 2\); expected "
    assert_refused(made, kernel, message, **{name: array})


@together(("kernel", "name"), [(kernel, name) for kernel, name in EACH if kernel != "start"])
def test_arrays_of_another_type_of_network(made: Any, kernel: str, name: str) -> None:
    if name not in ("output", "packed"):
        assert_refused(made, kernel, f"^{name} is float16", **{name: named(made, kernel)[name].half()})
    elif kernel == "step":
        message = "^packed is float(32|16).*; expected float(16|32)"
        assert_refused(made, kernel, message, **{name: named(made, kernel)[name].half()})


@together("shape", [(2, 3, 4), (2, 3, 4, 8, 1), (0, 3, 4, 8), (2, 0, 4, 8), (2, 3, 4, 0)], ids=str)
@together("kernel", ARRAYS)
def test_a_state_has_four_dimensions_with_something_in_each(made: Any, kernel: str, shape: Any) -> None:
    message = r"^x is \(.*\); expected \(N, C, H', W'\), none of them 0$"
    assert_refused(made, kernel, message, x=torch.zeros(shape, device=made.device))


@together("size", [(5, 5), (3, 9), (0, 5), (3, 0), (-1, 5)], ids=str)
@together("kernel", ["step", "threshold"])
def test_a_picture_fits_into_the_state(made: Any, kernel: str, size: tuple[int, int]) -> None:
    message = rf"^a picture of {size[0]}x{size[1]} does not fit into the state's 4x8$"
    assert_refused(made, kernel, message, size=size)


@together("size", [(5, 5), (3, 9), (0, 5)], ids=str)
@together("kernel", ["start", "finish"])
def test_pictures_fit_into_the_state(made: Any, kernel: str, size: tuple[int, int]) -> None:
    picture = torch.zeros((2, *size, 3), dtype=torch.uint8, device=made.device)
    message = rf"^a picture of {size[0]}x{size[1]} does not fit into the state's 4x8$"
    assert_refused(made, kernel, message, picture=picture)


@together("kernel", ARRAYS)
@together(
    ("shape", "fits"),
    [((1, 3, 32768, 16384), False), ((1, 1, 32768, 32768), False), ((1, 1, 32768, 32767), True)],
    ids=str,
)
def test_offsets_in_a_picture_are_32_bits(made: Any, kernel: str, shape: Any, fits: bool) -> None:
    """Nothing of these sizes is allocated."""
    message = rf"planes of {shape[2]}x{shape[3]} have more than 2\^31 elements; use tiles$"
    if fits:
        # Then it is the next array that does not match.
        message = "^(picture|mu|counts) is .*; expected "
    assert_refused(made, kernel, message, x=torch.empty(shape, device="meta"))


@together("kernel", ARRAYS)
def test_a_grid_has_an_end(made: Any, kernel: str) -> None:
    message = "^65536 planes are more than 65535; use smaller batches$"
    assert_refused(made, kernel, message, x=torch.empty((16384, 4, 8, 8), device="meta"))


@together("index", [-1, 4, 2**31])
@together("kernel", ["step", "finish", "threshold"])
def test_a_row_is_there(made: Any, kernel: str, index: int) -> None:
    assert_refused(made, kernel, f"^row {index} is not one of 4$", index=index)


@together("kernel", ["start", "finish"])
@together("dtype", [torch.float16, torch.float64, torch.int32], ids=str)
def test_pictures_are_bytes_or_floats(made: Any, kernel: str, dtype: Any) -> None:
    message = r"^picture is [a-z]+\d+\(2, 3, 5, 3\); expected uint8 or float32\(2, 3, 5, 3\)$"
    assert_refused(made, kernel, message, picture=named(made, kernel)["picture"].to(dtype))


def test_a_key_is_of_unsigned_words(made: Any) -> None:
    for kernel in ("start", "step", "finish"):
        key = named(made, kernel)["key"]
        assert_refused(made, kernel, r"^key is int32\(4,\); expected uint32\(4,\)$", key=key.view(torch.int32))


def test_input_and_output_have_one_layout(made: Any) -> None:
    for name in ("output", "packed"):
        array = named(made, "step")[name].contiguous(memory_format=torch.channels_last)
        message = "^packed and output must have the same layout, both as planes or both with channels last$"
        assert_refused(made, "step", message, **{name: array})


def test_one_channel_has_any_strides(restore: Any) -> None:
    """An output of one channel lies in both layouts alike; the input tells which one the network has."""
    for channels_last in (False, True):
        made = restore([ROW] * 4, channels=1, channels_last=channels_last)
        made.fill()
        for strides in ((64, 1, 16, 1), (64, 64, 16, 1)):
            made.output = made.output.as_strided(made.output.shape, strides, made.begins["output"])
            assert made.launch("step").constants["CHANNELS_LAST"] == channels_last
        made.step(0)


PAIRS = [
    (kernel, one, other) for kernel, names in ARRAYS.items()
    for at, one in enumerate(names) for other in names[at + 1 :]
]  # fmt: skip


@together("offset", [0, 4])
@together(("kernel", "one", "other"), PAIRS)
def test_arrays_that_overlap(made: Any, kernel: str, one: str, other: str, offset: int) -> None:
    given = named(made, kernel)
    sizes = {name: given[name].numel() * given[name].element_size() for name in (one, other)}
    memory = torch.zeros(sum(sizes.values()) + offset, dtype=torch.uint8, device=made.device)
    wrong = {}
    begin = 0 if offset == 0 else (sizes[one] - 1) // offset * offset
    for name, at in ((one, 0), (other, begin)):
        part = memory[at : at + sizes[name]].view(given[name].dtype)
        wrong[name] = part.view(given[name].shape)
    assert_refused(made, kernel, f"^({one} and {other}|{other} and {one}) overlap$", **wrong)


def test_an_array_within_another_is_found_behind_a_third(made: Any) -> None:
    """The widest one may reach beyond its next neighbour."""
    given = named(made, "step")
    size = given["x"].numel()
    memory = torch.zeros(given["history"].numel(), device=made.device)
    history = memory.view(given["history"].shape)
    x, mu = (memory[at * size : (at + 1) * size].view(given["x"].shape) for at in (0, 1))
    assert_refused(made, "step", "overlap$", history=history, mu=mu)
    assert_refused(made, "step", "overlap$", history=history, mu=mu, x=x)


def test_neighbours_in_memory_do_not_overlap(made: Any) -> None:
    given = named(made, "step")
    size = given["x"].numel()
    memory = torch.zeros(3 * size, device=made.device)
    x, mu, output = (memory[at * size : (at + 1) * size].view(given["x"].shape) for at in range(3))
    gpu.step(**{**given, "x": x, "mu": mu, "output": output})
