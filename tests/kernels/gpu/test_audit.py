"""Infinities and NaN are found wherever they are, and nothing else is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from mrs.kernels import gpu
from mrs.kernels.gpu import reference

pytestmark = pytest.mark.slow(8)

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
BAD = (float("inf"), float("-inf"), float("nan"))
# Of a block of wide accesses, which takes 128 runs of 16 bytes, and of one of single values, which takes 128 of these.
SIZES = {
    "one": lambda group: 1,
    "a prime": lambda group: 67,
    "a value less than a block": lambda group: 127,
    "a value more than a block": lambda group: 129,
    "a prime of several blocks": lambda group: 521,
    "a run": lambda group: group,
    "a run less than a block": lambda group: 127 * group,
    "a block": lambda group: 128 * group,
    "a run more than a block": lambda group: 129 * group,
    "a value more than a block of runs": lambda group: 128 * group + 1,
}
# Before and behind the status.
UNTOUCHED = 77


class Memory:
    """Values in the midst of memory that holds NaN, and a status in the midst of words that must stay.

    Args:
        device: where they are.
        shape, dtype, last: of the values, which are random numbers; `channels_last` puts their channels last.
        shift: elements from where wide accesses may begin.
        status: before the launch.
    """

    def __init__(
        self,
        device: str,
        shape: tuple[int, ...],
        dtype: Any,
        channels_last: bool = False,
        shift: int = 0,
        status: int = 0,
    ) -> None:
        size, begin = int(np.prod(shape)), 64 + shift
        self.memory = torch.full((size + 128,), float("nan"), dtype=dtype, device=device)
        self.flat = self.memory[begin : begin + size]
        self.flat.copy_(torch.from_numpy(np.random.default_rng(0).normal(size=size)))
        images, channels, high, wide = shape
        self.values = (
            self.flat.view(images, high, wide, channels).permute(0, 3, 1, 2) if channels_last else self.flat.view(shape)
        )
        self.words = torch.full((9,), UNTOUCHED, dtype=torch.int32, device=device)
        self.status = self.words[4:5]
        self.status.fill_(status)

    def audit(self) -> int:
        """The status afterwards, the reference's too; nothing else has changed."""
        before = bits(self.memory)
        expected = self.status.cpu().numpy().copy()
        reference.audit(self.values.float().cpu().numpy(), expected)
        gpu.audit(self.values, self.status)
        assert bits(self.memory) == before
        words = self.words.tolist()
        assert words[:4] + words[5:] == [UNTOUCHED] * 8
        assert words[4] == expected[0]
        return int(words[4])


def bits(array: Any) -> bytes:
    return bytes(array.view(torch.uint8).cpu().numpy())


