"""What does not fit into a GPU's memory is restored in tiles, or told where it must not be."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch

from mrs.runtime.errors import DeviceMemoryError

pytestmark = pytest.mark.slow(4)

SMALL = (1, 8, 8)


def pixels(network: Any) -> int:
    return network.packed[:, 0].numel()


# Out of memory


def while_compiled(gpu: Any) -> None:
    gpu.backend.most = 300


def while_buffers_are_made(gpu: Any) -> None:
    # 16 x 16 takes 37 kB, 32 x 32 takes 69, and what goes to make room 28.
    gpu.device.limit = gpu.device.taken + 38_000


def in_the_first_run(gpu: Any) -> None:
    def refuse(network: Any, step: int) -> None:
        if pixels(network) > 300:
            raise gpu.device.OutOfMemory("CUDA out of memory\nTried to allocate 20 MiB")

    gpu.backend.trouble = refuse


def when_captured(gpu: Any) -> None:
    def refuse(network: Any, step: int) -> None:
        if pixels(network) > 300 and gpu.device.capturing:
            raise gpu.device.OutOfMemory("CUDA out of memory\nTried to allocate 20 MiB")

    gpu.backend.trouble = refuse


@pytest.fixture(
    params=[while_compiled, while_buffers_are_made, in_the_first_run, when_captured], ids=lambda f: f.__name__
)
def cramped(request, gpu) -> Any:
    """A restorer for which 32 x 32 is too large at once."""
    with gpu.load(gpu.plan(shape=SMALL)) as restorer:
        request.param(gpu)
        yield restorer


def test_pictures_that_do_not_fit_are_restored_in_tiles(cramped, pictures, caplog) -> None:
    given = pictures((32, 32))
    result = cramped.restore(given, 3)
    assert "restoring in tiles of 16" in caplog.text
    assert "memory does not suffice for 1 x 32x32: " in caplog.text
    np.testing.assert_array_equal(result, cramped.restore(given, 3, tile=16))


@pytest.mark.parametrize("tile", [0, 32])
def test_tiles_that_were_asked_for_are_not_changed(cramped, pictures, tile: int) -> None:
    given = pictures((40, 40) if tile else (32, 32))
    with pytest.raises(DeviceMemoryError, match="memory does not suffice for 1 x 32x32: ") as e:
        cramped.restore(given, 3, tile=tile)
    assert "restore in tiles, or in smaller batches; by way of latents, smaller pictures" in e.value.hint
    assert isinstance(e.value, MemoryError)
    assert "Tried" not in e.value.message
    cramped.restore(pictures((16, 16)))


def test_tensors_that_do_not_fit_are_restored_in_tiles_too(cramped, gpu, pictures, caplog) -> None:
    given = pictures((32, 32))
    result = cramped.restore(gpu.device.upload(given), 3)
    assert "restoring in tiles of 16" in caplog.text
    np.testing.assert_array_equal(result.numpy(), cramped.restore(given, 3, tile=16))


def test_tensors_that_must_not_be_cut_are_not(cramped, gpu, pictures) -> None:
    image = gpu.device.upload(pictures((32, 32)))
    out = torch.zeros_like(image)
    with pytest.raises(DeviceMemoryError, match="memory does not suffice for 1 x 32x32: "):
        cramped.restore_into(image, out, tile=0)
    gpu.device.wait(gpu.device.default)
    assert not out.any()


def test_bound_tensors_are_never_cut(restorer, gpu, pictures) -> None:
    image = gpu.device.upload(pictures((32, 32)))
    while_compiled(gpu)
    with pytest.raises(DeviceMemoryError, match="memory does not suffice for 1 x 32x32: "):
        restorer.restore_into(image, image, bound=True)


def test_no_memory_for_a_tensors_result(restorer, gpu, pictures) -> None:
    image = gpu.device.upload(pictures((16, 16)))
    gpu.device.limit = gpu.device.taken
    with pytest.raises(DeviceMemoryError, match="memory does not suffice for 1 x 16x16: "):
        restorer.restore(image)


def test_tiles_shrink_until_they_fit(gpu, pictures, caplog) -> None:
    with gpu.load(gpu.plan(shape=SMALL)) as restorer:
        gpu.backend.most = 100
        restorer.restore(pictures((32, 20)), 3)
        assert [record.getMessage().rsplit(" ", 1)[1] for record in caplog.records] == ["8"]
    caplog.clear()
    gpu.backend.most = 20
    with gpu.load(gpu.plan(shape=(1, 4, 4))) as restorer:
        restorer.restore(pictures((40, 40)), 3)
    assert [record.getMessage().rsplit(" ", 1)[1] for record in caplog.records] == ["20", "8", "4"]


def test_what_did_not_fit_is_not_tried_again(cramped, gpu, pictures, caplog) -> None:
    given = pictures((32, 32))
    cramped.restore(given)
    gpu.backend.compiled.clear()
    caplog.clear()
    cramped.restore(given)
    assert all(shape[2:] <= (16, 16) for shape in gpu.backend.compiled)
    assert "restoring in tiles of 12" in caplog.text
    assert "does not suffice" not in caplog.text


def test_where_nothing_is_small_enough_it_says_so(gpu, pictures) -> None:
    with gpu.load(gpu.plan(shape=SMALL)) as restorer:
        gpu.backend.most = 3
        with pytest.raises(DeviceMemoryError, match="for 1 x 4x4"):
            restorer.restore(pictures((16, 16)), 3)


def test_a_lent_result_is_never_tiled(cramped, pictures) -> None:
    with pytest.raises(DeviceMemoryError, match="for 1 x 32x32"), cramped.lend(pictures((32, 32))):
        raise AssertionError


def test_out_of_memory_while_loading(gpu) -> None:
    gpu.device.limit = 1000
    with pytest.raises(DeviceMemoryError, match="for 1 x 4x4"):
        gpu.load()


def test_a_plan_for_a_size_that_does_not_fit_is_loaded_for_tiles(gpu, pictures, caplog) -> None:
    gpu.backend.most = 100
    with gpu.load() as restorer:
        assert "memory does not suffice for 1 x 16x16: CUDA out of memory: restoring in tiles of 8" in caplog.text
        assert gpu.device.captures == 1
        assert restorer.restore(pictures((16, 16))).any()


def test_sizes_kept_make_room_for_one_that_does_not_fit_beside_them(gpu, pictures, caplog) -> None:
    with gpu.load() as restorer:
        # 16 x 16 and 12 x 16 fit one at a time.
        gpu.device.limit = gpu.device.taken + 20_000
        expected = restorer.restore(pictures((16, 16)))
        gc.collect()
        gc.disable()
        try:
            restorer.restore(pictures((12, 16)))
            np.testing.assert_array_equal(restorer.restore(pictures((16, 16))), expected)
        finally:
            gc.enable()
    assert not caplog.records


def test_the_second_try_has_the_memory_of_the_first(gpu, pictures, caplog) -> None:
    failed = []

    def refuse_once(network: Any, step: int) -> None:
        if pixels(network) > 300 and not failed:
            failed.append(step)
            raise gpu.device.OutOfMemory("CUDA out of memory")

    gpu.backend.trouble = refuse_once
    with gpu.load() as restorer:
        # 32 x 32 takes 70 kB, 16 x 16, which goes to make room, 37.
        gpu.device.limit = gpu.device.taken + 100_000
        gc.collect()
        gc.disable()
        try:
            restorer.restore(pictures((32, 32)))
        finally:
            gc.enable()
    assert failed
    assert not caplog.records
