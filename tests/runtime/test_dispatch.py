"""Tiles agree with the whole picture, are chosen where memory does not suffice, and lent results are never cut."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from mrs.kernels.table import Row
from mrs.runtime.errors import DeviceMemoryError, InputError
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer
from tests.runtime.restores import bytes_of, changed, entered

pytestmark = pytest.mark.usefixtures("one_thread")

# Tiles


@pytest.mark.parametrize("shape", [(30, 41, 3), (2, 30, 41, 3)], ids=["one", "batch"])
@pytest.mark.parametrize(("tile", "overlap"), [(8, None), (8, 0), (12, 6), (32, 4)])
def test_tiles_of_a_network_that_sees_pixels_give_the_whole_picture(
    restorer: Restorer, fake, shape: tuple[int, ...], tile: int, overlap: int | None
) -> None:
    picture = bytes_of(shape)
    floats = picture / np.float32(255)
    tiled = restorer.restore(floats, seed=3, tile=tile, overlap=overlap)
    # All tiles have one size, hence one network.
    assert len(fake.compiled) == 1
    np.testing.assert_allclose(tiled, restorer.restore(floats, seed=3, tile=0), rtol=0, atol=2e-6)
    levels = restorer.restore(picture, seed=3, tile=tile, overlap=overlap)
    np.testing.assert_array_equal(levels, np.rint(255 * tiled))


def test_a_tile_that_covers_the_picture_changes_nothing(tiny_restorer: Restorer, picture) -> None:
    whole = tiny_restorer.restore(picture)
    for tile in (0, 24, 400):
        np.testing.assert_array_equal(tiny_restorer.restore(picture, tile=tile), whole)


def test_tiles_of_a_real_network_are_near_the_whole_picture(tiny_restorer: Restorer) -> None:
    picture = np.tile(np.linspace(0.2, 0.8, 40, dtype=np.float32)[:, None, None], (1, 48, 3))
    whole, tiled = tiny_restorer.restore(picture, tile=0), tiny_restorer.restore(picture, tile=24, overlap=8)
    # The network looks at averages over the tile and at neighbours beyond its rim.
    assert 0 < np.abs(tiled - whole).mean() < 0.05


def test_neighbouring_tiles_are_blended_without_a_seam(fake, fake_plan: Plan) -> None:
    class Alternating(fake.make):  # type: ignore[misc]
        def evaluate(self, step: int) -> None:
            self.evaluated.append(step)
            # Three steps a tile: the first tile becomes 0.2, the second 0.8.
            self.output.fill(0.2 if len(self.evaluated) <= 3 else 0.8)

    fake.make = Alternating
    rows = [list(Row(0, 0, 1, 0, 0, 1))] * 3
    plan = changed(fake_plan, table={**fake_plan.manifest["table"], "rows": rows})
    with Restorer(plan) as restorer:
        line = restorer.restore(np.zeros((4, 24, 3), np.float32), tile=16, overlap=8)
    np.testing.assert_allclose(line[:, :8], 0.2, atol=1e-6)
    np.testing.assert_allclose(line[:, 16:], 0.8, atol=1e-6)
    np.testing.assert_allclose(np.diff(line[0, 7:17, 0]), 0.6 / 9, atol=1e-6)
    np.testing.assert_array_equal(line, np.broadcast_to(line[:1, :, :1], line.shape))


@pytest.mark.parametrize(
    ("tile", "overlap", "wrong"),
    [(6, None, "tile 6"), (-8, None, "tile -8"), (2, None, "tile 2"), (8, 5, "overlap 5"), (8, -1, "overlap -1")],
)
def test_tiles_that_cannot_be(restorer: Restorer, picture, tile: int, overlap: int | None, wrong: str) -> None:
    with pytest.raises(InputError, match=wrong):
        restorer.restore(picture, tile=tile, overlap=overlap)


def test_little_memory_cuts_into_tiles_and_says_so(
    fake, fake_plan: Plan, picture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    with Restorer(fake_plan) as restorer:
        whole = restorer.restore(picture / np.float32(255))
    assert caplog.messages == []
    # 160 bytes a pixel: room for 100 pixels, so for tiles of 8.
    with Restorer(fake_plan, memory=160 * 100) as restorer:
        tiled = restorer.restore(picture / np.float32(255))
        assert fake.compiled[-1] == (1, 6, 8, 8)
        restorer.restore(picture, tile=0)
        assert fake.networks[-1].packed.shape == (1, 6, 16, 24)
        with pytest.raises(InputError, match="overlap 5"):
            restorer.restore(picture, overlap=5)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=2e-6)
    assert caplog.messages[0] == "16x24 exceeds the memory for one pass: restoring in tiles of 8"
    assert caplog.records[0].name == "mrs"


def test_memory_for_less_than_a_tile_still_restores(fake, fake_plan: Plan, picture) -> None:
    with Restorer(fake_plan, memory=1) as restorer:
        assert restorer.restore(picture[:9]).shape == (9, 24, 3)
    assert fake.compiled == [(1, 6, 4, 4)]


def test_a_batch_shares_the_memory(fake, fake_plan: Plan) -> None:
    with Restorer(fake_plan, memory=160 * 16 * 24) as restorer:
        restorer.restore(bytes_of((1, 16, 24, 3)))
        restorer.restore(bytes_of((2, 16, 24, 3)))
    assert fake.compiled == [(2, 6, 8, 8)]


# Lent results


@pytest.mark.parametrize("shape", [(16, 24, 3), (1, 16, 24, 3), (2, 9, 5, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_lent_result_is_the_restored_picture(restorer: Restorer, shape: tuple[int, ...], dtype: type) -> None:
    picture = bytes_of(shape) if dtype == np.uint8 else bytes_of(shape) / np.float32(255)
    with restorer.lend(picture, 3) as lent:
        assert (lent.shape, lent.dtype) == (shape, dtype)
        kept = lent.copy()
    np.testing.assert_array_equal(kept, restorer.restore(picture, 3))


def test_a_list_of_floats_is_lent_too(restorer: Restorer) -> None:
    listed: Any = [[[0.25, 0.5, 0.75]] * 4] * 4
    with restorer.lend(listed) as lent:
        kept = lent.copy()
    np.testing.assert_array_equal(kept, restorer.restore(listed))


def test_what_is_lent_keeps_its_worker(restorer: Restorer, picture) -> None:
    with restorer.lend(picture):
        for call in (
            restorer.restore,
            restorer.lend,
            lambda _: restorer.warm_up(8, 8),
            lambda _: restorer.synchronize(),
        ):
            with pytest.raises(InputError, match="from within its own restore"), entered(call(picture)):
                pytest.fail("went on")
    restorer.restore(picture, timeout=0)
    with pytest.raises(ValueError, match="mine"), restorer.lend(picture):
        raise ValueError("mine")
    restorer.restore(picture, timeout=0)


def test_what_is_lent_is_never_tiled(fake, fake_plan: Plan, picture) -> None:
    with Restorer(changed(fake_plan, engine=None), memory=160 * 100) as restorer, restorer.lend(picture) as lent:
        assert lent.shape == picture.shape
    assert fake.compiled == [(1, 6, 16, 24)]


# Memory that does not suffice after all


def test_a_picture_that_does_not_fit_is_cut_into_tiles(
    fake, fake_plan: Plan, picture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    compile_, largest = fake.compile, [4]

    def compiled(graph: bytes, modulation: Any, shape: Any, *rest: Any) -> Any:
        if max(shape[2:]) > largest[0]:
            raise DeviceMemoryError(f"{shape[2]}x{shape[3]} does not fit", hint="restore in tiles")
        return compile_(graph, modulation, shape, *rest)

    monkeypatch.setattr(fake, "compile", compiled)
    floats = picture / np.float32(255)
    with Restorer(changed(fake_plan, engine=None)) as restorer:
        tiled = restorer.restore(floats, seed=3)
        assert caplog.messages == [
            "16x24 does not fit: restoring in tiles of 8",
            "8x8 does not fit: restoring in tiles of 4",
        ]
        # What did not fit is not tried again.
        restorer.restore(floats, seed=3)
        assert caplog.messages[2:] == ["16x24 exceeds the memory for one pass: restoring in tiles of 4"]
        # Whoever chose the tiles is told, even where smaller ones would fit.
        for tile, largest[0] in ((8, 4), (0, 8)):
            with pytest.raises(DeviceMemoryError, match="does not fit"):
                restorer.restore(floats, tile=tile)
        # Nor is there anything smaller than the network's own step.
        largest[0] = 0
        with pytest.raises(DeviceMemoryError, match="4x4 does not fit"):
            restorer.restore(floats[:4, :4])
        largest[0] = 99
        np.testing.assert_allclose(tiled, restorer.restore(floats, seed=3), rtol=0, atol=2e-6)
