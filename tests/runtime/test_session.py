"""A loaded plan restores any picture, alike whatever the tiles, engine or thread; what it cannot take is refused."""

from __future__ import annotations

import gc
import inspect
import logging
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mrs
from mrs.kernels.table import Row
from mrs.numerics.reference import sample
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import (
    BackendError,
    BusyError,
    CancelledError,
    DeadlineError,
    DeviceMemoryError,
    InputError,
    MrsError,
    PlanError,
)
from mrs.runtime.placement import MEMORY
from mrs.runtime.plan import Plan
from mrs.runtime.request import Cancellation
from mrs.runtime.session import Restorer, load
from mrs.runtime.system import machine
from mrs.runtime.worker import FEWEST

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[2]
# Longer than anything here takes: what waits as long has failed.
LIMIT = 120.0


def bytes_of(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def by_reference(tiny, picture: NDArray[np.uint8], seed: int = 0) -> NDArray[np.float32]:
    """The restored picture as the reference loop gives it, with torch."""
    batch = picture if picture.ndim == 4 else picture[None]
    mu = np.ascontiguousarray((batch / np.float32(255)).transpose(0, 3, 1, 2))
    out = sample(tiny.denoise, mu, tiny.table, seed=seed).transpose(0, 2, 3, 1)
    return out if picture.ndim == 4 else out[0]


@pytest.fixture(scope="module")
def real(tiny):
    with Restorer(tiny.plan(), threads=1) as restorer:
        yield restorer


@pytest.fixture
def restorer(fake_plan: Plan):
    with Restorer(fake_plan, threads=1) as restorer:
        yield restorer


def changed(plan: Plan, engine: bytes | None = b"engine", **fields: Any) -> Plan:
    return replace(plan, manifest={**plan.manifest, **fields}, engine=engine)


# Pictures


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 33), (16, 24), (1, 30)], ids=str)
def test_any_size_is_restored_as_the_reference_does(real: Restorer, tiny, size: tuple[int, int]) -> None:
    picture = bytes_of((*size, 3))
    expected = by_reference(tiny, picture, seed=5)
    floats = real.restore(picture / np.float32(255), seed=5)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, expected, rtol=0, atol=1e-5)
    levels = real.restore(picture, seed=5)
    assert levels.dtype == np.uint8
    assert np.abs(levels - 255 * expected).max() < 0.51


def test_a_batch_is_restored_as_the_reference_does(real: Restorer, tiny) -> None:
    batch = bytes_of((3, 10, 9, 3))
    restored = real.restore(batch)
    assert np.abs(restored - 255 * by_reference(tiny, batch)).max() < 0.51
    np.testing.assert_array_equal(real.restore(batch[:1])[0], real.restore(batch[0]))


@pytest.mark.parametrize("clamp", ["unit", "threshold"])
def test_the_plans_clamp_is_applied(real: Restorer, tiny, picture, clamp: str) -> None:
    # Twice the network's output reaches beyond every bound.
    rows = [row._replace(cx=2 * row.cx, cm=2 * row.cm, cf=2 * row.cf) for row in tiny.table.rows]
    table = replace(tiny.table, rows=tuple(rows), clamp=clamp)
    plan = tiny.plan()
    values = {**plan.manifest["table"], "rows": [list(row) for row in rows], "clamp": clamp}
    floats = picture / np.float32(255)
    with Restorer(changed(plan, table=values), threads=1) as restorer:
        restored = restorer.restore(floats, seed=5)
    mu = np.ascontiguousarray(floats[None].transpose(0, 3, 1, 2))
    expected = {
        name: sample(tiny.denoise, mu, replace(table, clamp=name), seed=5).transpose(0, 2, 3, 1)[0]
        for name in ("none", clamp)
    }
    np.testing.assert_allclose(restored, expected[clamp], rtol=0, atol=1e-5)
    assert np.abs(expected["none"] - expected[clamp]).max() > 1e-2


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


# Seeds


