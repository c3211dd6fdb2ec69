"""Pictures are enlarged as torch enlarges them, and whatever is restored, tiled, lent or warmed up is the large one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mrs.runtime.enlarging import enlarged, enlarged_levels, enlarged_shape
from mrs.runtime.errors import InputError
from mrs.runtime.session import Restorer
from tests.runtime.restores import by_reference, bytes_of, changed

pytestmark = pytest.mark.usefixtures("one_thread")


def by_torch(pictures: NDArray[Any], factor: int, dtype: torch.dtype = torch.float32) -> NDArray[Any]:
    planes = torch.from_numpy(pictures).to(dtype).permute(0, 3, 1, 2)
    if pictures.dtype == np.uint8:
        planes = planes / 255
    large = F.interpolate(planes, scale_factor=factor, mode="bicubic", align_corners=False)
    return large.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 2, 33, 3), (2, 17, 3, 3), (1, 5, 7, 1)], ids=str)
def test_as_torch_enlarges(shape: tuple[int, ...], factor: int, kind: str) -> None:
    levels = bytes_of(shape)
    pictures = levels if kind == "uint8" else levels / np.float32(255)
    ours = enlarged(pictures, factor)
    assert (ours.dtype, ours.shape) == (np.float32, enlarged_shape(shape, factor))
    np.testing.assert_allclose(ours, by_torch(pictures, factor), rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [3, 5])
def test_a_factor_that_is_no_power_of_two(factor: int) -> None:
    """There torch's places are rounded in float32: what it means is what it computes in float64."""
    picture = bytes_of((1, 9, 31, 3))
    np.testing.assert_allclose(enlarged(picture, factor), by_torch(picture, factor, torch.float64), rtol=0, atol=1e-6)


def test_nothing_is_clamped() -> None:
    edge = np.repeat(np.array([[0, 255]], np.uint8), 4, axis=1)[None, :, :, None]
    ours = enlarged(edge, 4)
    assert ours.min() < -0.05
    assert ours.max() > 1.05


def test_levels_are_clamped_and_rounded() -> None:
    levels = bytes_of((5, 7), seed=1)
    expected = np.rint(np.clip(enlarged(levels[None, ..., None], 2), 0, 1) * 255)[0, ..., 0]
    ours = enlarged_levels(levels, 2)
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, expected)
    colours = bytes_of((5, 7, 3))
    np.testing.assert_array_equal(enlarged_levels(colours, 2)[..., 1], enlarged_levels(colours[..., 1], 2))


# In a restore

FACTOR = 3


@pytest.fixture
def large_restorer(tiny) -> Any:
    with Restorer(changed(tiny.plan(), upscale=FACTOR), threads=1) as restorer:
        yield restorer


def large(given: NDArray[Any]) -> NDArray[np.float32]:
    out = enlarged(given if given.ndim == 4 else given[None], FACTOR)
    return out if given.ndim == 4 else out[0]


def expected_of(tiny, given: NDArray[Any], seed: int) -> NDArray[np.float32]:
    # The reference divides by 255.
    return np.clip(by_reference(tiny, large(given) * np.float32(255), seed), 0, 1)


@pytest.mark.parametrize("shape", [(5, 7, 3), (2, 4, 3, 3)], ids=["odd", "batch"])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_the_large_picture_is_restored(large_restorer, tiny, shape: tuple[int, ...], kind: str) -> None:
    given = bytes_of(shape)
    picture = given if kind == "uint8" else given.astype(kind) / 255
    restored = large_restorer.restore(picture, seed=5)
    assert large_restorer.upscale == FACTOR
    assert (restored.dtype, restored.shape) == (
        np.uint8 if kind == "uint8" else np.float32,
        enlarged_shape(shape, FACTOR),
    )
    expected = expected_of(tiny, given, 5)
    if kind == "uint8":
        np.testing.assert_allclose(restored, 255 * expected, rtol=0, atol=0.51)
    else:
        np.testing.assert_allclose(restored, expected, rtol=0, atol=2e-5)
    with large_restorer.lend(picture, seed=5) as lent:
        assert lent.dtype == restored.dtype
        np.testing.assert_array_equal(lent, restored)


def test_tiles_are_cut_from_the_large_picture(tiny) -> None:
    """As a plan without it cuts a picture that was enlarged before."""
    given = bytes_of((7, 9, 3)) // 2 + 64
    floats = large(given)
    assert 0 <= floats.min() <= floats.max() <= 1
    with Restorer(tiny.plan(), threads=1) as plain:
        expected = plain.restore(floats, seed=2, tile=12, overlap=4)
        assert np.abs(expected - plain.restore(floats, seed=2)).max() > 1e-4
    with Restorer(changed(tiny.plan(), upscale=FACTOR), threads=1) as restorer:
        np.testing.assert_array_equal(restorer.restore(given / np.float32(255), seed=2, tile=12, overlap=4), expected)


def test_results_are_written_where_the_caller_says(large_restorer) -> None:
    given = bytes_of((5, 4, 3))
    out = np.empty((30, 12, 3), np.uint8)[::2]
    large_restorer.restore_into(given, out, seed=1)
    np.testing.assert_array_equal(out, large_restorer.restore(given, seed=1))
    floats = np.empty((15, 12, 3), np.float32)
    large_restorer.restore_into(given, floats, seed=1)
    np.testing.assert_array_equal(np.rint(255 * floats), out)


def test_a_result_of_the_pictures_own_size_is_refused(large_restorer) -> None:
    given = bytes_of((5, 4, 3))
    with pytest.raises(InputError, match=r"out is uint8\(5, 4, 3\)") as error:
        large_restorer.restore_into(given, given.copy())
    assert "(15, 12, 3)" in error.value.hint


@pytest.mark.parametrize("shape", [(4, 3), (4, 4, 1), (0, 4, 3), (3,)], ids=str)
def test_what_is_no_picture_is_refused_as_ever(large_restorer, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="picture of shape"):
        large_restorer.restore(np.zeros(shape, np.uint8))


def test_it_is_warmed_up_for_the_size_of_the_picture_given(fake, fake_plan) -> None:
    with Restorer(changed(fake_plan, upscale=2)) as restorer:
        restorer.warm_up(6, 10)
        assert len(fake.compiled) == 1
        restorer.restore(bytes_of((6, 10, 3)))
        assert len(fake.compiled) == 1
