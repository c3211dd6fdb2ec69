"""The start of a restore from pictures of any type and size, and its noise, the same wherever a window begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mrs.kernels.table import Row
from tests.kernels.gpu.sizes import SIZES

pytestmark = pytest.mark.slow(13)

ROWS = [Row(0.0, 0.0, 1.0, 0.0, 0.0, 1.0)]
PATHS = {"planes": {"channels": 1}, "pixels": {"channels_last": True}}


SIZES_OF_STARTS = {**SIZES, "one channel in pixels of two": ((2, 1, 5, 7), (5, 8), "float16", True, "float32", False)}


@pytest.mark.parametrize("name", SIZES_OF_STARTS)
def test_sizes(restore: Any, name: str) -> None:
    (images, channels, *size), padded, dtype, channels_last, picture, whole = SIZES_OF_STARTS[name]
    made = restore(
        ROWS, images=images, channels=channels, size=tuple(size), padded=padded, dtype=dtype,
        channels_last=channels_last, picture=picture,
    )  # fmt: skip
    assert made.launch("start").name == ("start_pixels" if whole else "start_planes")
    made.start()


@pytest.mark.parametrize("shift", [4, 12, 16])
@pytest.mark.parametrize("picture", ["uint8", "float32"])
def test_memory_that_begins_anywhere(restore: Any, picture: str, shift: int) -> None:
    made = restore(ROWS, size=(2, 16), dtype="float16", channels_last=True, picture=picture, shift=shift)
    assert made.launch("start").name == ("start_pixels" if shift == 16 else "start_planes")
    made.start()


@pytest.mark.parametrize("name", ["source", "mu", "x", "packed"])
def test_one_array_that_begins_elsewhere_is_enough(restore: Any, name: str) -> None:
    made, moved = (restore(ROWS, size=(2, 16), channels_last=True, shift=shift) for shift in (0, 4))
    setattr(made, name, getattr(moved, name))
    made.memory[name], made.begins[name] = moved.memory[name], moved.begins[name]
    assert made.launch("start").name == "start_planes"
    made.start()


@pytest.mark.parametrize("path", PATHS)
def test_every_byte_becomes_its_255th(restore: Any, path: str) -> None:
    channels = PATHS[path].get("channels", 3)
    given = np.arange(256, dtype=np.uint8).repeat(channels).reshape(1, 16, 16, channels)
    # In another order in each channel.
    given = given * np.array([1, 3, 7], np.uint8)[:channels]
    made = restore(ROWS, size=(16, 16), given=given, deviation=0.0, **PATHS[path])
    assert made.launch("start").name == f"start_{path}"
    made.start()
    expected = np.float32(given.transpose(0, 3, 1, 2) / 255)
    np.testing.assert_array_equal(made.mu.cpu().numpy(), expected)
    assert torch.equal(made.x, made.mu)
    assert set(made.mu[0, 0].unique().tolist()) == set(np.float32(np.arange(256) / 255).tolist())


@pytest.mark.parametrize("path", PATHS)
def test_the_noise_has_its_deviation(restore: Any, path: str) -> None:
    """And its numbers are those of the CPU."""
    given = np.zeros((1, 8, 16, 3 if path == "pixels" else 1), np.uint8)
    key = {"seed": 2**32 - 1, "image": 9, "origin": (1, 3)}
    made = restore(ROWS, size=(8, 16), given=given, deviation=0.25, key=key, **PATHS[path])
    made.start()
    z = made.draws(0)
    np.testing.assert_allclose(made.x.cpu().numpy(), 0.25 * z, rtol=0, atol=0.25e-6)
    assert z.std() > 0.8


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("left", range(4))
def test_a_window_draws_what_the_whole_picture_draws(restore: Any, path: str, left: int) -> None:
    """Bit for bit, in any place, in any batch and by either kernel."""
    options = PATHS[path]
    channels = options.get("channels", 3)
    given = np.random.default_rng(1).integers(0, 256, (2, 4, 32, channels), dtype=np.uint8)
    whole = restore(ROWS, images=2, size=(4, 32), given=given, key={"seed": 8, "image": 3}, **options)
    whole.start()
    for width, kernel in ((16, f"start_{path}"), (11, "start_planes")):
        part = restore(
            ROWS, size=(3, width), given=np.ascontiguousarray(given[1:, 1:, left : left + width]),
            key={"seed": 8, "image": 4, "origin": (1, left)}, **options,
        )  # fmt: skip
        assert part.launch("start").name == kernel
        part.start()
        assert torch.equal(part.x, whole.x[1:, :, 1:, left : left + width])


def test_values_outside_the_range_are_taken_as_they_are(restore: Any) -> None:
    values = [-1.0, 2.0, -0.0, np.inf, -np.inf, np.nan, 3e38, 1e-30]
    for options in PATHS.values():
        channels = options.get("channels", 3)
        given = np.array(values, np.float32).repeat(2 * channels).reshape(1, 1, 16, channels)
        made = restore(ROWS, size=(1, 16), given=given, picture="float32", **options)
        made.start()