@pytest.fixture(scope="module")
def memory(device: str) -> Callable[..., Memory]:
    return lambda *arguments, **more: Memory(device, *arguments, **more)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_not_finite_is_found_anywhere(memory: Callable[..., Memory], dtype: Any, size: str) -> None:
    elements = SIZES[size](16 // dtype.itemsize)
    for bad, at in product(BAD, sorted({0, elements // 2, elements - 1})):
        made = memory((1, 1, 1, elements), dtype)
        made.flat[at] = bad
        assert made.audit() == 1, (bad, at)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_beside_it_nothing_is_found(memory: Callable[..., Memory], dtype: Any, size: str) -> None:
    """The memory around the array is full of NaN."""
    assert memory((1, 1, 1, SIZES[size](16 // dtype.itemsize)), dtype).audit() == 0


@pytest.mark.parametrize("shape", [(2, 3, 4, 8), (2, 3, 5, 7), (3, 1, 6, 16), (1, 5, 1, 1)], ids=str)
@pytest.mark.parametrize("channels_last", [False, True], ids=["planes", "last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_both_layouts_are_read_in_full(
    memory: Callable[..., Memory], dtype: Any, channels_last: bool, shape: tuple[int, ...]
) -> None:
    made = memory(shape, dtype, channels_last)
    assert made.audit() == 0
    # The corners of the first picture and of the last; memory begins and ends with two of them.
    for corner in product(*({0, size - 1} for size in shape)):
        made = memory(shape, dtype, channels_last)
        made.values[corner] = float("nan")
        assert made.audit() == 1, corner


@pytest.mark.parametrize("shift", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_memory_begins_anywhere(memory: Callable[..., Memory], dtype: Any, shift: int) -> None:
    shape = (1, 3, 4, 48)
    assert memory(shape, dtype, shift=shift).audit() == 0
    for at in (0, -1):
        made = memory(shape, dtype, shift=shift)
        made.flat[at] = float("inf")
        assert made.audit() == 1, at


def test_wide_accesses_are_made_where_memory_and_size_allow_them(memory: Callable[..., Memory]) -> None:
    for dtype in DTYPES:
        group = 16 // dtype.itemsize
        found = [
            launch_of(made.values, made.status).constants["GROUP"]
            for made in (
                memory((1, 1, 1, 32), dtype),
                memory((1, 1, 1, 32), dtype, shift=group),
                memory((1, 2, 4, 4), dtype, True),
                memory((1, 1, 1, 33), dtype),
                memory((1, 1, 1, 32), dtype, shift=1),
                memory((1, 1, 1, 32), dtype, shift=group // 2),
            )
        ]
        assert found == [group] * 3 + [1] * 3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_finite_number_is_fine(memory: Callable[..., Memory], dtype: Any) -> None:
    kind = torch.finfo(dtype)
    made = memory((1, 1, 1, 67), dtype)
    made.flat[:5] = torch.tensor([kind.max, kind.min, kind.tiny, kind.smallest_normal, -0.0], dtype=dtype)
    # The one nearest to 0 has the lowest bit alone.
    made.flat[5:6].view(torch.int32 if dtype == torch.float32 else torch.int16).fill_(1)
    made.flat[66] = kind.max
    assert made.audit() == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_nan_is_one(memory: Callable[..., Memory], dtype: Any) -> None:
    """Quiet and signalling, of both signs, with the lowest bit of the fraction alone or all of them."""
    bits_, fraction = (32, 23) if dtype == torch.float32 else (16, 10 if dtype == torch.float16 else 7)
    exponent = ((1 << bits_ - 1) - 1) >> fraction << fraction
    for payload, sign in product((1, 1 << fraction - 1, (1 << fraction) - 1), (0, 1 << bits_ - 1)):
        made = memory((1, 1, 1, 8), dtype)
        words = made.flat.view(getattr(torch, f"int{bits_}"))
        pattern = sign | exponent | payload
        words[3] = pattern - (1 << bits_ if sign else 0)
        assert np.isnan(made.flat.float().cpu().numpy()[3])
        assert made.audit() == 1, hex(pattern)


@pytest.mark.parametrize("status", [0, 1, -5])
def test_a_status_is_left_where_all_is_finite(memory: Callable[..., Memory], status: int) -> None:
    assert memory((1, 3, 4, 8), torch.bfloat16, status=status).audit() == status


@pytest.mark.parametrize("status", [0, 1, 2, -5])
def test_a_status_becomes_1_whatever_it_was(memory: Callable[..., Memory], status: int) -> None:
    made = memory((1, 3, 4, 8), torch.bfloat16, status=status)
    made.flat[7] = float("nan")
    assert made.audit() == 1


def test_a_status_is_1_where_many_programs_find_something(memory: Callable[..., Memory]) -> None:
    made = memory((2, 3, 16, 32), torch.float32)
    made.flat.fill_(float("inf"))
    assert made.audit() == 1


def test_a_status_begins_anywhere(memory: Callable[..., Memory], device: str) -> None:
    made = memory((1, 3, 4, 8), torch.float32)
    made.flat[7] = float("nan")
    for at in range(4, 8):
        words = torch.zeros(12, dtype=torch.int32, device=device)
        gpu.audit(made.values, words[at : at + 1])
        assert words.nonzero().tolist() == [[at]]
        assert words[at] == 1


# What is launched


def launch_of(values: Any, status: Any) -> Any:
    # The package gives its function that name.
    return sys.modules["mrs.kernels.gpu.audit"].launch(values, status)


def array(kind: str, *shape: int, channels_last: bool = False) -> Any:
    """An array without memory, of any size."""
    from mrs.kernels.aot.cases import Array

    return Array.of(kind, *shape, channels_last=channels_last)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_any_size_of_whole_groups_is_one_specialisation(kind: str) -> None:
    group = {"float32": 4}.get(kind, 8)
    shapes = [(1, 1, 1, group), (1, 3, 64, 64), (3, 5, 7, 64), (8, 3, 2048, 2048), (1, 1, 2**15, 2**16)]
    found = set()
    for shape, channels_last in product(shapes, (False, True)):
        launch = launch_of(array(kind, *shape, channels_last=channels_last), array("int32", 1))
        runs = np.prod(shape, dtype=np.int64) // group
        assert launch.grid == (-(-runs // 128), 1)
        assert launch.arguments[2] == runs
        found.add((launch.name, tuple(launch.constants.items()), launch.warps))
    assert found == {("audit_values", (("GROUPS", 128), ("GROUP", group)), 4)}


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((1, 1, 2**17, 2**16), False),
        ((1, 1, 2**17, 2**16 - 1), True),
        ((1, 1, 1, 2**31 - 1), True),
        ((1, 1, 1, 2**31 + 1), False),
    ],
    ids=["2^31 groups", "fewer", "2^31 values less 1", "2^31 values and 1"],
)
def test_a_launch_numbers_less_than_2_to_the_31_runs(shape: tuple[int, ...], fits: bool) -> None:
    """Nothing of these sizes is allocated."""
    values, status = array("float32", *shape), array("int32", 1)
    if fits:
        assert launch_of(values, status).arguments[2] < 2**31
    else:
        with pytest.raises(ValueError, match=r"^\d+ values are more than a launch can number; use smaller batches$"):
            launch_of(values, status)


# What is refused


def assert_refused(message: str, values: Any, status: Any) -> None:
    """ValueError of one line, and not one byte changed."""
    held = [each for each in (values, status) if each.device.type != "meta"]
    before = [each.clone() for each in held]
    with pytest.raises(ValueError, match=message) as caught:
        gpu.audit(values, status)
    assert "\n" not in str(caught.value)
    for each, old in zip(held, before, strict=True):
        assert torch.equal(*(one.contiguous().flatten().view(torch.uint8) for one in (each, old)))


def not_finite(device: str, *shape: int) -> Any:
    """Values that a launch would find."""
    return torch.full(shape, float("nan"), device=device)


def zero(device: str, *shape: int, dtype: Any = torch.int32) -> Any:
    return torch.zeros(shape, dtype=dtype, device=device)


@pytest.mark.parametrize(
    "shape", [(), (8,), (2, 3, 4), (2, 3, 4, 8, 1), (0, 3, 4, 8), (2, 0, 4, 8), (2, 3, 0, 8), (2, 3, 4, 0)], ids=str
)
def test_values_have_four_dimensions_with_something_in_each(device: str, shape: tuple[int, ...]) -> None:
    message = r"^values is \(.*\); expected \(N, C, H', W'\), none of them 0$"
    assert_refused(message, not_finite(device, *shape), zero(device, 1))


@pytest.mark.parametrize("kind", ["float64", "int32", "int16", "uint8", "bool"])
def test_values_are_of_a_networks_type(device: str, kind: str) -> None:
    values = not_finite(device, 2, 3, 4, 8).to(getattr(torch, kind))
    message = rf"^values is {kind}\(2, 3, 4, 8\); expected float32 or float16 or bfloat16\(2, 3, 4, 8\)$"
    assert_refused(message, values, zero(device, 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values[..., :-1],
        lambda values: values[:, :2],
        lambda values: values[..., ::2],
        lambda values: values.permute(0, 1, 3, 2),
        lambda values: values.permute(3, 2, 1, 0),
        lambda values: values[:1].expand(2, 3, 4, 8),
        lambda values: torch.stack([values, values], -1)[..., 0],
    ],
    ids=["a column less", "a channel less", "every other column", "transposed", "reversed", "repeated", "with gaps"],
)
def test_values_are_dense_planes_or_have_their_channels_last(device: str, change: Callable[[Any], Any]) -> None:
    message = r"^values has strides \(.*\); expected dense planes or dense with channels last$"
    assert_refused(message, change(not_finite(device, 2, 3, 4, 8)), zero(device, 1))


@pytest.mark.parametrize("shape", [(), (0,), (2,), (1, 1)], ids=str)
def test_a_status_is_one_number(device: str, shape: tuple[int, ...]) -> None:
    message = r"^status is int32\(.*\); expected int32\(1,\)$"
    assert_refused(message, not_finite(device, 2, 3, 4, 8), zero(device, *shape))


@pytest.mark.parametrize("kind", ["int64", "int16", "uint8", "uint32", "float32", "bool"])
def test_a_status_is_int32(device: str, kind: str) -> None:
    message = rf"^status is {kind}\(1,\); expected int32\(1,\)$"
    assert_refused(message, not_finite(device, 2, 3, 4, 8), zero(device, 1, dtype=getattr(torch, kind)))


def test_arrays_are_on_one_device(device: str) -> None:
    values, status = not_finite(device, 2, 3, 4, 8), zero(device, 1)
    assert_refused("^status is on meta, the state on ", values, status.to("meta"))
    assert_refused("^status is on .*, the state on meta$", values.to("meta"), status)


@pytest.mark.parametrize("at", [0, 17, 191])
def test_a_status_within_the_values_is_refused(device: str, at: int) -> None:
    values = not_finite(device, 2, 3, 4, 8)
    status = values.flatten()[at : at + 1].view(torch.int32)
    assert_refused("^(status and values|values and status) overlap$", values, status)


def test_a_status_beside_the_values_is_not(device: str) -> None:
    memory = not_finite(device, 194)
    words = memory.view(torch.int32)
    for at in (0, 193):
        words[at] = 0
        gpu.audit(memory[1:193].view(2, 3, 4, 8), words[at : at + 1])
        assert words[at] == 1
