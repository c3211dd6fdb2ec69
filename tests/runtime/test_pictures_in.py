"""Arrays of any size, type and order of memory are restored and filled; what is no picture is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mrs.runtime.errors import InputError
from mrs.runtime.session import Restorer
from tests.runtime.restores import by_reference, bytes_of

pytestmark = pytest.mark.usefixtures("one_thread")

# Pictures


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 33), (16, 24), (1, 30)], ids=str)
def test_any_size_is_restored_as_the_reference_does(tiny_restorer: Restorer, tiny, size: tuple[int, int]) -> None:
    picture = bytes_of((*size, 3))
    expected = by_reference(tiny, picture, seed=5)
    floats = tiny_restorer.restore(picture / np.float32(255), seed=5)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, expected, rtol=0, atol=1e-5)
    levels = tiny_restorer.restore(picture, seed=5)
    assert levels.dtype == np.uint8
    assert np.abs(levels - 255 * expected).max() < 0.51


def test_a_batch_is_restored_as_the_reference_does(tiny_restorer: Restorer, tiny) -> None:
    batch = bytes_of((3, 10, 9, 3))
    restored = tiny_restorer.restore(batch)
    assert np.abs(restored - 255 * by_reference(tiny, batch)).max() < 0.51
    np.testing.assert_array_equal(tiny_restorer.restore(batch[:1])[0], tiny_restorer.restore(batch[0]))


def unaligned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same array at an odd address."""
    made = np.ndarray(values.shape, np.float32, buffer=bytearray(values.nbytes + 1), offset=1)
    made[...] = values
    assert made.flags.c_contiguous
    assert not made.flags.aligned
    return made


def test_arrays_at_odd_addresses(tiny_restorer: Restorer) -> None:
    """What an engine or a kernel would read or write there, it may refuse."""
    picture = bytes_of((20, 30, 3)) / np.float32(255)
    expected = tiny_restorer.restore(picture)
    np.testing.assert_array_equal(tiny_restorer.restore(unaligned(picture)), expected)
    out = unaligned(np.zeros_like(picture))
    tiny_restorer.restore_into(unaligned(picture), out)
    np.testing.assert_array_equal(out, expected)
    with tiny_restorer.lend(unaligned(picture)) as lent:
        np.testing.assert_array_equal(lent, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", np.longdouble])
def test_floats_of_any_width(restorer: Restorer, picture, dtype: Any) -> None:
    given = (picture / 255).astype(dtype)
    restored = restorer.restore(given)
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, restorer.restore(given.astype(np.float32)), rtol=0, atol=1e-6)


def test_pictures_that_are_views(restorer: Restorer, picture) -> None:
    turned = picture[::-1, ::2]
    np.testing.assert_array_equal(restorer.restore(turned), restorer.restore(turned.copy()))


def test_a_list_is_no_picture_of_bytes(restorer: Restorer, picture) -> None:
    listed: Any = picture.tolist()
    with pytest.raises(InputError, match="int64 is neither uint8 nor float"):
        restorer.restore(listed)


def test_read_only_pictures_are_read_only(restorer: Restorer, picture) -> None:
    before = picture.copy()
    picture.setflags(write=False)
    restorer.restore(picture)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(
    "shape", [(16, 24), (16, 24, 1), (16, 24, 4), (3, 16, 24), (0, 24, 3), (0, 16, 24, 3), (1, 1, 16, 24, 3), (3,), ()],
    ids=str,
)  # fmt: skip
def test_a_shape_that_is_no_picture(restorer: Restorer, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"is not \(H, W, 3\) or \(N, H, W, 3\)"):
        restorer.restore(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.int8, bool, complex, object])
def test_a_dtype_that_is_no_picture(restorer: Restorer, dtype: type) -> None:
    with pytest.raises(InputError, match="neither uint8 nor float"):
        restorer.restore(np.zeros((4, 4, 3), dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.01, -0.01, 255.0])
