"""The dynamic threshold: NumPy's quantile within its bounds, picture by picture, and what a step makes of it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mrs.kernels import cpu, update
from mrs.kernels.noise import Draw
from mrs.kernels.table import Row
from tests.together import together

F32 = NDArray[np.float32]
# x' = q0, and q0 is what the network gives.
PREDICTION = Row(0, 0, 1, 0, 0, 1)
SHAPES = [(1, 1, 1, 1), (3, 1, 1, 1), (1, 1, 1, 2), (2, 3, 1, 1), (2, 1, 14, 14), (2, 3, 7, 13), (1, 3, 20, 67)]


@pytest.fixture(params=[update, cpu], ids=["numpy", "compiled"])
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    if request.param is cpu and not cpu.compiled():
        pytest.skip("there was no compiler")
    return request.param


def predictions(shape: Any, scale: float, seed: int = 0) -> F32:
    return np.random.default_rng(seed).uniform(-scale, scale, shape).astype(np.float32)


def kept_of(kernel: ModuleType, output: F32, row: Row = PREDICTION, **more: Any) -> F32:
    """What a step with the threshold keeps of these predictions."""
    x, mu, q, kept = (np.zeros(output.shape, np.float32) for _ in range(4))
    kernel.step(x, mu, output.copy(), (q, q, q), kept, row, "threshold", Draw(0, 1), None, **more)
    np.testing.assert_array_equal(x, kept)
    return kept


@together("dtype", [np.float32, np.float64])
@together("scale", [0.5, 1.25, 3.0], ids=["below 1", "between", "above 1.5"])
@together("shape", SHAPES, ids=str)
def test_it_is_the_quantile_of_absolute_values_within_1_and_1_5(shape: Any, scale: float, dtype: Any) -> None:
    q = predictions(shape, scale).astype(dtype)
    bound = update.threshold(q)
    assert (bound.shape, bound.dtype) == ((shape[0],), dtype)
    flat = np.abs(q.astype(np.float64)).reshape(shape[0], -1)
    quantile = np.quantile(flat, 0.995, axis=1, method="linear")
    np.testing.assert_allclose(bound, np.clip(quantile, 1.0, 1.5), rtol=np.finfo(dtype).eps)
    if flat.shape[1] > 100:
        # The scales reach every branch of the rule.
        assert ((quantile < 1) == (scale == 0.5)).all()
        assert ((quantile > 1.5) == (scale == 3.0)).all()


@together(
    ("values", "bound"),
    [
        # Of 3 values the rank is 1.99, of 201 exactly 199: the last but one.
        ([0.0, 1.4, -1.0], 1.0 + 0.99 * 0.4),
        ([*np.linspace(0, 1, 199), -1.25, 9.0], 1.25),
        ([1.2], 1.2),
        ([-1.2, 1.2], 1.2),
        ([0.0, 0.0], 1.0),
        ([1.5, 1.5, 1.5000001], 1.5),
    ],
    ids=range(6),
)
def test_examples_by_hand(values: list[float], bound: float) -> None:
    q = np.array(values, np.float64).reshape(1, 1, 1, -1)
    assert update.threshold(q).item() == pytest.approx(bound, rel=1e-12)
    # In any order.
    assert update.threshold(q[..., ::-1]).item() == update.threshold(q).item()


@together(
    ("value", "kept"),
    [(0.3, 0.3), (-0.3, -0.3), (0.0, 0.0), (1.0, 1.0), (1.25, 1.0), (-1.25, -1.0), (1.5, 1.0), (40.0, 1.0), (-2.0, -1)],
)
@together("shape", [(1, 1, 1, 1), (1, 3, 5, 70)], ids=["one pixel", "all equal"])
def test_pictures_of_one_value(kernel: ModuleType, shape: Any, value: float, kept: float) -> None:
    result = kept_of(kernel, np.full(shape, value, np.float32))
    np.testing.assert_array_equal(result, np.full(shape, kept, np.float32))


@together("scale", [0.5, 1.25, 3.0], ids=["below 1", "between", "above 1.5"])
@together("shape", SHAPES, ids=str)
def test_a_step_clamps_to_the_threshold_and_divides_by_it(kernel: ModuleType, shape: Any, scale: float) -> None:
    """As published, written down pixel by pixel."""
    q = predictions(shape, scale)
    kept = kept_of(kernel, q)
    for picture, result in zip(q, kept, strict=True):
        b = min(max(float(np.quantile(np.abs(picture.astype(np.float64)), 0.995)), 1.0), 1.5)
        expected = [max(-b, min(b, value)) / b for value in picture.ravel().tolist()]
        np.testing.assert_allclose(result.ravel(), expected, rtol=3e-7)


def test_each_picture_of_a_batch_has_its_own(kernel: ModuleType) -> None:
    batch = np.concatenate([predictions((1, 3, 9, 70), scale, seed) for seed, scale in enumerate((3.0, 1.25, 0.5))])
    assert len(set(update.threshold(batch).tolist())) == 3
    kept = kept_of(kernel, batch)
    for picture, result in zip(batch, kept, strict=True):
        np.testing.assert_array_equal(result, kept_of(kernel, picture[None])[0])
    # Not that of the last picture, nor of all of them together.
    assert np.abs(batch[0]).max() > 1.5
    np.testing.assert_array_equal(kept[2], batch[2])


def test_the_padding_of_the_network_does_not_count(kernel: ModuleType) -> None:
    q = predictions((2, 3, 5, 7), 1.25)
    output = np.full((2, 3, 8, 8), 100, np.float32)
    output[:, :, :5, :7] = q
    x, mu, older, kept = (np.zeros(q.shape, np.float32) for _ in range(4))
    kernel.step(x, mu, output, (older,) * 3, kept, PREDICTION, "threshold", Draw(0, 1), None)
    np.testing.assert_array_equal(kept, kept_of(kernel, q))


def test_it_is_of_the_prediction_not_of_the_networks_output(kernel: ModuleType) -> None:
    q = predictions((1, 3, 7, 13), 3.0)
    # A tenth of the output, whose own threshold is 1.5; the prediction's is 1, and within it nothing changes.
    np.testing.assert_array_equal(kept_of(kernel, q, PREDICTION._replace(cf=0.1)), q * np.float32(0.1))


@pytest.mark.skipif(not cpu.compiled(), reason="there was no compiler")
@given(
    q=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=4, max_dims=4, max_side=9),
        elements=st.floats(-4, 4, width=32, allow_subnormal=False),
    ),
    threads=st.sampled_from([1, 3]),
)
def test_the_compiled_form_gives_the_same_bits(q: F32, threads: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cpu, "SPLIT_FROM", 1)
        ours = kept_of(cpu, q, threads=threads)
    assert ours.tobytes() == kept_of(update, q).tobytes()
    assert np.abs(ours).max() <= 1


# What is not finite


@together("share", [0.001, 0.5, 1.0], ids=["few", "half", "all"])
def test_nan_stays_and_raises_nothing(kernel: ModuleType, share: float) -> None:
    """The chain looks for NaN once, at the end."""
    q = predictions((2, 1, 40, 50), 1.25)
    where = np.arange(q[0].size).reshape(q[0].shape) < share * q[0].size
    q[0][where] = np.nan
    bounds = update.threshold(q)
    assert np.isnan(bounds[0]) == (share > 0.005)
    kept = kept_of(kernel, q)
    assert np.isnan(kept[0][where]).all()
    np.testing.assert_array_equal(kept[1], kept_of(kernel, q[1:])[0])


@together("count", [1, 12, 2000])
def test_infinity_is_a_large_number(kernel: ModuleType, count: int) -> None:
    q = predictions((1, 1, 40, 50), 0.1)
    q.ravel()[:count] = np.inf
    q.ravel()[1:count:2] = -np.inf
    # One value of 2000 is beyond the quantile, twelve reach it.
    bound = 1.0 if count == 1 else 1.5
    assert update.threshold(q).item() == bound
    np.testing.assert_array_equal(kept_of(kernel, q), np.clip(q, -bound, bound) / np.float32(bound))


@together("shape", [(1, 3, 0, 5), (0, 3, 4, 5), (2, 0, 4, 5)], ids=str)
def test_pictures_without_pixels(kernel: ModuleType, shape: Any) -> None:
    assert kept_of(kernel, np.zeros(shape, np.float32)).shape == shape
    np.testing.assert_array_equal(update.threshold(np.zeros(shape)), np.ones(shape[0]))