def test_a_seed_is_a_picture(restorer: Restorer, picture) -> None:
    first, again, other = (restorer.restore(picture, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5
    np.testing.assert_array_equal(restorer.restore(picture), restorer.restore(picture, seed=0))


@pytest.mark.parametrize("seed", [0, 2**32 - 1, np.int64(7), np.uint32(2**32 - 1)], ids=repr)
def test_seeds_of_every_whole_number(restorer: Restorer, picture, seed: Any) -> None:
    np.testing.assert_array_equal(restorer.restore(picture, seed=seed), restorer.restore(picture, seed=int(seed)))


@pytest.mark.parametrize("seed", [-1, 2**32, True, False, 1.0, "1", None, np.float64(3)], ids=repr)
def test_seeds_that_are_none(restorer: Restorer, picture, seed: Any) -> None:
    with pytest.raises(InputError, match="is not a whole number from 0 to 4294967295"):
        restorer.restore(picture, seed=seed)


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


def test_a_tile_that_covers_the_picture_changes_nothing(real: Restorer, picture) -> None:
    whole = real.restore(picture)
    for tile in (0, 24, 400):
        np.testing.assert_array_equal(real.restore(picture, tile=tile), whole)


def test_tiles_of_a_real_network_are_near_the_whole_picture(real: Restorer) -> None:
    picture = np.tile(np.linspace(0.2, 0.8, 40, dtype=np.float32)[:, None, None], (1, 48, 3))
    whole, tiled = real.restore(picture, tile=0), real.restore(picture, tile=24, overlap=8)
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
    assert fake.compiled == [(2, 6, 12, 12)]


@pytest.mark.parametrize(("free", "memory"), [(None, MEMORY), (1 << 40, MEMORY), (64 << 20, 32 << 20), (0, 1 << 20)])
def test_memory_by_default(fake_plan: Plan, monkeypatch: pytest.MonkeyPatch, free: int | None, memory: int) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    assert Restorer(fake_plan)._dispatch.budget.pixels == memory // 160


# Compiled sizes


def test_a_size_is_compiled_once(restorer: Restorer, fake, picture) -> None:
    restorer.warm_up(8, 12)
    for _ in range(2):
        restorer.restore(picture[:8, :12])
    # Every size that is padded to the same one.
    for height, width in ((7, 12), (8, 9), (5, 11)):
        restorer.restore(picture[:height, :width])
    assert fake.compiled == [(1, 6, 8, 12)]


def test_sizes_that_share_a_network_are_restored_as_each_alone(real: Restorer, tiny) -> None:
    """The larger leaves nothing in the smaller one's padding, over which the network averages."""
    sizes = [(16, 24), (13, 21), (15, 22), (13, 24), (16, 24)]
    for size in sizes:
        picture = bytes_of((*size, 3), seed=sum(size)) // 2 + 127
        expected = by_reference(tiny, picture, seed=5)
        np.testing.assert_allclose(real.restore(picture / np.float32(255), seed=5), expected, rtol=0, atol=1e-5)


def test_the_least_recently_used_shape_is_dropped(fake, fake_plan: Plan, picture) -> None:
    # Memory for so few networks that the least number is kept.
    with Restorer(fake_plan, memory=FEWEST * 160 * 16 * 24) as restorer:
        for width in (4, 8, 12, 16, 4, 20, 4):
            restorer.restore(picture[:4, :width])
        assert FEWEST == 4
        assert len(fake.compiled) == 5
        restorer.restore(picture[:4, :8])
        assert len(fake.compiled) == 6


def test_shapes_in_rotation_are_compiled_once(restorer: Restorer, fake, picture) -> None:
    for _ in range(3):
        for width in range(4, 28, 4):
            restorer.restore(picture[:8, :width])
    assert len(fake.compiled) == 6


def test_sizes_kept_share_the_memory(fake, fake_plan: Plan, picture) -> None:
    with Restorer(fake_plan, memory=160 * 16 * 24) as restorer:
        restorer.restore(picture[:4])
        restorer.restore(picture[:8])
        restorer.restore(picture[:4])
        assert len(fake.compiled) == 2
        # As large as both together and more: it takes the place of both.
        restorer.restore(picture)
        for height in (4, 8):
            restorer.restore(picture[:height])
    assert [shape[2] for shape in fake.compiled] == [4, 8, 4, 8]


# Engines


def test_the_engine_is_used_on_the_machine_it_was_made_for(restorer: Restorer, fake, picture, caplog) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    restorer.restore(picture)
    # Another size that is padded to the same one.
    restorer.restore(picture[:15, :22])
    assert (fake.restored, fake.compiled) == ([(1, 6, 16, 24)], [])
    restorer.restore(picture[:8])
    restorer.restore(bytes_of((2, 16, 24, 3)))
    assert fake.compiled == [(1, 6, 8, 24), (2, 6, 16, 24)]
    assert caplog.messages == []


def test_a_real_engine_needs_no_compilation(tiny, tmp_path: Path, picture, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.get("openvino")
    engine = backend.compile(tiny.graph, tiny.modulation, (1, 6, 16, 24), "fp32", CompileSettings(1)).export()
    tiny.plan("openvino", engine).save(tmp_path / "a.mrsplan")
    monkeypatch.setattr(type(backend), "compile", lambda *_: pytest.fail("compiled"))
    with load(tmp_path / "a.mrsplan", threads=1) as restorer:
        assert (restorer.backend, restorer.precision) == ("openvino", "fp32")
        np.testing.assert_allclose(
            restorer.restore(picture / np.float32(255)), by_reference(tiny, picture), rtol=0, atol=1e-5
        )


def of_another_processor(plan: Plan) -> Plan:
    return changed(plan, fingerprint={**plan.manifest["fingerprint"], "processor": "another"})


def of_another_version(plan: Plan) -> Plan:
    return changed(plan, fingerprint={**plan.manifest["fingerprint"], "backend": "fake 0.9"})


@pytest.mark.parametrize("change", [of_another_processor, of_another_version])
def test_an_engine_of_another_machine_is_not_used(
    fake, fake_plan: Plan, picture, caplog: pytest.LogCaptureFixture, change: Callable[[Plan], Plan]
) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    with Restorer(change(fake_plan)) as restorer:
        restorer.restore(picture)
    assert (fake.restored, fake.compiled) == ([], [(1, 6, 16, 24)])
    assert caplog.messages == ["plan was built on another machine or version: compiling from its graph"]


def test_an_engine_that_does_not_load_is_compiled_anew(
    restorer: Restorer, fake, picture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    fake.refuses = True
    restorer.restore(picture)
    assert fake.compiled == [(1, 6, 16, 24)]
    assert caplog.messages == ["the plan's engine does not load, compiling from its graph: fake refuses its engine"]


def test_a_real_engine_that_is_damaged_is_compiled_anew(
    tiny, tmp_path: Path, picture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    # With a digest that fits, as a build on a failing disk would leave it.
    tiny.plan("openvino", b"damaged" * 100).save(tmp_path / "a.mrsplan")
    with load(tmp_path / "a.mrsplan", threads=1) as restorer:
        restored = restorer.restore(picture / np.float32(255))
    np.testing.assert_allclose(restored, by_reference(tiny, picture), rtol=0, atol=1e-5)
    assert "the plan's engine does not load" in caplog.text


def test_a_precision_that_the_processor_lacks(fake, fake_plan: Plan, picture, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    with Restorer(changed(fake_plan, precision="bf16")) as restorer:
        assert restorer.precision == "fp32"
        restorer.restore(picture)
    assert (fake.restored, len(fake.compiled)) == ([], 1)
    assert caplog.messages == ["plan is for fake bf16, which this machine does not run: using fake fp32"]
    fake.native = ("fp32", "bf16")
    with Restorer(changed(fake_plan, precision="bf16")) as restorer:
        assert restorer.precision == "bf16"
        restorer.restore(picture)
    assert len(fake.restored) == 1


def test_a_precision_that_is_asked_for(fake, fake_plan: Plan, picture, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    fake.native = ("fp32", "bf16")
    plan = changed(fake_plan, precision="bf16")
    for asked, precision, restored in (("fp32", "fp32", 0), ("bf16", "bf16", 1), (None, "bf16", 2)):
        with Restorer(plan, precision=asked) as restorer:
            assert restorer.precision == precision
            restorer.restore(picture)
        # The plan's engine is for its own precision alone.
        assert len(fake.restored) == restored
    # Whoever asks needs no telling.
    assert caplog.messages == []
    for backend in (None, "fake"):
        with pytest.raises(InputError, match=r"fake runs no 'fp16' here \(use one of fp32, bf16\)"):
            Restorer(plan, precision="fp16", backend=backend)


# Backends


def test_a_backend_that_is_missing_is_replaced(tiny, fake, picture, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    fake.reason = "fake is not installed: pip install fake"
    with Restorer(tiny.plan("fake", b"engine"), threads=1) as restorer:
        assert restorer.backend == "openvino"
        np.testing.assert_allclose(
            restorer.restore(picture / np.float32(255)), by_reference(tiny, picture), rtol=0, atol=1e-5
        )
    assert caplog.messages == ["plan is for fake fp32, which this machine does not run: using openvino fp32"]


def test_a_backend_of_another_name_in_a_plan_of_the_future(tiny) -> None:
    plan = tiny.plan()
    with Restorer(changed(plan, engine=None, backend="tensorrt")) as restorer:
        assert restorer.backend == "openvino"


def test_a_backend_that_is_asked_for(tiny, fake, picture) -> None:
    plan = tiny.plan("openvino")
    with Restorer(plan, backend="fake") as restorer:
        restorer.restore(picture)
        assert (restorer.backend, len(fake.compiled)) == ("fake", 1)
    fake.reason = "fake is not installed: pip install fake"
    with pytest.raises(BackendError, match="backend fake cannot run here: fake is not installed: pip install fake"):
        Restorer(plan, backend="fake")
    with pytest.raises(InputError, match="'nothing' is unknown"):
        Restorer(plan, backend="nothing")


def test_no_backend_at_all(fake, fake_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.reason = "fake is gone"
    monkeypatch.setattr(backends, "BACKENDS", {"fake": fake})
    with pytest.raises(BackendError, match="no backend can run here: fake is gone"):
        Restorer(fake_plan)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_modulation_that_does_not_fit_the_graph(tiny, picture, tmp_path: Path, name: str) -> None:
    plan = tiny.plan(name)
    Plan(plan.manifest, plan.graph, plan.modulation[:, :-4]).save(tmp_path / "a.mrsplan")
    with pytest.raises(PlanError, match=r"modulation.npy does not fit network.onnx"):
        load(tmp_path / "a.mrsplan", threads=1)
    # A plan that was not read from a file.
    made = Plan(plan.manifest, plan.graph, plan.modulation[:, :-4])
    with Restorer(made, threads=1) as restorer, pytest.raises(BackendError, match=name) as caught:
        restorer.restore(picture)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("network", [{"channels": 1}, {"multiple": 1}], ids=str)
def test_a_manifest_that_does_not_fit_the_graph(tiny, network: dict[str, int]) -> None:
    plan = tiny.plan()
    plan = changed(plan, engine=None, network={**plan.manifest["network"], **network})
    with Restorer(plan, threads=1) as restorer, pytest.raises(BackendError, match="onnxruntime"):
        restorer.restore(np.zeros((15, 23, network.get("channels", 3)), np.uint8))


def test_a_network_that_fails_leaves_the_restorer_usable(restorer: Restorer, fake, picture) -> None:
    class Broken(fake.make):  # type: ignore[misc]
        broken = True

        def evaluate(self, step: int) -> None:
            super().evaluate(step)
            if self.broken:
                self.output.fill(np.nan)

    fake.make = Broken
    with pytest.raises(BackendError, match="infinities or NaN"):
        restorer.restore(picture)
    Broken.broken = False
    again = restorer.restore(picture)
    np.testing.assert_array_equal(again, restorer.restore(picture))


# The restorer itself


@pytest.mark.parametrize("value", [-1, 0, 1.0, True, "2", float("nan")], ids=repr)
@pytest.mark.parametrize("name", ["threads", "memory", "workers", "queue"])
def test_numbers_out_of_range(fake_plan: Plan, name: str, value: Any) -> None:
    least = 0 if name == "queue" else 1
    if value == 0 == least:
        value = -7
    with pytest.raises(InputError, match=f"{name} {value} is not a whole number of at least {least}"):
        Restorer(fake_plan, **{name: value})


def test_loading_passes_every_option_on(fake_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"backend": "fake", "precision": "fp32", "threads": 3, "memory": 1 << 20, "workers": 2, "queue": 5,
             "graphs": False, "engine": False, "cache": False}  # fmt: skip
    assert set(inspect.signature(load).parameters) == {"path", *given}
    asked: list[Any] = []
    monkeypatch.setattr("mrs.runtime.session.read_plan", lambda path: {"a.mrsplan": fake_plan}[path])
    monkeypatch.setattr("mrs.runtime.session.Restorer", lambda plan, **options: asked.append((plan, options)))
    mrs.load("a.mrsplan", **given)
    assert asked == [(fake_plan, given)]


def test_a_file_that_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "a.mrsplan").write_text("hello")
    with pytest.raises(PlanError, match="no plan"):
        mrs.load(tmp_path / "a.mrsplan")


def test_a_closed_restorer(fake_plan: Plan, picture) -> None:
    with Restorer(fake_plan) as restorer:
        restorer.restore(picture)
    for call in (restorer.restore, restorer.lend, lambda _: restorer.warm_up(8, 8), lambda _: restorer.synchronize()):
        for _ in range(2):
            with (
                pytest.raises(InputError, match=r"this restorer is closed \(load the plan again\)"),
                entered(call(picture)),
            ):
                pytest.fail("went on")
        restorer.close()


def test_closing_lets_go_of_networks_and_buffers(fake, fake_plan: Plan, picture) -> None:
    restorer = Restorer(fake_plan, workers=2)
    restorer.warm_up(8, 8)
    known = [weakref.ref(network) for network in fake.networks]
    fake.networks.clear()
    assert len(known) == 2
    restorer.close()
    gc.collect()
    assert [network() for network in known] == [None, None]


def test_closing_waits_for_the_restores_that_run(restorer: Restorer, picture) -> None:
    with restorer.lend(picture) as lent:
        closing, found = in_thread(restorer.close)
        before = lent.copy()
        with pytest.raises(InputError, match="from within its own restore"):
            restorer.close()
        closing.join(0.02)
        assert (closing.is_alive(), found) == (True, [])
        np.testing.assert_array_equal(lent, before)
    closing.join(LIMIT)
    assert found == [None]


def test_threads_wait_for_each_other(restorer: Restorer, fake) -> None:
    inside, most = 0, 0

    class Slow(fake.make):  # type: ignore[misc]
        def evaluate(self, step: int) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            time.sleep(0.002)
            super().evaluate(step)
            inside -= 1

    fake.make = Slow
    pictures = [bytes_of((8, 8, 3), seed) for seed in range(4)]
    alone = [restorer.restore(picture, seed=seed) for seed, picture in enumerate(pictures)]
    together: list[Any] = [None] * 4

    def work(seed: int) -> None:
        for _ in range(3):
            together[seed] = restorer.restore(pictures[seed], seed=seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


# Workers


@pytest.fixture
def pair(fake_plan: Plan):
    with Restorer(fake_plan, threads=1, workers=2, queue=4) as restorer:
        yield restorer


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run on another thread; the list gets what it returned, or its error."""
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(call())
        except MrsError as error:
            found.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, found


def elsewhere(call: Callable[[], Any]) -> Any:
    """What a call on another thread gives, or its error."""
    thread, found = in_thread(call)
    thread.join(LIMIT)
    assert not thread.is_alive()
    return found[0]


def entered(result: Any) -> Any:
    """What a call gave as a context."""
    return result if hasattr(result, "__enter__") else nullcontext(result)


def test_as_many_restores_run_at_a_time_as_there_are_workers(pair: Restorer, fake) -> None:
    pictures = [bytes_of((8, 8, 3), seed) for seed in range(2)]
    alone = [pair.restore(picture, seed=seed) for seed, picture in enumerate(pictures)]
    both = threading.Barrier(2)

    class Meeting(fake.make):  # type: ignore[misc]
        def evaluate(self, step: int) -> None:
            # Neither goes on before the other has begun.
            both.wait(LIMIT)
            super().evaluate(step)

    fake.make = Meeting
    with Restorer(pair.plan, threads=1, workers=2) as meeting:
        running = [in_thread(lambda k=k: meeting.restore(pictures[k], seed=k)) for k in range(2)]
        for (thread, found), expected in zip(running, alone, strict=True):
            thread.join(LIMIT)
            np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_many_threads_give_the_pictures_of_one(tiny, name: str) -> None:
    pictures = [bytes_of((15, 22, 3), seed) for seed in range(6)]
    with Restorer(tiny.plan(name), threads=1) as restorer:
        alone = [restorer.restore(picture, seed=seed) for seed, picture in enumerate(pictures)]
    with Restorer(tiny.plan(name), threads=1, workers=2) as restorer:
        running = [in_thread(lambda k=k: [restorer.restore(pictures[k], seed=k) for _ in range(3)]) for k in range(6)]
        for (thread, found), expected in zip(running, alone, strict=True):
            thread.join(LIMIT)
            for restored in found[0]:
                np.testing.assert_array_equal(restored, expected)


@pytest.mark.parametrize(("threads", "workers", "each"), [(5, 2, 2), (4, 1, 4), (1, 3, 1)])
def test_workers_share_the_threads(
    fake, fake_plan: Plan, monkeypatch: pytest.MonkeyPatch, threads: int, workers: int, each: int
) -> None:
    asked: list[int] = []
    compile_ = fake.compile
    monkeypatch.setattr(fake, "compile", lambda *given: (asked.append(given[-1].threads), compile_(*given))[1])
    with Restorer(fake_plan, threads=threads, workers=workers) as restorer:
        restorer.warm_up(8, 8)
    assert asked == [each] * workers


def test_workers_share_the_memory(fake, fake_plan: Plan, picture) -> None:
    for workers, shape in ((1, (1, 6, 16, 24)), (2, (1, 6, 12, 12))):
        with Restorer(changed(fake_plan, engine=None), memory=160 * 16 * 24, workers=workers) as restorer:
            restorer.restore(picture)
        assert fake.compiled[-1] == shape


def test_warming_up_compiles_and_runs_on_every_worker(pair: Restorer, fake) -> None:
    pair.warm_up(7, 12, batch=2, dtype="float32", tensors=True)
    assert fake.compiled == [(2, 6, 8, 12)] * 2
    assert [network.evaluated for network in fake.networks] == [[0, 1, 2]] * 2
    with pair.lend(bytes_of((2, 7, 12, 3))):
        elsewhere(lambda: pair.restore(bytes_of((2, 7, 12, 3))))
    assert len(fake.compiled) == 2


@pytest.mark.parametrize("size", [(0, 8), (8, -1), (8, 8, 0)], ids=str)
def test_no_picture_has_such_a_size(restorer: Restorer, fake, size: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="cannot warm up for"):
        restorer.warm_up(*size)
    assert fake.compiled == []


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "", np.uint8], ids=repr)
def test_no_picture_is_kept_in_such_a_type(restorer: Restorer, dtype: Any) -> None:
    with pytest.raises(InputError, match="cannot warm up for 1 x 8x8 of"):
        restorer.warm_up(8, 8, dtype=dtype)


# Calls that wait


def test_a_deadline_reaches_the_queue(restorer: Restorer, picture) -> None:
    out = np.full_like(picture, 7)
    calls = [
        lambda: restorer.restore(picture, timeout=0.01),
        lambda: restorer.restore_into(picture, out, timeout=0.01),
        lambda: restorer.lend(picture, timeout=0.01).__enter__(),
        lambda: restorer.restore(picture, tile=8, timeout=0),
    ]
    with restorer.lend(picture):
        for call in calls:
            assert isinstance(elsewhere(call), DeadlineError)
    assert (out == 7).all()
    # With a free worker there is nothing to wait for.
    restorer.restore(picture, timeout=0)
    restorer.restore(picture, tile=8, timeout=0)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_that_is_none(restorer: Restorer, picture, timeout: float) -> None:
    for call in (restorer.restore, restorer.lend):
        with pytest.raises(InputError, match="timeout"), entered(call(picture, timeout=timeout)):
            pytest.fail("went on")


def test_a_cancellation_reaches_the_queue(restorer: Restorer, fake, picture) -> None:
    cancellation = Cancellation()
    with restorer.lend(picture):
        waiting = [
            in_thread(lambda: restorer.restore(picture, cancellation=cancellation)),
            in_thread(lambda: restorer.lend(picture, cancellation=cancellation).__enter__()),
        ]
        cancellation.cancel()
        for thread, found in waiting:
            thread.join(LIMIT)
            assert isinstance(found[0], CancelledError)
    with pytest.raises(CancelledError):
        restorer.restore_into(picture, picture, cancellation=cancellation)
    assert len(fake.networks) == 1
    restorer.restore(picture)


def test_a_cancellation_ends_a_restore_between_two_tiles(fake, fake_plan: Plan, picture) -> None:
    cancellation = Cancellation()

    class Cancelling(fake.make):  # type: ignore[misc]
        def evaluate(self, step: int) -> None:
            super().evaluate(step)
            cancellation.cancel()

    fake.make = Cancelling
    out = np.full_like(picture, 7)
    with Restorer(fake_plan) as restorer:
        with pytest.raises(CancelledError):
            restorer.restore_into(picture, out, tile=8, cancellation=cancellation)
        # One tile of three steps.
        assert fake.networks[0].evaluated == [0, 1, 2]
        assert (out == 7).all()
        restorer.restore(picture, tile=8)


@pytest.mark.parametrize("queue", [0, 1])
def test_the_queue_has_the_length_that_was_asked_for(fake_plan: Plan, picture, queue: int) -> None:
    with Restorer(fake_plan, queue=queue) as restorer:
        with restorer.lend(picture):
            answer = elsewhere(lambda: restorer.restore(picture, timeout=0.01))
        assert isinstance(answer, DeadlineError if queue else BusyError)


def test_wrong_pictures_are_told_without_waiting(fake_plan: Plan, picture) -> None:
    with Restorer(fake_plan, queue=0) as restorer, restorer.lend(picture):
        for wrong in (lambda: restorer.restore(picture[0]), lambda: restorer.restore(picture, seed=-1)):
            assert isinstance(elsewhere(wrong), InputError)


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


def test_there_is_nothing_to_wait_for_on_a_cpu(pair: Restorer, picture) -> None:
    pair.synchronize()
    pair.restore(picture)
    pair.synchronize()


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


PROGRAM = """
import sys
import numpy as np
import mrs
with mrs.load(sys.argv[1], backend=sys.argv[2], threads=1) as restorer:
    print(restorer.restore(np.full((15, 22, 3), 100, np.uint8)).shape)
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_restoring_loads_neither_torch_nor_onnx(tiny, tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.mrsplan"
    tiny.plan("openvino").save(path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), name], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    shape, modules = done.stdout.splitlines()
    assert shape == "(15, 22, 3)"
    assert not {"torch", "onnx", "tensorrt", "triton", "PIL"} & set(modules.split())
    assert {"openvino", "onnxruntime"} & set(modules.split()) == {name}
