"""The dynamic threshold of each picture, to the bit: a quantile read off two histograms is that of sorted numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mrs.kernels import gpu, update
from mrs.kernels.table import Row, Table

pytestmark = pytest.mark.slow(16)

# q0 is what the network gives.
PREDICTION = Row(0.0, 0.0, 1.0, 0.0, 0.0, 1.0)
MIXED = Row(2.9, -1.2, -0.7, 0.8, -0.3, 0.5)
PATHS = {"planes": {"channels": 1}, "pixels": {"channels_last": True}}


def of(restore: Any, values: Any, **more: Any) -> Any:
    """A restore in which the network gives (N, C, H, W) values."""
    images, channels, *size = values.shape
    made = restore(
        [PREDICTION], images=images, channels=channels, size=tuple(size), clamp="threshold",
        outputs=iter([values]), **more,
    )  # fmt: skip
    made.fill()
    return made


def bounds_of(restore: Any, values: Any, path: str = "planes", **more: Any) -> Any:
    """The threshold of each picture, equal to the reference's; of any number of values, three channels for pixels."""
    values = np.asarray(values, np.float32)
    if path == "pixels":
        # A line of pixels, padded to a whole group.
        assert values.size % 3 == 0
        values = values.reshape(1, 3, 1, -1)
        more = {"padded": (1, -(-values.shape[3] // 4) * 4), "channels_last": True, **more}
    elif values.ndim == 1:
        values = values.reshape(1, 1, 1, -1)
    made = of(restore, values, **more)
    assert made.launch("threshold").name == f"count_{path}"
    made.threshold(0)
    bounds = made.bounds.cpu().numpy()
    np.testing.assert_array_equal(bounds, update.threshold(np.asarray(values, np.float32)))
    return bounds


def mixed(count: int, *, below: int = 0, above: int = 0, seed: int = 0) -> Any:
    """Numbers in [1, 1.5) of both signs, save some below 1 and some from 1.5 on, in any order."""
    random = np.random.default_rng(seed)
    values = random.uniform(1, 1.5, count)
    values[:below] = random.uniform(0, 1, below)
    values[count - above :] = random.uniform(1.5, 9, above)
    return np.float32(random.permutation(values * random.choice([-1, 1], count)))


# How many of 1200 are below 1 and from 1.5 on; the ranks are 1193 and 1194, of which the quantile lies at 0.005.
SPLITS = {
    "all between": (0, 0),
    "all below": (1200, 0),
    "all above": (0, 1200),
    "both ranks between": (1193, 0),
    "the ranks are the last below and the first between": (1194, 0),
    "the last below and the first above": (1194, 6),
    "the last between and the first above": (0, 6),
    "both just below": (1195, 0),
    "both just above": (0, 7),
    "one between, the low rank": (1193, 6),
    "one between, the high rank": (1194, 5),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", SPLITS)
def test_wherever_the_ranks_lie(restore: Any, name: str, path: str) -> None:
    below, above = SPLITS[name]
    values = mixed(1200, below=below, above=above)
    if path == "planes":
        values = values.reshape(1, 1, 30, 40)
    bounds_of(restore, values, path)


@pytest.mark.parametrize("count", [1, 2, 3, 200, 201, 202])
def test_any_number_of_values(restore: Any, count: int) -> None:
    """Of 201 the rank is a whole number."""
    bounds_of(restore, mixed(count, seed=count))


@pytest.mark.parametrize("count", [3, 198, 201, 204])
def test_any_number_of_pixels(restore: Any, count: int) -> None:
    bounds_of(restore, mixed(count, seed=count), "pixels")


def test_a_quantile_that_interpolation_pulls_below_1_is_1(restore: Any) -> None:
    # Of three numbers the rank is 1.99.
    assert bounds_of(restore, [0.0, 0.5, 1.001]) == 1.0
    assert bounds_of(restore, [0.0, 0.5, 1.2]) > 1.19
    assert bounds_of(restore, [0.0, 1.2, 1e30]) == 1.5


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "value",
    [0.0, -0.0, 0.25, np.nextafter(1, 0), 1.0, -1.0, np.nextafter(1, 2), 1.25, np.nextafter(1.5, 0), -1.5, 40, np.inf],
    ids=str,
)
def test_pictures_of_one_value(restore: Any, value: float, path: str) -> None:
    bound = bounds_of(restore, np.full(600, value, np.float32), path)
    assert bound == min(max(np.float32(abs(value)), 1.0), 1.5)


@pytest.mark.parametrize("path", PATHS)
def test_ties_at_the_rank(restore: Any, path: str) -> None:
    """The same number at and around both ranks, and neighbours that differ in the last bit alone."""
    values = np.full(600, 0.5, np.float32)
    values[:9] = 1.25
    assert bounds_of(restore, values, path) == 1.25
    values[:9] = np.float32(1.25) + np.float32(2**-23) * np.arange(9)
    bounds_of(restore, values, path)
    # In neighbouring bins, of the coarse and of the fine histogram.
    for edge in (1 + 2**-12, 1 + 2**-1 - 2**-12, 1.25):
        values[:9] = np.float32(edge) + np.float32(2**-23) * np.arange(-5, 4)
        bounds_of(restore, values, path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("count", [1, 3, 4, 300, 600])
def test_infinity_is_a_large_number(restore: Any, count: int, path: str) -> None:
    values = mixed(600, below=600)
    values[:count] = np.inf
    values[1:count:2] = -np.inf
    assert bounds_of(restore, values, path) == (1.0 if count < 3 else 1.5)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 300, 600])
def test_nan_counts_as_the_largest_number(restore: Any, count: int, path: str) -> None:
    """The ranks of 600 are 596 and 597."""
    values = mixed(600)
    values[::-1][:count] = np.nan
    assert np.isnan(bounds_of(restore, values, path)) == (count > 2)


def test_nan_of_any_bits_counts(restore: Any) -> None:
    values = mixed(600)
    values[:4] = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFC00000], np.uint32).view(np.float32)
    made = of(restore, values.reshape(1, 1, 20, 30))
    made.threshold(0)
    assert made.bounds.isnan().all()


