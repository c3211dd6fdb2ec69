"""Start, step and finish do what their formulas say, in the NumPy reference and in the compiled form."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mrs.kernels import cpu, update
from mrs.kernels.noise import Draw, normal
from mrs.kernels.table import Row
from tests.kernels.rows import ROWS
from tests.together import together

F32 = NDArray[np.float32]
# (N, C, H, W) of a state and (H', W') of the network: single pixels, primes, around the compiled block of 64 columns.
SIZES = [
    ((1, 1, 1, 1), (1, 1)),
    ((1, 1, 1, 1), (8, 8)),
    ((1, 3, 7, 13), (8, 16)),
    ((2, 3, 5, 63), (5, 63)),
    ((1, 2, 4, 64), (6, 64)),
    ((2, 1, 3, 65), (3, 72)),
    ((1, 3, 2, 131), (16, 144)),
]
CLAMPS = ("none", "unit", "threshold")
FILLER = np.float32(-77)


@pytest.fixture(params=[update, cpu], ids=["numpy", "compiled"])
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    if request.param is cpu and not cpu.compiled():
        pytest.skip("there was no compiler")
    return request.param


# The draw of a restore's first row.
FIRST = Draw(0, 1)


@dataclass
class Buffers:
    """The arrays of a step, dense and apart; `packed` is full of a filler that no step may touch outside its part."""

    x: F32
    mu: F32
    output: F32
    q1: F32
    q2: F32
    q3: F32
    kept: F32
    packed: F32

    @classmethod
    def make(cls, shape: tuple[int, int, int, int], padded: tuple[int, int], seed: int = 0) -> Buffers:
        random = np.random.default_rng(seed)
        count, channels = shape[:2]
        x, mu, q1, q2, q3 = (random.normal(0.5, 0.8, shape).astype(np.float32) for _ in range(5))
        # Padding of the output holds anything, and so does what is only written.
        output = np.full((count, channels, *padded), np.nan, np.float32)
        output[:, :, : shape[2], : shape[3]] = random.normal(0, 1, shape)
        kept = np.full(shape, np.nan, np.float32)
        return cls(x, mu, output, q1, q2, q3, kept, np.full((count, 2 * channels, *padded), FILLER))

    def copy(self) -> Buffers:
        return Buffers(*(array.copy() for array in vars(self).values()))

    def seen(self) -> F32:
        """What of the output lies inside the picture."""
        return self.output[:, :, : self.x.shape[2], : self.x.shape[3]]

    def step(self, kernel: ModuleType, row: Row, clamp: str = "none", draw: Draw = FIRST, packs: bool = True) -> None:
        history, packed = (self.q1, self.q2, self.q3), self.packed if packs else None
        kernel.step(self.x, self.mu, self.output, history, self.kept, row, clamp, draw, packed)


def expected_step(b: Buffers, row: Row, clamp: str, z: Any) -> tuple[Any, Any]:
    """q0 and x' from the formula in kernels/row.py, in float64."""
    x, mu, f, q1, q2, q3 = (array.astype(np.float64) for array in (b.x, b.mu, b.seen(), b.q1, b.q2, b.q3))
    q0 = row.cx * x + row.cm * mu + row.cf * f
    if clamp == "unit":
        q0 = np.minimum(np.maximum(q0, 0), 1)
    elif clamp == "threshold":
        for picture in q0:
            bound = min(max(np.quantile(np.abs(picture), 0.995), 1), 1.5)
            picture[...] = np.minimum(np.maximum(picture, -bound), bound) / bound
    q0 = (1 - row.m) * q0 + row.m * q1
    return q0, row.ax * x + row.am * mu + row.b0 * q0 + row.b1 * q1 + row.b2 * q2 + row.b3 * q3 + row.n * z


