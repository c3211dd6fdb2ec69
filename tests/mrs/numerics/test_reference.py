"""The reference loop: what it calls, keeps, draws and refuses; and the kernels' steps are its steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrs.kernels import update
from mrs.kernels.noise import Draw, normal
from mrs.kernels.table import CLAMPS, Row, Table
from mrs.numerics.reference import sample
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError
from tests.together import together

SHAPE = (2, 3, 5, 7)
METHODS = (
    ("ode", 1), ("ode", 2), ("ode", 3), ("sde", 1), ("sde", 2), ("posterior", 1), ("unipc-b2", 3), ("ipndm", 4),
    ("ghvb", 3), ("sa", 2), ("heun", 2), ("euler-sde", 1), ("sde-2m", 2),
)  # fmt: skip


def pictures(dtype: Any = np.float64) -> Any:
    return np.random.default_rng(0).random(SHAPE).astype(dtype)


def network(x: Any, mu: Any, t: float) -> Any:
    """Any function that keeps the precision of its arguments."""
    return np.sin(x + x.dtype.type(t)) * x.dtype.type(0.3) + mu * mu


def table(method: str = "ode", order: int = 2, steps: int = 5, convention: str = "mr-sampler", **more: Any) -> Table:
    option = {"ghvb": {"momentum": 0.3}, "sa": {"stochasticity": 0.7}}.get(method, {})
    return tableau(Schedule(convention=convention), Solver(method, order, steps=steps, **option, **more))


@together("dtype", [np.float32, np.float64])
@together(("method", "order"), METHODS)
def test_precision_is_kept_throughout(method: str, order: int, dtype: Any) -> None:
    seen = set()

    def spy(x: Any, mu: Any, t: float) -> Any:
        seen.update((x.dtype, mu.dtype))
        # A network may answer in another precision.
        return network(x, mu, t).astype(np.float64)

    given = table(method, order, clamp="unit")
    # Noise too may come in any precision.
    noise = np.random.default_rng(1).standard_normal((5, *SHAPE))
    for more in ({}, {"noise": noise, "init_noise": noise[0]}):
        result = sample(spy, pictures(dtype), given, **more)
        assert result.dtype == dtype
        assert result.shape == SHAPE
    assert seen == {np.dtype(dtype)}


def test_float32_is_float64_to_its_precision() -> None:
    low, high = (
        sample(network, pictures(np.float32).astype(dtype), table("sde")) for dtype in (np.float32, np.float64)
    )
    # The first prediction divides by a_T = 1/200.
    np.testing.assert_allclose(low, high, rtol=0, atol=200 * 1e-6)


@together("steps", [1, 2, 9])
def test_one_call_per_row_at_its_time(steps: int) -> None:
    times = []

    def spy(x: Any, mu: Any, t: float) -> Any:
        assert type(t) is float
        times.append(t)
        np.testing.assert_array_equal(mu, pictures())
        return network(x, mu, t)

    given = table(steps=steps)
    sample(spy, pictures(), given)
    assert tuple(times) == given.times[:-1]
    assert len(times) == steps


def test_the_first_state_is_mu_and_noise() -> None:
    states = []

    def spy(x: Any, mu: Any, t: float) -> Any:
        states.append(x.copy())
        return network(x, mu, t)

    z = np.random.default_rng(3).standard_normal(SHAPE)
    sample(spy, pictures(), table(), init_noise=z)
    np.testing.assert_allclose(states[0], pictures() + 50 / 255 * z, rtol=1e-15)


def test_rows_by_hand() -> None:
    """Rows with all weights, worked out beside the loop."""
    rows = (
        Row(0.5, 0.25, 2.0, 0.5, 0.25, 0.125, n=3.0),
        Row(1.0, 0.0, 1.0, 1.0, 0.0, 1.0, b1=10.0),
        Row(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, b1=1.0, b2=100.0, n=1.0),
    )
    mu = np.full((1, 1, 1, 1), 4.0)
    result = sample(
        lambda x, mu, t: t * np.ones_like(x),
        mu,
        Table((30.0, 20.0, 10.0, 0.0), rows, 0.5, "none"),
        noise=[np.full_like(mu, value) for value in (1, 7, 5)],
        init_noise=np.full_like(mu, 2.0),
        clamp=False,
    )
    # x_T = 4 + 0.5 * 2 = 5
    # q = 2.5 + 1 + 60 = 63.5; x = 2.5 + 1 + 63.5 / 8 + 3 * 1 = 14.4375
    # q' = 14.4375 + 20 = 34.4375; x = 14.4375 + 34.4375 + 635 = 683.875, without the noise that has no weight
    # x = 34.4375 + 6350 + 5
    assert result.item() == 34.4375 + 6350 + 5


def run(rows: tuple[Row, ...], outputs: tuple[Any, ...], clamp: str = "none", mu: Any = None) -> Any:
    """The last state of rows that are given the network's outputs, from a start at mu itself."""
    mu = np.zeros((1, 1, 1, 1)) if mu is None else mu
    times = tuple(float(len(rows) - i) for i in range(len(rows) + 1))
    said = dict(zip(times, outputs, strict=False))
    made = Table(times, rows, 0.0, clamp)
    return sample(lambda x, mu, t: np.ones_like(x) * said[t], mu, made, clamp=False)


