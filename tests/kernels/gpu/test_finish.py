"""The end of a restore: the last row, clamped, as pictures of any type and size, rounded to the byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mrs.kernels.table import Row
from tests.kernels.gpu.sizes import SIZES

pytestmark = pytest.mark.slow(11)

ROW = Row(0.9, 0.2, -0.1, 0.8, -0.3, 0.5, b1=-0.25, b2=0.125, b3=-0.0625, m=0.375)
PREDICTION = Row(0.0, 0.0, 1.0, 0.0, 0.0, 1.0)  # x' is what the network gives
PATHS = {"planes": {"channels": 1}, "pixels": {"channels_last": True}, "pixels of planes": {"channels_last": False}}
INDEX = 3


def at_the_end(restore: Any, row: Row = ROW, **more: Any) -> Any:
    """A restore before its last step, which has this row; every prediction is there."""
    made = restore([ROW] * INDEX + [row], **more)
    made.fill()
    return made


def pictures_of(made: Any, values: Any) -> Any:
    """What `finish` makes of last states with these values, the same on every plane."""
    made.output.copy_(torch.from_numpy(values))
    made.finish(INDEX)
    return made.result.cpu().numpy().transpose(0, 3, 1, 2)


@pytest.mark.parametrize("name", SIZES)
def test_sizes(restore: Any, name: str) -> None:
    (images, channels, *size), padded, dtype, channels_last, picture, whole = SIZES[name]
    made = at_the_end(
        restore, images=images, channels=channels, size=tuple(size), padded=padded, dtype=dtype,
        channels_last=channels_last, picture=picture,
    )  # fmt: skip
    assert made.launch("finish", INDEX).name == ("finish_pixels" if whole else "finish_planes")
    made.finish(INDEX)


@pytest.mark.parametrize("shift", [4, 12, 16])
@pytest.mark.parametrize("picture", ["uint8", "float32"])
def test_memory_that_begins_anywhere(restore: Any, picture: str, shift: int) -> None:
    made = at_the_end(restore, size=(2, 16), dtype="float16", channels_last=True, picture=picture, shift=shift)
    assert made.launch("finish", INDEX).name == ("finish_pixels" if shift == 16 else "finish_planes")
    made.finish(INDEX)


@pytest.mark.parametrize("name", ["x", "mu", "output", "history", "result"])
def test_one_array_that_begins_elsewhere_is_enough(restore: Any, name: str) -> None:
    made, moved = (at_the_end(restore, size=(2, 16), channels_last=True, shift=shift) for shift in (0, 4))
    setattr(made, name, getattr(moved, name))
    made.memory[name], made.begins[name] = moved.memory[name], moved.begins[name]
    assert made.launch("finish", INDEX).name == "finish_planes"
    made.finish(INDEX)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("picture", ["uint8", "float32"])
def test_with_noise(restore: Any, picture: str, path: str) -> None:
    key = {"seed": 1, "image": 7, "origin": (5, 1)}
    made = at_the_end(restore, ROW._replace(n=0.3), size=(2, 16), picture=picture, key=key, **PATHS[path])
    assert made.launch("finish", INDEX).name == f"finish_{path.split()[0]}"
    made.finish(INDEX)


@pytest.mark.parametrize("clamp", ["unit", "threshold"])
@pytest.mark.parametrize("path", PATHS)
def test_with_a_clamp(restore: Any, path: str, clamp: str) -> None:
    made = at_the_end(restore, clamp=clamp, size=(2, 16), picture="float32", **PATHS[path])
    if clamp == "threshold":
        made.threshold(INDEX)
    made.finish(INDEX)


def test_a_restore_without_history(restore: Any) -> None:
    for options in PATHS.values():
        made = restore([PREDICTION], size=(1, 16), **options)
        assert made.history.shape[0] == 0
        made.fill()
        made.finish(0)


def halves() -> Any:
    """Numbers around each multiple of 1/510, where 255 x is half: the number itself, and its neighbours."""
    exact = np.float32(np.arange(-3, 515) / 510)
    return np.concatenate([exact, np.nextafter(exact, np.float32(-9)), np.nextafter(exact, np.float32(9))])


@pytest.mark.parametrize("path", PATHS)
def test_bytes_are_rounded_halves_to_even(restore: Any, path: str) -> None:
    values = np.resize(halves(), (1, 1 if path == "planes" else 3, 35, 48))
    made = at_the_end(restore, PREDICTION, size=(35, 48), **PATHS[path])
    expected = np.rint(np.minimum(np.maximum(values, 0), 1) * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(pictures_of(made, values), expected)
    products = values[(values > 0) & (values < 1)] * np.float32(255)
    tied = products[products % 1 == 0.5]
    # There are ties to break among them, of either parity below.
    assert {0.0, 1.0} == set((np.floor(tied) % 2).tolist())
    assert set(expected.ravel().tolist()) == set(range(256))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("picture", ["uint8", "float32"])
def test_states_are_clamped_to_0_and_1(restore: Any, picture: str, path: str) -> None:
    values = [-np.inf, -3e38, -1, -1e-9, -0.0, 0, 1e-30, 0.25, 0.5, 1 - 2**-24, 1, 1.0000001, 2, 300, 3e38, np.inf]
    expected = np.array([0, 0, 0, 0, 0, 0, 1e-30, 0.25, 0.5, 1 - 2**-24, 1, 1, 1, 1, 1, 1], np.float32)
    if picture == "uint8":
        # Of 127.5 the even neighbour.
        expected = np.array([0, 0, 0, 0, 0, 0, 0, 64, 128, 255, 255, 255, 255, 255, 255, 255], np.uint8)
    made = at_the_end(restore, PREDICTION, size=(1, 16), picture=picture, **PATHS[path])
    pictures = pictures_of(made, np.array(values, np.float32))
    np.testing.assert_array_equal(pictures, np.broadcast_to(expected, pictures.shape))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("picture", "expected"), [("uint8", 0), ("float32", np.nan)])
def test_nan_is_nan_or_the_byte_0(restore: Any, picture: str, expected: float, path: str) -> None:
    made = at_the_end(restore, PREDICTION, size=(1, 16), picture=picture, **PATHS[path])
    values = np.full(16, 0.75, np.float32)
    values[::3] = np.nan
    pictures = pictures_of(made, values)
    assert (np.isnan(pictures) if picture == "float32" else pictures == 0)[..., ::3].all()
    np.testing.assert_array_equal(pictures[..., 1::3], np.float32(0.75) if picture == "float32" else 191)


@pytest.mark.parametrize("path", PATHS)
def test_what_a_network_gives_that_is_not_finite_reaches_the_picture(restore: Any, path: str) -> None:
    made = at_the_end(restore, ROW._replace(n=0.1), size=(2, 16), picture="float32", **PATHS[path])
    made.output[..., 1, 5] = float("nan")
    made.finish(INDEX)
    assert made.result[:, 1, 5].isnan().all()
    assert made.result.isnan().sum() == made.channels