@together("clamp", CLAMPS)
@together("row", ROWS.values(), ids=ROWS)
@together(("shape", "padded"), SIZES, ids=str)
def test_step_is_its_formula(kernel: ModuleType, shape: Any, padded: Any, row: Row, clamp: str) -> None:
    b = Buffers.make(shape, padded)
    z = normal(5, 3, shape, origin=(2, 9), image=4)
    q0, x = expected_step(b, row, clamp, z)
    before = b.copy()
    b.step(kernel, row, clamp, Draw(5, 3, (2, 9), 4))
    np.testing.assert_allclose(b.x, x, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(b.kept, q0, rtol=2e-6, atol=2e-6)
    # The difference of the very numbers that are kept, in the first half; nothing elsewhere.
    _, channels, height, width = shape
    np.testing.assert_array_equal(b.packed[:, :channels, :height, :width], b.x - b.mu)
    b.packed[:, :channels, :height, :width] = FILLER
    np.testing.assert_array_equal(b.packed, before.packed)
    for name in ("mu", "output", "q1", "q2", "q3"):
        np.testing.assert_array_equal(getattr(b, name), getattr(before, name))


def test_step_after_the_last_packs_nothing(kernel: ModuleType) -> None:
    b = Buffers.make((2, 3, 5, 7), (8, 8))
    other = b.copy()
    b.step(kernel, ROWS["all"])
    other.step(kernel, ROWS["all"], packs=False)
    np.testing.assert_array_equal(other.packed, FILLER)
    np.testing.assert_array_equal(other.x, b.x)
    np.testing.assert_array_equal(other.kept, b.kept)


@together("shape", [(2, 3, 5, 7), (1, 3, 3, 131)], ids=str)
@together("name", [name for name in ROWS if name not in ("order 4", "all")])
def test_history_without_weight_is_not_read(kernel: ModuleType, name: str, shape: Any) -> None:
    """The first steps of a restore find the last restore's predictions, or nothing yet, in q1 to q3."""
    row = ROWS[name]
    clean = Buffers.make(shape, (8, 136))
    poisoned = clean.copy()
    unread = {"q1": not row.b1 and not row.m, "q2": not row.b2, "q3": not row.b3}
    for field in (name for name, poison in unread.items() if poison):
        getattr(poisoned, field)[:] = np.nan
    for b in (clean, poisoned):
        b.step(kernel, row)
    for field in ("x", "kept", "packed"):
        np.testing.assert_array_equal(getattr(poisoned, field), getattr(clean, field))
    assert np.isfinite(poisoned.x).all()
    assert any(unread.values())


def test_a_weight_that_float32_cannot_tell_from_0_reads_nothing(kernel: ModuleType) -> None:
    clean = Buffers.make((1, 3, 5, 7), (8, 8))
    poisoned = clean.copy()
    for array in (poisoned.q1, poisoned.q2, poisoned.q3):
        array[:] = np.nan
    clean.step(kernel, ROWS["order 1"])
    poisoned.step(kernel, ROWS["order 1"]._replace(b1=1e-60, b2=-1e-60, b3=1e-60, n=1e-60, m=1e-60))
    np.testing.assert_array_equal(poisoned.x, clean.x)
    np.testing.assert_array_equal(poisoned.kept, clean.kept)


SHARED = [names for count in (1, 2, 3) for names in itertools.combinations(("q1", "q2", "q3"), count)]


@together("clamp", CLAMPS)
@together("with_kept", [True, False], ids=["and kept", "apart from kept"])
@together("names", SHARED, ids="-".join)
def test_predictions_may_share_an_array(
    kernel: ModuleType, names: tuple[str, ...], with_kept: bool, clamp: str
) -> None:
    """Whichever are one array, the result is that of as many arrays with the same numbers in them."""
    apart = Buffers.make((2, 3, 5, 67), (8, 72))
    for name in names:
        setattr(apart, name, getattr(apart, names[0]).copy())
    shared = apart.copy()
    for name in names:
        setattr(shared, name, getattr(shared, names[0]))
    if with_kept:
        shared.kept = getattr(shared, names[0])
    for b in (apart, shared):
        b.step(kernel, ROWS["all"], clamp)
    for name in ("x", "kept", "packed"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(apart, name))
    for name in {"q1", "q2", "q3"} - set(names if with_kept else ()):
        np.testing.assert_array_equal(getattr(shared, name), getattr(apart, name))


def one_pixel(kernel: ModuleType, prediction: float, older: float, clamp: str) -> float:
    """What is kept of a prediction and the one before with half the momentum; x' is the same number."""
    values = (0, 0, prediction, older, np.nan, np.nan, np.nan, np.nan)
    arrays = Buffers(*(np.full((1, 1, 1, 1), value, np.float32) for value in values))
    arrays.step(kernel, Row(0, 0, 1, 0, 0, 1, m=0.5), clamp, packs=False)
    assert arrays.x.item() == arrays.kept.item()
    return arrays.kept.item()


@together("clamp", ["unit", "threshold"])
def test_a_prediction_is_clamped_before_momentum_and_never_after(kernel: ModuleType, clamp: str) -> None:
    # Clamped to 1 first: (1 - 1) / 2. The other way round, (3 - 1) / 2 would stay 1.
    assert one_pixel(kernel, 3.0, -1.0, clamp) == 0.0
    # The mean with an older prediction out of range is out of range.
    assert one_pixel(kernel, 3.0, 5.0, clamp) == 3.0
    assert one_pixel(kernel, 3.0, 5.0, "none") == 4.0


@together("bad", [np.nan, np.inf, -np.inf], ids=str)
@together("clamp", ["unit", "threshold"])
def test_clamp_keeps_nan_and_ends_infinity(kernel: ModuleType, clamp: str, bad: float) -> None:
    """NaN must reach the check at the end of a restore; a clamp that made a number of it would hide it."""
    b = Buffers.make((1, 3, 4, 70), (4, 70))
    where = np.zeros(b.x.shape, bool)
    where[0, 1, 2, [0, 33, 66]] = True
    b.output[where] = bad
    b.step(kernel, ROWS["last"], clamp)
    lowest = 0.0 if clamp == "unit" else -1.0
    expected = bad if np.isnan(bad) else 1.0 if bad > 0 else lowest
    for array in (b.x, b.kept):
        np.testing.assert_array_equal(array[where], np.full(3, expected, np.float32))
        assert np.isfinite(array[~where]).all()


@together("clamp", CLAMPS)
@together("bad", [np.nan, np.inf, 3e38], ids=str)
def test_a_network_gone_astray_raises_and_warns_nothing(kernel: ModuleType, bad: float, clamp: str) -> None:
    """What is not finite is found once, at the end of a restore; until then it runs through."""
    b = Buffers.make((2, 3, 5, 7), (8, 8))
    b.output[0] = bad
    b.output[0, :, ::2] *= -1
    for row in (ROWS["all"]._replace(cf=-9.0), ROWS["all"]):
        b.step(kernel, row, clamp)
    # The other picture has nothing of it.
    assert np.isfinite(b.x[1]).all()
    if np.isnan(bad) or clamp == "none":
        assert not np.isfinite(b.x[0]).any()


def test_noise_of_a_window_is_that_of_the_whole(kernel: ModuleType) -> None:
    whole = Buffers.make((2, 3, 9, 77), (9, 77))
    top, left, height, width = 3, 5, 4, 70
    part = Buffers(
        *(np.ascontiguousarray(array[1:, :, top : top + height, left : left + width]) for array in vars(whole).values())
    )
    whole.step(kernel, ROWS["noise"], "none", Draw(8, 2))
    part.step(kernel, ROWS["noise"], "none", Draw(8, 2, (top, left), 1))
    np.testing.assert_array_equal(part.x, whole.x[1:, :, top : top + height, left : left + width])


@together("dtype", [np.uint8, np.float32])
@together(("shape", "padded"), SIZES, ids=str)
def test_start_is_its_formula(kernel: ModuleType, shape: Any, padded: Any, dtype: Any) -> None:
    count, channels, height, width = shape
    random = np.random.default_rng(1)
    picture = random.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    if dtype == np.float32:
        picture = random.random(picture.shape, dtype=np.float32)
    given = picture.copy()
    mu, x = (np.full(shape, np.nan, np.float32) for _ in range(2))
    packed = np.full((count, 2 * channels, *padded), FILLER)
    kernel.start(picture, 0.3, Draw(7, 0, (11, 6), 3), mu, x, packed)
    planes = given.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(mu, planes / np.float32(255) if dtype == np.uint8 else planes)
    z = normal(7, 0, shape, origin=(11, 6), image=3)
    np.testing.assert_allclose(x, mu.astype(np.float64) + 0.3 * z.astype(np.float64), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(packed[:, :channels, :height, :width], x - mu)
    np.testing.assert_array_equal(packed[:, channels:, :height, :width], mu)
    packed[:, :, :height, :width] = FILLER
    np.testing.assert_array_equal(packed, FILLER)
    np.testing.assert_array_equal(picture, given)


def test_every_byte_becomes_its_255th_and_returns(kernel: ModuleType) -> None:
    picture = np.arange(256, dtype=np.uint8).reshape(1, 4, 64, 1)
    mu, x = (np.empty((1, 1, 4, 64), np.float32) for _ in range(2))
    kernel.start(picture, 0.0, Draw(0, 0), mu, x, np.zeros((1, 2, 4, 64), np.float32))
    np.testing.assert_array_equal(mu.ravel(), np.float32(np.arange(256) / 255))
    np.testing.assert_array_equal(x, mu)
    again = np.full_like(picture, 99)
    kernel.finish(x, again)
    np.testing.assert_array_equal(again, picture)


def halves() -> F32:
    """Numbers around each multiple of 1/510, where 255 x is half: the number itself, and its neighbours."""
    exact = np.float32(np.arange(-3, 515) / 510)
    return np.concatenate([exact, np.nextafter(exact, np.float32(-9)), np.nextafter(exact, np.float32(9))])


def test_finish_rounds_halves_to_even(kernel: ModuleType) -> None:
    values = halves()
    x = values.reshape(1, 3, -1, 37)
    picture = np.full((1, *x.shape[2:], 3), 99, np.uint8)
    kernel.finish(x, picture)
    expected = np.rint(np.minimum(np.maximum(values, 0), 1) * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(picture.transpose(0, 3, 1, 2).ravel(), expected)
    products = values[(values > 0) & (values < 1)] * np.float32(255)
    tied = products[products % 1 == 0.5]
    # There are ties to break among them, of either parity below.
    assert {0.0, 1.0} == set((np.floor(tied) % 2).tolist())


@together("dtype", [np.uint8, np.float32])
def test_finish_clamps(kernel: ModuleType, dtype: Any) -> None:
    x = np.array([-np.inf, -3e38, -1, -1e-9, 0, 0.25, 1, 1.0000001, 2, 300, np.inf], np.float32)
    picture = np.full((1, 1, 11, 1), 99, dtype)
    kernel.finish(x.reshape(1, 1, 1, 11), picture)
    expected = np.array([0, 0, 0, 0, 0, 0.25, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(picture.ravel(), np.rint(expected * 255) if dtype == np.uint8 else expected)


@together("dtype", [np.uint8, np.float32])
@together("shape", [shape for shape, _ in SIZES], ids=str)
def test_finish_turns_planes_into_pixels(kernel: ModuleType, shape: Any, dtype: Any) -> None:
    x = np.random.default_rng(2).uniform(-0.1, 1.1, shape).astype(np.float32)
    given = x.copy()
    picture = np.full((shape[0], *shape[2:], shape[1]), 99, dtype)
    kernel.finish(x, picture)
    expected = np.minimum(np.maximum(given, 0), 1).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(picture, np.rint(expected * np.float32(255)) if dtype == np.uint8 else expected)
    np.testing.assert_array_equal(x, given)


def test_a_row_knows_its_history() -> None:
    assert {name: row.history for name, row in ROWS.items()} == {
        "order 1": 0, "order 2": 1, "order 3": 2, "order 4": 3, "only q2": 2, "only q3": 3, "momentum": 1,
        "noise": 0, "all": 3, "last": 0,
    }  # fmt: skip
    # Momentum beside an older weight looks no further back than that weight.
    assert Row(1, 0, 0, 0, 0, 1, b2=0.5, m=0.5).history == 2