def test_three_older_predictions_are_kept() -> None:
    """The output is the prediction; every row but the last keeps it alone, and the last reads each at its weight."""
    keep = Row(0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    last = Row(0.0, 0.0, 1.0, 0.0, 0.0, 1.0, b1=10.0, b2=100.0, b3=1000.0)
    assert run((keep, keep, keep, keep, last), (9, 4, 3, 2, 1)).item() == 4321
    # What is not there yet counts as 0.
    assert run((keep, last), (2, 1)).item() == 21
    assert run((last,), (1,)).item() == 1


def test_an_averaged_prediction_is_used_and_kept() -> None:
    """v0 = q0 + m (v1 - q0), from the second prediction on, and older ones are averages too."""
    first = Row(0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    average = first._replace(m=0.25)
    assert run((first, average._replace(b0=1.0)), (8, 4)).item() == 4 + 0.25 * (8 - 4)
    # 8; 5 = 4 + (8 - 4) / 4; 2.75 = 2 + (5 - 2) / 4.
    rows = (first, average, average._replace(b0=1.0, b1=10.0, b2=100.0))
    assert run(rows, (8, 4, 2)).item() == 2.75 + 50 + 800


def test_clamps_come_before_the_average() -> None:
    """1 for 8 and 1/2: the average lies within the pictures' range because its parts do."""
    first = Row(0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    rows = (first, first._replace(b0=1.0, m=0.25))
    assert run(rows, (8, 0.5), "unit").item() == 0.5 + 0.25 * (1 - 0.5)
    assert run(rows, (8, 0.5), "threshold").item() == 0.5 + 0.25 * (1 - 0.5)


@together("far", [0.7, 1.25, -1.25, 4.0], ids=["within the range", "above it", "below it", "beyond the largest bound"])
def test_the_published_threshold(far: float) -> None:
    """Clamped to +-b and divided by b; b is the 0.995 quantile of |q| in each picture alone, within 1 and 1.5."""
    mu = np.zeros((2, 1, 20, 20))
    said = np.full(mu.shape, 0.5)
    # Of 400 values the largest two are 9, the next three `far`; the quantile is 0.005 of the way from rank 397 to 398.
    said[0, 0, 0, :5] = 9.0, -9.0, far, far, far
    result = run((Row(0.0, 0.0, 1.0, 0.0, 0.0, 1.0),), (said,), "threshold", mu)
    bound = min(max(abs(far) + 0.005 * (9 - abs(far)), 1.0), 1.5)
    np.testing.assert_allclose(result[0], np.clip(said[0], -bound, bound) / bound, rtol=1e-12)
    # The other picture has nothing that is far, and is left as it is.
    np.testing.assert_array_equal(result[1], said[1])


def test_clamps() -> None:
    """Of the result always but when told not to, of the predictions where the table says so."""

    def far(x: Any, mu: Any, t: float) -> Any:
        return np.where(mu > 0.5, 7.0, -7.0)

    schedule = Schedule()
    free, unit = (tableau(schedule, Solver(steps=3, clamp=clamp), "data") for clamp in ("none", "unit"))
    wild = sample(far, pictures(), free, clamp=False)
    assert wild.max() > 5
    assert wild.min() < -5
    np.testing.assert_array_equal(sample(far, pictures(), free), np.clip(wild, 0, 1))
    tame = sample(far, pictures(), unit, clamp=False)
    # Made of predictions within [0, 1] and a last 0.2 % of noise.
    assert tame.max() < 1.02
    assert tame.min() > -0.02
    np.testing.assert_allclose(tame, pictures() > 0.5, atol=0.02)


def test_nan_is_not_hidden_by_clamps() -> None:
    def broken(x: Any, mu: Any, t: float) -> Any:
        output = network(x, mu, t)
        output[0, 1, 2, 3] = np.nan
        return output

    result = sample(broken, pictures(), table(clamp="unit"))
    assert np.isnan(result[0, 1, 2, 3])
    assert np.isnan(result).sum() == 1


@together(("method", "order"), METHODS)
def test_a_seed_is_its_draws(method: str, order: int) -> None:
    given = table(method, order)
    by_seed = sample(network, pictures(), given, seed=12)
    np.testing.assert_array_equal(by_seed, sample(network, pictures(), given, seed=12))
    assert not np.array_equal(by_seed, sample(network, pictures(), given, seed=13))
    # Draw 0 is x_T's, draw i + 1 row i's.
    draws = [normal(12, draw, SHAPE) for draw in range(6)]
    np.testing.assert_array_equal(by_seed, sample(network, pictures(), given, draws[1:], draws[0]))
    np.testing.assert_array_equal(by_seed, sample(network, pictures(), given, np.stack(draws[1:]), seed=12))
    np.testing.assert_array_equal(by_seed, sample(network, pictures(), given, init_noise=draws[0], seed=12))


def test_the_first_picture_of_a_batch_is_the_picture_alone() -> None:
    given = table("sde")
    together = sample(network, pictures(), given, seed=4)
    np.testing.assert_array_equal(sample(network, pictures()[:1], given, seed=4), together[:1])


@together("clamp", CLAMPS)
@together(("method", "order"), METHODS)
def test_kernels_give_the_same_bits(method: str, order: int, clamp: str) -> None:
    """A chain of start, steps and finish on float32 is the loop on float32, to the last bit."""
    given = table(method, order, clamp=clamp, convention="ir-sde")
    shape = SHAPE
    picture = np.random.default_rng(0).random((shape[0], *shape[2:], shape[1]), dtype=np.float32)
    # What a row reads before it is written would be NaN.
    mu, x, kept, *latest = (np.full(shape, np.nan, np.float32) for _ in range(6))
    known = (latest[0], latest[1], latest[2])
    packed = np.zeros((shape[0], 2 * shape[1], 8, 8), np.float32)
    output = np.full((*shape[:2], 8, 8), np.nan, np.float32)
    update.start(picture, given.start, Draw(6, 0), mu, x, packed)
    for i, row in enumerate(given.rows):
        seen = packed[:, :, : shape[2], : shape[3]]
        np.testing.assert_array_equal(seen, np.concatenate([x - mu, mu], axis=1))
        output[:, :, : shape[2], : shape[3]] = network(x, mu, given.times[i])
        update.step(x, mu, output, known, kept, row, given.clamp, Draw(6, i + 1), packed)
        known, kept = (kept, *known[:2]), known[2]
    planes = np.ascontiguousarray(picture.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(x, sample(network, planes, given, seed=6, clamp=False))


@together(
    ("mu", "named"),
    [
        (np.zeros((3, 5, 7)), "float64(3, 5, 7)"),
        (np.zeros((1, 2, 3, 5, 7)), "float64(1, 2, 3, 5, 7)"),
        (np.zeros(SHAPE, np.uint8), "uint8(2, 3, 5, 7)"),
        (np.zeros(SHAPE, np.float16), "float16"),
        (np.zeros(SHAPE, np.complex64), "complex64"),
        (0.5, "float64()"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_pictures_are_refused(mu: Any, named: str) -> None:
    with pytest.raises(InputError, match=r"^mu is .*give \(N, C, H, W\) float32 or float64") as caught:
        sample(network, mu, table())
    assert named in str(caught.value)


@together("shape", [(1, 3, 5, 7), (2, 3, 7, 5), (3, 5, 7), (), (2, 3, 5, 1)], ids=str)
def test_what_does_not_fit_the_pictures_is_refused(shape: tuple[int, ...]) -> None:
    """Broadcasting would accept some of these, and give one noise to all pictures."""
    wrong = np.zeros(shape)
    good = [np.zeros(SHAPE)] * 5
    for more, named in (({"init_noise": wrong}, "init_noise"), ({"noise": [*good[:3], wrong, wrong]}, r"noise\[3\]")):
        with pytest.raises(InputError, match=named) as caught:
            sample(network, pictures(), table("sde"), **more)
        assert str(shape) in str(caught.value)
        assert str(SHAPE) in str(caught.value)
    with pytest.raises(InputError, match="the denoiser's output"):
        sample(lambda x, mu, t: wrong, pictures(), table())


def never(x: Any, mu: Any, t: float) -> Any:
    raise AssertionError("the denoiser was called")


@together("convention", ["mr-sampler", "ir-sde"])
def test_too_little_noise_is_refused_before_any_work(convention: str) -> None:
    given = table("sde", convention=convention)
    # With s_0 = 0 the last of 5 rows has no noise.
    needed = 4 if convention == "ir-sde" else 5
    noise = np.zeros((needed, *SHAPE))
    sample(network, pictures(), given, noise=noise)
    for too_few in (noise[:-1], list(noise[:-1]), []):
        with pytest.raises(InputError, match=f"noise has {len(too_few)} draws, the table needs {needed}"):
            sample(never, pictures(), given, noise=too_few)
    # A deterministic table needs none.
    sample(network, pictures(), table("ode", convention=convention), noise=[])


@together("seed", [-1, 2**32, 2**40])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(InputError, match=f"seed {seed} is outside"):
        sample(never, pictures(), table(), seed=seed)


def test_inputs_are_left_alone() -> None:
    mu, noise = pictures(), np.random.default_rng(1).standard_normal((6, *SHAPE))
    copies = mu.copy(), noise.copy()
    for array in (mu, noise):
        array.flags.writeable = False
    sample(network, mu, table("sde", clamp="unit"), noise=noise[1:], init_noise=noise[0])
    np.testing.assert_array_equal(mu, copies[0])
    np.testing.assert_array_equal(noise, copies[1])
