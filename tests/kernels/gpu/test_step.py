"""A step of any row on any sizes, and what it reads, writes and leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mrs.kernels.table import Row
from tests.kernels.rows import ROWS

pytestmark = pytest.mark.slow(12)

READ = {name: (row.b1 != 0 or row.m != 0, row.b2 != 0, row.b3 != 0) for name, row in ROWS.items()}
# Of a step with history in all of its slots.
INDEX = 4


def midway(restore: Any, row: Row, after: Row = ROWS["order 4"], **more: Any) -> Any:
    """A restore before step INDEX, which has this row; every prediction is there."""
    made = restore([ROWS["order 4"]] * INDEX + [row, after, ROWS["last"]], **more)
    made.fill()
    return made


PATHS = {"planes": {"channels": 1}, "pixels": {"channels_last": True}}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ROWS)
def test_rows(restore: Any, name: str, path: str) -> None:
    made = midway(restore, ROWS[name], **PATHS[path])
    assert made.launch("step").name == f"step_{path}"
    # What is not read may be anything.
    for back, read in enumerate(READ[name], 1):
        if not read:
            made.history[(INDEX - back) % 3] = float("nan")
    made.step(INDEX)
    assert made.x.isfinite().all()


# (N, C, H, W), (H', W'), the network's type, channels last, and whether pixels are moved whole. A block of planes has
# 512 elements, of half precision 1024; one of pixels 128.
SIZES = {
    "a single element": ((1, 1, 1, 1), (1, 1), "float32", False, False),
    "a single element of half precision": ((1, 1, 1, 1), (1, 1), "float16", False, False),
    "a single pixel": ((1, 3, 1, 1), (1, 1), "bfloat16", True, False),
    "a single padded pixel": ((1, 3, 1, 1), (1, 4), "float32", True, True),
    "primes": ((1, 1, 7, 13), (7, 13), "float32", False, False),
    "primes padded": ((2, 3, 7, 13), (8, 16), "float16", True, True),
    "larger primes": ((1, 2, 31, 37), (31, 37), "float16", False, False),
    "a line less than a block": ((1, 1, 31, 16), (31, 16), "float32", False, False),
    "a block": ((1, 1, 32, 16), (32, 16), "float32", False, False),
    "a line more than a block": ((1, 1, 33, 16), (33, 16), "float32", False, False),
    "an element less than a block": ((1, 1, 1, 511), (1, 511), "float32", False, False),
    "an element more than a block": ((1, 1, 1, 513), (1, 513), "float32", False, False),
    "a line more than a block of half precision": ((1, 1, 65, 16), (65, 16), "bfloat16", False, False),
    "pixels, a line less than a block": ((1, 3, 7, 16), (7, 16), "float32", True, True),
    "pixels, a block": ((1, 3, 8, 16), (8, 16), "bfloat16", True, True),
    "pixels, a line more than a block": ((1, 3, 9, 16), (9, 16), "float16", True, True),
    "a multiple of 4 but not 8": ((1, 3, 3, 12), (3, 12), "float16", True, False),
    "a multiple of 4 in float32": ((1, 3, 3, 12), (3, 12), "float32", True, True),
    "a multiple of 8": ((1, 3, 3, 24), (3, 24), "float16", True, True),
    "one channel last": ((2, 1, 5, 7), (8, 8), "float16", True, False),
    "two channels last": ((3, 2, 5, 7), (8, 8), "float32", True, False),
    "four channels last": ((1, 4, 4, 8), (4, 8), "float16", True, False),
    "four channels": ((2, 4, 3, 5), (4, 8), "bfloat16", False, False),
    "a batch of three": ((3, 3, 2, 6), (2, 8), "float16", True, True),
    "much padding": ((1, 3, 2, 3), (16, 32), "float32", True, True),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes(restore: Any, name: str) -> None:
    (images, channels, *size), padded, dtype, channels_last, whole = SIZES[name]
    made = midway(
        restore, ROWS["order 4"]._replace(m=0.375), images=images, channels=channels, size=tuple(size), padded=padded,
        dtype=dtype, channels_last=channels_last,
    )  # fmt: skip
    assert made.launch("step").name == ("step_pixels" if whole else "step_planes")
    made.step(INDEX)


@pytest.mark.parametrize("shift", [4, 8, 12, 16])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_memory_that_begins_anywhere(restore: Any, dtype: str, shift: int) -> None:
    made = midway(restore, ROWS["order 2"], dtype=dtype, channels_last=True, shift=shift)
    assert made.launch("step").name == ("step_pixels" if shift == 16 else "step_planes")
    made.step(INDEX)


@pytest.mark.parametrize("name", ["x", "mu", "output", "history", "packed"])
def test_one_array_that_begins_elsewhere_is_enough(restore: Any, name: str) -> None:
    made = midway(restore, ROWS["order 2"], channels_last=True)
    moved = midway(restore, ROWS["order 2"], channels_last=True, shift=4)
    array = getattr(moved, name)
    array.copy_(getattr(made, name))
    setattr(made, name, array)
    made.memory[name], made.begins[name] = moved.memory[name], moved.begins[name]
    assert made.launch("step").name == "step_planes"
    made.step(INDEX)


def test_a_restore_without_history(restore: Any) -> None:
    made = restore([ROWS["noise"], ROWS["last"]], channels=1)
    assert made.history.shape[0] == 0
    made.fill()
    made.step(0)


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("path", PATHS)
def test_a_prediction_is_kept_in_its_slot_or_nowhere(restore: Any, path: str, slots: int) -> None:
    row = ROWS[f"order {slots + 1}"]
    for after, kept in ((row, True), (ROWS["order 1"], False)):
        made = restore([row] * 5 + [after, ROWS["last"]], **PATHS[path])
        made.fill()
        before = made.history.clone()
        made.step(INDEX)
        changed = [not torch.equal(before[slot], made.history[slot]) for slot in range(slots)]
        # Where it is not read later, the slot of a prediction that nobody needs any more keeps that.
        assert changed == [kept and slot == INDEX % slots for slot in range(slots)]


def test_a_weight_that_float32_cannot_tell_from_0_reads_nothing(restore: Any) -> None:
    made = midway(restore, ROWS["order 1"]._replace(b1=1e-60, b2=-1e-60, b3=1e-60, n=1e-60, m=1e-60), channels=1)
    made.history.fill_(float("nan"))
    made.step(INDEX)
    assert made.x.isfinite().all()


@pytest.mark.parametrize("clamp", ["none", "unit", "threshold"])
@pytest.mark.parametrize("path", PATHS)
def test_what_is_not_finite_runs_through(restore: Any, path: str, clamp: str) -> None:
    """It is found once, at the end of a restore; a clamp that made a number of NaN would hide it."""
    made = midway(restore, ROWS["order 2"]._replace(m=0.375), images=2, clamp=clamp, **PATHS[path])
    for column, value in enumerate((np.nan, np.inf, -np.inf, 3e38, -3e38)):
        made.output[0, :, 0, column] = value
        made.x[0, :, 1, column] = value
        made.history[:, 0, :, 2, column] = value
    if clamp == "threshold":
        made.threshold(INDEX)
    made.step(INDEX)
    assert made.x[1].isfinite().all()
    kept = made.history[INDEX % 3, 0]
    assert kept[:, 0, 0].isnan().all()
    if clamp == "unit":
        assert kept[:, 0, 1:].isfinite().all()
    if clamp == "threshold":
        # Its bound is NaN.
        assert kept.isnan().all()


@pytest.mark.parametrize("clamp", ["unit", "threshold"])
def test_a_prediction_is_clamped_before_momentum_and_never_after(restore: Any, clamp: str) -> None:
    # Clamped to 1 first: (1 - 1) / 2. The other way round, (3 - 1) / 2 would stay 1.
    made = midway(restore, Row(0, 0, 1, 0, 0, 1, m=0.5), channels=1, clamp=clamp)
    made.output.fill_(3.0)
    made.history.fill_(-1.0)
    made.bounds.fill_(1.5)
    made.step(INDEX)
    assert (made.x == 0).all()


@pytest.mark.parametrize("path", PATHS)
def test_noise_of_a_window_is_that_of_the_whole(restore: Any, path: str) -> None:
    """Bit for bit, in any place and any batch."""
    whole = midway(restore, ROWS["noise"], images=2, size=(5, 24), key={"seed": 8, "image": 3}, **PATHS[path])
    top, left, height, width = 2, 7, 3, 14
    window = (slice(1, 2), slice(None), slice(top, top + height), slice(left, left + width))
    part = midway(
        restore, ROWS["noise"], channels=whole.channels, size=(height, width),
        key={"seed": 8, "image": 4, "origin": (top, left)},
    )  # fmt: skip
    for name in ("x", "mu", "output"):
        getattr(part, name).copy_(getattr(whole, name)[window])
    assert {whole.launch("step").name, part.launch("step").name} == {f"step_{path}", "step_planes"}
    whole.step(INDEX)
    part.step(INDEX)
    assert torch.equal(part.x, whole.x[window])


@pytest.mark.parametrize("seed", range(15))
def test_a_clean_picture_is_a_fixed_point(restore: Any, seed: int) -> None:
    """Where state, picture and all predictions are one picture, weights whose sum is 1 give it again."""
    random = np.random.default_rng(seed)
    cx, cm, ax, am, b1, b2, b3 = random.uniform(-2, 2, 7) * random.integers(0, 2, 7)
    m = random.choice([0.0, 0.3, 0.75])
    row = Row(cx, cm, 1 - cx - cm, ax, am, 1 - ax - am - b1 - b2 - b3, b1, b2, b3, m=m)
    made = midway(restore, row, channels=1, size=(3, 8))
    clean = torch.from_numpy(random.random((1, 1, 3, 8), dtype=np.float32))
    for array in (made.x, made.mu, made.output, made.history):
        array.copy_(clean)
    made.step(INDEX)
    largest = sum(map(abs, row)) + abs(row.b0) * sum(map(abs, row[:3]))
    np.testing.assert_allclose(made.x.cpu().numpy(), clean.numpy(), rtol=0, atol=5e-7 * largest)
    assert sum(row[3:9]) == pytest.approx(1)