def test_floats_outside_the_range(restorer: Restorer, fake, value: float) -> None:
    picture = np.full((4, 4, 3), 0.5)
    picture[1, 2, 1] = value
    with pytest.raises(InputError, match=r"not within \[0, 1\]"):
        restorer.restore(picture)
    assert fake.compiled == []


# The caller's array


@pytest.mark.parametrize("tile", [0, 8], ids=["whole", "tiled"])
def test_a_picture_is_restored_in_its_own_place(restorer: Restorer, picture, tile: int) -> None:
    expected = restorer.restore(picture, tile=tile)
    restorer.restore_into(picture, picture, tile=tile)
    np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize("tile", [0, 8], ids=["whole", "tiled"])
def test_a_strided_array_is_filled(restorer: Restorer, picture, tile: int) -> None:
    large = np.full((20, 60, 3), 9, np.uint8)
    out = large[2:18, 4:52:2]
    restorer.restore_into(picture, out, tile=tile)
    np.testing.assert_array_equal(out, restorer.restore(picture, tile=tile))
    out[...] = 9
    assert (large == 9).all()


def test_a_strided_batch_is_filled(restorer: Restorer) -> None:
    batch = bytes_of((2, 5, 6, 3))
    out = np.zeros((2, 3, 5, 6), np.uint8).transpose(0, 2, 3, 1)
    restorer.restore_into(batch, out)
    np.testing.assert_array_equal(out, restorer.restore(batch))


def test_floats_from_bytes_and_bytes_from_floats(restorer: Restorer, picture) -> None:
    floats, levels = np.empty(picture.shape, np.float32), np.empty(picture.shape, np.uint8)
    restorer.restore_into(picture, floats)
    restorer.restore_into(picture / np.float32(255), levels)
    np.testing.assert_array_equal(levels, np.rint(255 * floats))


def read_only(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    out = np.empty(shape, np.uint8)
    out.setflags(write=False)
    return out


@pytest.mark.parametrize(
    "out",
    [
        np.empty((16, 23, 3), np.uint8),
        np.empty((1, 16, 24, 3), np.uint8),
        np.empty((16, 24, 3), np.float64),
        np.empty((16, 24, 3), ">f4"),
        read_only((16, 24, 3)),
    ],
    ids=["shape", "batch", "float64", "byte order", "read-only"],
)
def test_an_array_that_cannot_be_filled(restorer: Restorer, picture, out: NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"give writeable uint8 or float32 \(16, 24, 3\)"):
        restorer.restore_into(picture, out)


# Tensors where there is no GPU


def test_a_tensor_of_the_host_counts_as_an_array(restorer: Restorer, picture) -> None:
    import torch

    expected = restorer.restore(picture)
    tensor = torch.from_numpy(picture.copy())
    restored = restorer.restore(tensor)
    assert isinstance(restored, np.ndarray)
    np.testing.assert_array_equal(restored, expected)
    with restorer.lend(tensor) as lent:
        np.testing.assert_array_equal(lent, expected)
    out = np.zeros_like(picture)
    restorer.restore_into(tensor, out)
    np.testing.assert_array_equal(out, expected)
    half = (tensor / 255).half()
    np.testing.assert_array_equal(restorer.restore(half), restorer.restore(half.float().numpy()))


def test_tensors_that_are_no_arrays(restorer: Restorer, picture) -> None:
    import torch

    floats = torch.full((4, 4, 3), 0.5)
    for tensor in (floats.bfloat16(), floats.requires_grad_(), torch.zeros((4, 4, 3), device="meta")):
        with pytest.raises(InputError, match="picture of type Tensor is no array here") as caught:
            restorer.restore(tensor)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"out is a Tensor \(give an array of NumPy\)"):
        restorer.restore_into(picture, torch.zeros(picture.shape, dtype=torch.uint8))


def test_arrays_of_the_host_cannot_be_bound(restorer: Restorer, fake, picture) -> None:
    before = picture.copy()
    with pytest.raises(InputError, match=r"cannot be bound \(give tensors of the GPU, or bound=False\)"):
        restorer.restore_into(picture, picture, bound=True)
    np.testing.assert_array_equal(picture, before)
    assert fake.networks == []
