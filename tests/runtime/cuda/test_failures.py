"""What goes wrong on a GPU is told with its place and a way out, and the next restore works."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mrs.runtime.errors import BackendError, DeviceError, DeviceMemoryError, InputError, MrsError
from tests.runtime.cuda.behaviour import FailureError, FatalError

pytestmark = pytest.mark.slow(9)

SMALL = (1, 8, 8)


def restored(restorer: Any, gpu: Any, given: Any, tensors: bool) -> None:
    """Restore as an array or as a tensor, and wait."""
    if tensors:
        restorer.restore(gpu.device.upload(given))
        restorer.synchronize()
    else:
        restorer.restore(given)


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
    assert "restore in tiles, or in smaller batches" in e.value.hint
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
    assert "restoring in tiles of 16" in caplog.text
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


# Other failures of the device

NODES = [
    ("copy up", "upload"),
    ("start_pixels", "start"),
    ("network 0", "network of step 0"),
    ("network 2", "network of step 2"),
    ("count_pixels 1", "threshold of step 1"),
    ("find", "threshold of step 0"),
    ("choose", "threshold of step 0"),
    ("step_pixels 0", "step of step 0"),
    ("step_pixels 1", "step of step 1"),
    ("audit_values", "audit of step 2"),
    ("finish_pixels 2", "finish of step 2"),
]
UNSPECIFIED = FailureError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later")


@pytest.fixture
def clamped(gpu) -> Any:
    """A restorer with every kind of node."""
    with gpu.load(gpu.plan(clamp="threshold")) as restorer:
        yield restorer


@pytest.mark.parametrize(("name", "where"), [*NODES, ("copy down", "download")])
def test_a_failure_names_what_failed_and_the_next_restore_works(clamped, gpu, pictures, name, where) -> None:
    given = pictures((16, 16))
    expected = clamped.restore(given, 3)
    gpu.device.fail[name] = UNSPECIFIED
    with pytest.raises(DeviceError) as error:
        clamped.restore(given, 3)
    assert error.value.message == f"the GPU failed in {where}: CUDA error: unspecified launch failure"
    assert error.value.hint == "restore again, or on another backend"
    assert error.value.__cause__ is UNSPECIFIED
    gpu.device.fail.clear()
    np.testing.assert_array_equal(clamped.restore(given, 3), expected)
    # Nothing that the failure may have spoilt is used again.
    assert (len(gpu.backend.networks), gpu.device.captures) == (2, 2)


@pytest.mark.parametrize(("name", "where"), NODES[1:])
def test_a_failure_with_tensors_is_told_by_synchronize(clamped, gpu, pictures, name, where) -> None:
    given = pictures((16, 16))
    image = gpu.device.upload(given)
    clamped.warm_up(16, 16, tensors=True)
    gpu.device.fail[name] = UNSPECIFIED
    clamped.restore(image, 3)
    with pytest.raises(DeviceError, match=f"^the GPU failed in {where}: CUDA error: unspecified launch failure"):
        clamped.synchronize()
    gpu.device.fail.clear()
    result = clamped.restore(image, 3)
    clamped.synchronize()
    gpu.device.wait(gpu.device.default)
    np.testing.assert_array_equal(result.numpy(), clamped.restore(given, 3))


def test_a_failure_is_named_without_graphs_too(gpu, pictures) -> None:
    with gpu.load(graphs=False) as restorer:
        gpu.device.fail["step_pixels 1"] = UNSPECIFIED
        with pytest.raises(DeviceError, match="the GPU failed in step of step 1: "):
            restorer.restore(pictures((16, 16)))


@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
def test_a_failure_that_does_not_come_again(clamped, gpu, pictures, tensors: bool) -> None:
    clamped.warm_up(16, 16, tensors=True)
    gpu.device.fail["step_pixels 1"], gpu.device.flaky = UNSPECIFIED, True
    with pytest.raises(DeviceError, match="the GPU failed, but not again in the same restore: CUDA error") as error:
        restored(clamped, gpu, pictures((16, 16)), tensors)
    assert error.value.hint == "restore again"
    clamped.restore(pictures((16, 16)))


@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
@pytest.mark.parametrize("name", ["start_pixels", "network 1", "finish_pixels"])
def test_a_device_that_does_not_recover(gpu, pictures, name: str, tensors: bool) -> None:
    restorer = gpu.load()
    restorer.warm_up(16, 16, tensors=True)
    given = pictures((16, 16))
    image = gpu.device.upload(given)
    gpu.device.fail[name] = FatalError("CUDA error: an illegal memory access was encountered\nand so on")
    with pytest.raises(DeviceError, match="the GPU failed and does not recover: CUDA error: an illegal") as error:
        restored(restorer, gpu, given, tensors)
    assert "and so on" not in error.value.message
    assert "end this process" in error.value.hint
    # Every later call says so too, as an error of ours, and it can be closed.
    for each in (image, given):
        with pytest.raises(BackendError, match="an illegal memory access"):
            restorer.restore(each)
    restorer.close()


def test_a_failure_drops_the_chains_of_its_worker_alone(gpu, pictures) -> None:
    with gpu.load(workers=2) as restorer:
        restorer.warm_up(8, 8)
        gpu.device.fail["step_pixels"] = UNSPECIFIED
        with pytest.raises(DeviceError):
            restorer.restore(pictures((16, 16)))
        gpu.device.fail.clear()
        restorer.warm_up(8, 8)
        restorer.warm_up(16, 16)
    assert gpu.device.captures == 4 + 2


@pytest.mark.parametrize(
    ("name", "when"), [("copy", "while its table is copied"), ("finish_planes", "during its first run")]
)
def test_a_failure_before_the_first_restore_says_when(gpu, pictures, name: str, when: str) -> None:
    with gpu.load() as restorer:
        gpu.device.fail[name] = UNSPECIFIED
        with pytest.raises(BackendError, match=f"^the GPU failed {when}: CUDA error: unspecified launch failure$"):
            restorer.restore(pictures((6, 6)))
        gpu.device.fail.clear()
        restorer.restore(pictures((6, 6)))


def test_a_failure_of_the_compiler_says_when(gpu, pictures, monkeypatch) -> None:
    def refuse(*arguments: Any) -> Any:
        raise UNSPECIFIED

    with gpu.load() as restorer:
        monkeypatch.setattr(gpu.backend, "compile", refuse)
        with pytest.raises(BackendError, match=r"^the GPU failed while the network is compiled: CUDA error: [a-z ]*$"):
            restorer.restore(pictures((6, 6)))


# NaN


@pytest.mark.parametrize("graphs", [True, False], ids=["graph", "loop"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("step", [0, 1, 2])
def test_nan_names_its_step_and_a_way_out(gpu, pictures, step: int, value: float, graphs: bool) -> None:
    given = pictures((2, 6, 5))
    with gpu.load(graphs=graphs) as restorer:
        expected = restorer.restore(given, 3)
        network = gpu.backend.networks[-1]
        network.spoilt = {step: value}
        with pytest.raises(BackendError, match=f"^the network gave infinities or NaN at step {step} of 3 ") as error:
            restorer.restore(given, 3)
        assert 'precision="fp32"' in error.value.hint
        network.spoilt.clear()
        captures = gpu.device.captures
        np.testing.assert_array_equal(restorer.restore(given, 3), expected)
        assert gpu.device.captures == captures


@pytest.mark.parametrize("bound", [False, True], ids=["copied", "bound"])
@pytest.mark.parametrize("step", [0, 2])
def test_nan_with_tensors_is_told_by_synchronize(restorer, gpu, pictures, step: int, bound: bool) -> None:
    given = pictures((1, 16, 16))
    image, out = gpu.device.upload(given), gpu.device.empty(given.shape, "uint8")
    restorer.restore_into(image, out, 3, bound=bound)
    restorer.synchronize()
    network = gpu.backend.networks[-1]
    network.spoilt = {step: float("nan")}
    restorer.restore_into(image, out, 3, bound=bound)
    # It is told even if later restores were fine.
    with pytest.raises(BackendError, match=f"^the network gave infinities or NaN at step {step} of 3 "):
        restorer.synchronize()
    network.spoilt.clear()
    restorer.synchronize()
    restorer.restore_into(image, out, 3, bound=bound)
    restorer.synchronize()
    gpu.device.wait(gpu.device.default)
    np.testing.assert_array_equal(out.numpy(), restorer.restore(given, 3))


def test_nan_is_told_even_if_a_later_restore_is_fine(restorer, gpu, pictures) -> None:
    image = gpu.device.upload(pictures((16, 16)))
    network = gpu.backend.networks[-1]
    network.spoilt = {1: float("nan")}
    restorer.restore(image)
    gpu.device.wait(gpu.device.default)
    network.spoilt.clear()
    restorer.restore(image)
    with pytest.raises(BackendError, match="infinities or NaN in a restore since the last check"):
        restorer.synchronize()
    restorer.synchronize()


def test_nan_with_tensors_is_no_fault_of_the_next_array(restorer, gpu, pictures) -> None:
    given = pictures((16, 16))
    expected = restorer.restore(given, 3)
    network = gpu.backend.networks[-1]
    restorer.warm_up(16, 16, tensors=True)
    network.spoilt = {1: float("nan")}
    restorer.restore(gpu.device.upload(given), 3)
    gpu.device.catch_up(gpu.device.default)
    network.spoilt.clear()
    np.testing.assert_array_equal(restorer.restore(given, 3), expected)
    with pytest.raises(BackendError, match="infinities or NaN in a restore since the last check"):
        restorer.synchronize()
    restorer.synchronize()


def test_nan_is_told_of_a_chain_that_is_gone(gpu, pictures, caplog) -> None:
    # Memory for one of them at a time.
    with gpu.load(memory=160 * 20 * 20) as restorer:
        network = gpu.backend.networks[-1]
        network.spoilt = {1: float("nan")}
        restorer.restore(gpu.device.upload(pictures((16, 16))))
        restorer.restore(pictures((20, 20)))
        assert "infinities or NaN at step 1 of 3" in caplog.text
        with pytest.raises(BackendError, match="infinities or NaN at step 1 of 3"):
            restorer.synchronize()
        restorer.synchronize()


def test_nan_in_a_picture_that_was_restored_in_place_names_no_step(restorer, gpu, pictures) -> None:
    image = gpu.device.upload(pictures((16, 16)))
    restorer.restore_into(image, image, bound=True)
    gpu.backend.networks[-1].spoilt = {1: float("nan")}
    restorer.restore_into(image, image, bound=True)
    with pytest.raises(BackendError, match=r"^the network gave infinities or NaN \("):
        restorer.synchronize()
    restorer.synchronize()


def test_nan_that_does_not_come_again(gpu, pictures) -> None:
    # A replay does not ask the network, what is launched one by one does.
    gpu.backend.trouble = lambda network, step: network.spoilt.clear()
    with gpu.load() as restorer:
        gpu.backend.networks[-1].spoilt = {1: float("nan")}
        with pytest.raises(BackendError, match="gave infinities or NaN, but not again in the same restore"):
            restorer.restore(pictures((16, 16)))
        restorer.restore(pictures((16, 16)))


def test_a_device_that_fails_while_nan_is_looked_for(gpu, pictures) -> None:
    def fail(network: Any, step: int) -> None:
        if step == 1 and network.spoilt:
            raise UNSPECIFIED

    gpu.backend.trouble = fail
    with gpu.load() as restorer:
        gpu.backend.networks[-1].spoilt = {2: float("nan")}
        with pytest.raises(BackendError, match="infinities or NaN and then failed: CUDA error: unspecified"):
            restorer.restore(pictures((16, 16)))


# Errors of ours


@pytest.mark.parametrize(
    "error", [BackendError("the engine fails", hint="try another"), InputError("no")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
def test_errors_of_ours_pass_unchanged(gpu, pictures, error: MrsError, tensors: bool) -> None:
    wanted: list[Exception] = []

    def fail(network: Any, step: int) -> None:
        if wanted and step == 1:
            raise wanted[0]

    gpu.backend.trouble = fail
    given = pictures((16, 16))
    with gpu.load(graphs=False) as restorer:
        restorer.warm_up(16, 16, tensors=True)
        wanted.append(error)
        with pytest.raises(type(error)) as raised:
            restorer.restore(gpu.device.upload(given) if tensors else given)
        assert raised.value is error
        wanted.clear()
        restorer.restore(given)
    # Nothing was spoilt, so nothing was made anew.
    assert len(gpu.backend.networks) == 1


def test_a_bug_is_no_failure_of_the_device(gpu, pictures) -> None:
    bugs: list[Callable[[], object]] = []
    gpu.backend.trouble = lambda network, step: [bug() for bug in bugs]
    with gpu.load(graphs=False) as restorer:
        bugs.append({}.popitem)
        with pytest.raises(KeyError):
            restorer.restore(pictures((16, 16)))
        bugs.clear()
        restorer.restore(pictures((16, 16)))


def test_all_are_waited_for_and_one_error_is_told(gpu, pictures) -> None:
    with gpu.load() as restorer:
        for side in (8, 16):
            restorer.warm_up(side, side, tensors=True)
        for network in gpu.backend.networks:
            network.spoilt = {1: float("nan")}
        for side in (8, 16):
            restorer.restore(gpu.device.upload(pictures((side, side))))
        with pytest.raises(BackendError, match="infinities or NaN at step 1 of 3"):
            restorer.synchronize()
        # Nothing is left for later.
        restorer.synchronize()