@pytest.mark.parametrize(
    ("dtype", "channels_last", "size"),
    [("float32", False, (7, 13)), ("float16", False, (5, 16)), ("bfloat16", True, (7, 13)), ("float16", True, (5, 16))],
)
def test_each_picture_has_its_own_and_padding_has_none(
    restore: Any, dtype: str, channels_last: bool, size: Any
) -> None:
    made = restore(
        [MIXED], images=3, size=size, padded=(9, 16), clamp="threshold", dtype=dtype, channels_last=channels_last
    )
    made.fill()
    for array in (made.x, made.output):
        array *= torch.tensor([0.1, 0.2, 3.0], device=array.device).view(3, 1, 1, 1).to(array.dtype)
    made.mu *= 0.1
    # The padding of the state is zero; were it anything else, it would not count either.
    for array in (made.x, made.mu):
        inner = made.inside(array).clone()
        array.fill_(1.3)
        made.inside(array).copy_(inner)
    assert made.launch("threshold").name == ("count_pixels" if channels_last else "count_planes")
    for _ in range(2):
        # The counts are as they were, and the second time gives the same.
        made.bounds.fill_(float("nan"))
        made.threshold(0)
    bounds = made.bounds.tolist()
    assert bounds[0] == 1.0
    assert 1.0 < bounds[1] < 1.5
    assert bounds[2] == 1.5


def test_one_picture_after_another(restore: Any) -> None:
    """What one leaves behind changes nothing for the next."""
    made = of(restore, mixed(600).reshape(1, 1, 20, 30))
    for seed, below, above in ((1, 0, 0), (2, 600, 0), (3, 0, 600), (4, 597, 3), (5, 10, 1)):
        values = mixed(600, below=below, above=above, seed=seed).reshape(1, 1, 20, 30)
        made.output.copy_(torch.from_numpy(values))
        made.threshold(0)


@pytest.mark.parametrize("shift", [4, 16])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_memory_that_begins_anywhere(restore: Any, dtype: str, shift: int) -> None:
    values = mixed(3 * 4 * 16, below=150).reshape(1, 3, 4, 16)
    made = of(restore, values, dtype=dtype, channels_last=True, shift=shift)
    assert made.launch("threshold").name == ("count_pixels" if shift == 16 else "count_planes")
    made.threshold(0)


def test_several_blocks_are_counted_together(restore: Any) -> None:
    """A block of planes has 512 elements, one of pixels 512 pixels."""
    values = mixed(2 * 41 * 16, below=1290).reshape(1, 2, 41, 16)
    bounds_of(restore, values)
    values = mixed(3 * 41 * 16, below=1940).reshape(1, 3, 41, 16)
    made = of(restore, values, channels_last=True)
    assert made.launch("threshold").grid == (2, 1)
    made.threshold(0)


@pytest.mark.parametrize("seed", range(20))
def test_any_pictures(restore: Any, seed: int) -> None:
    """Of many ties, near the edges of the range, with infinities and NaN."""
    random = np.random.default_rng(seed)
    values = random.uniform(-1, 1, random.integers(1, 700))
    # As many as lie around the ranks, or fewer.
    count = min(values.size, 1 + values.size // random.integers(60, 250))
    near = random.choice([1.0, 1.25, 1.5]) + random.normal(0, 0.05, 5)
    values[:count] = random.choice([*near, 1.0, 1.5, -3.0, np.inf, np.nan], count, p=[0.16] * 5 + [0.04] * 5)
    bounds_of(restore, random.permutation(values))


@pytest.mark.parametrize(("clamp", "finite"), [("none", True), ("unit", True), ("threshold", False)])
def test_a_threshold_that_is_missing_is_nan(device: str, clamp: str, finite: bool) -> None:
    """Which a restore finds at its end."""
    row = Row(0.5, 0.25, 0.25, 0.5, 0.25, 0.25)
    records = torch.from_numpy(gpu.records(Table((2.0, 1.0, 0.0), (row, row), 0.2, clamp))).to(device)
    key = torch.from_numpy(gpu.key(0)).to(device)
    x, mu, output = (torch.rand(1, 3, 8, 8).to(device) for _ in range(3))
    packed = torch.empty(1, 6, 8, 8, device=device)
    gpu.step(x, mu, output, torch.empty(0, 1, 3, 8, 8, device=device), packed, records, key, None, 0, (8, 8))
    assert np.isfinite(x.cpu().numpy()).all() == finite
