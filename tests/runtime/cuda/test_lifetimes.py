"""Tensors go in and out without the host waiting; what is bound, lent or dropped lives as long as it is said to."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from mrs.runtime.errors import InputError
from tests.runtime.cuda.behaviour import FailureError

pytestmark = pytest.mark.slow(6)


@pytest.fixture
def image(gpu, pictures) -> Any:
    return gpu.device.upload(pictures((1, 16, 16))[0])


@pytest.fixture
def out(gpu, image) -> Any:
    return gpu.device.empty(image.shape, "uint8")


@contextmanager
def no_collection() -> Iterator[None]:
    """What is let go of must go at once: memory of a GPU cannot wait for the collection of cycles."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def done(gpu: Any, tensor: Any) -> Any:
    """What stands in a tensor when the caller's stream has done its work."""
    gpu.device.wait(gpu.device.current())
    return tensor.numpy().copy()


# In and out


@pytest.mark.parametrize("shape", [(16, 16), (2, 7, 5)], ids=str)
@pytest.mark.parametrize("kind", ["uint8", "float32", "float16", "float64"])
def test_tensors_are_restored_as_arrays_are(restorer, gpu, pictures, shape: tuple[int, ...], kind: str) -> None:
    array = pictures(shape, kind)
    restored = restorer.restore(gpu.device.upload(array), 3)
    expected = restorer.restore(array, 3)
    assert isinstance(restored, torch.Tensor)
    np.testing.assert_array_equal(done(gpu, restored), expected)


def test_the_host_does_not_wait_for_tensors(restorer, gpu, image) -> None:
    restorer.warm_up(16, 16, tensors=True)
    gpu.device.taken_log()
    restorer.restore(image)
    restorer.restore(image, 1)
    assert gpu.device.taken_log() == [
        "stream 1 follows default",
        "stream 1: copy",  # of the seed
        "stream 1: copy",
        "stream 1: replay",
        "stream 1: copy",
        "default follows stream 1",
        "keep for stream 1",
        "keep for stream 1",
    ] * 2  # fmt: skip


def test_the_callers_streams_are_followed_and_follow(restorer, gpu, image, out) -> None:
    expected = restorer.restore(image.numpy(), 3)
    stream, filled, read = gpu.device.stream(), torch.zeros_like(image), torch.zeros_like(image)
    with gpu.device.on(stream):
        # The picture is in the making when the restore is called, and the result is read before it is there.
        gpu.device.give("fill", lambda: filled.copy_(image))
        restorer.restore_into(filled, out, 3)
        gpu.device.give("spoil", lambda: filled.zero_())
        gpu.device.give("read", lambda: read.copy_(out))
    gpu.device.wait(stream)
    np.testing.assert_array_equal(read.numpy(), expected)


def test_a_host_restore_after_one_of_a_tensor_that_is_not_done(restorer, gpu, image, pictures) -> None:
    other = pictures((1, 16, 16), seed=1)[0]
    expected = restorer.restore(image.numpy(), 3), restorer.restore(other, 4)
    restored = restorer.restore(image, 3)
    np.testing.assert_array_equal(restorer.restore(other, 4), expected[1])
    np.testing.assert_array_equal(done(gpu, restored), expected[0])


def test_two_callers_on_one_worker_do_not_mix(restorer, gpu, image, pictures) -> None:
    other = gpu.device.upload(pictures((1, 16, 16), seed=1)[0])
    restored = []
    for stream, each in zip((gpu.device.stream(), gpu.device.stream()), (image, other), strict=True):
        with gpu.device.on(stream):
            restored.append((stream, restorer.restore(each)))
    for (stream, result), each in reversed(list(zip(restored, (image, other), strict=True))):
        gpu.device.wait(stream)
        np.testing.assert_array_equal(result.numpy(), restorer.restore(each.numpy()))


@pytest.mark.parametrize("bound", [False, True])
def test_a_tensor_can_be_restored_in_place(restorer, gpu, image, bound: bool) -> None:
    expected = restorer.restore(image.numpy(), 3)
    restorer.restore_into(image, image, 3, bound=bound)
    np.testing.assert_array_equal(done(gpu, image), expected)


def test_strided_tensors_are_read_and_written(restorer, gpu, pictures) -> None:
    array = pictures((2, 6, 10))
    turned, target = gpu.device.upload(array).permute(0, 2, 1, 3), gpu.device.empty((2, 20, 6, 3), "uint8")[:, ::2]
    restorer.restore_into(turned, target, 3)
    np.testing.assert_array_equal(done(gpu, target), restorer.restore(array.transpose(0, 2, 1, 3), 3))


class Speaker:
    """A picture of a library that speaks DLPack and nothing else."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()


def test_pictures_of_other_libraries_go_in_and_out(restorer, gpu, image, out) -> None:
    expected = restorer.restore(image.numpy(), 3)
    np.testing.assert_array_equal(done(gpu, restorer.restore(Speaker(image), 3)), expected)
    for bound in (False, True):
        out.zero_()
        restorer.restore_into(Speaker(image), Speaker(out), 3, bound=bound)
        np.testing.assert_array_equal(done(gpu, out), expected)
    with restorer.lend(Speaker(image), 3) as view:
        np.testing.assert_array_equal(done(gpu, view), expected)


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1), (16, 16, 4), (1, 1, 16, 16, 3), (0, 16, 3)], ids=str)
def test_a_tensor_of_another_shape_is_no_picture(restorer, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"is not \(H, W, 3\)"):
        restorer.restore(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool])
def test_a_tensor_of_another_type_is_no_picture(restorer, dtype: Any) -> None:
    with pytest.raises(InputError, match="neither uint8 nor float"):
        restorer.restore(torch.zeros(4, 4, 3, dtype=dtype))


@pytest.mark.parametrize(
    "given",
    [torch.empty(8, 8, 3, dtype=torch.uint8), torch.empty(16, 16, 3, dtype=torch.float16)],
    ids=["size", "type"],
)
def test_a_tensor_that_cannot_take_the_result(restorer, image, given: Any) -> None:
    with pytest.raises(InputError, match="out is") as error:
        restorer.restore_into(image, given)
    assert "(16, 16, 3)" in error.value.hint


def test_a_tensor_and_an_array_do_not_mix(restorer, image) -> None:
    for pair in ((image, image.numpy()), (image.numpy(), image)):
        with pytest.raises(InputError, match="lie on different devices"):
            restorer.restore_into(*pair)


def test_a_tensor_of_the_host_is_a_picture_of_the_host(restorer, pictures) -> None:
    array = pictures((1, 16, 16))[0]
    restored = restorer.restore(torch.from_numpy(array))
    assert isinstance(restored, np.ndarray)
    np.testing.assert_array_equal(restored, restorer.restore(array))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_modes_of_torch_do_not_matter(restorer, gpu, pictures, mode: Any) -> None:
    # Tensors made in one mode must be of use in another: the chain's by the next call, the result by the caller.
    array = pictures((6, 6), "float32")
    with mode():
        first = restorer.restore(gpu.device.upload(array), 3)
    second = restorer.restore(gpu.device.upload(array), 3)
    restorer.restore_into(gpu.device.upload(array), first, 3)
    np.testing.assert_array_equal(done(gpu, first), done(gpu, second))
    np.testing.assert_array_equal(restorer.restore(array, 3), second.numpy())


@pytest.mark.parametrize("trained", [False, True])
def test_a_restored_picture_is_not_kept(restorer, gpu, pictures, trained: bool) -> None:
    # A picture that a network is trained through would drag that network's whole graph along.
    picture = gpu.device.upload(pictures((6, 6), "float32")).requires_grad_(trained)
    restored = restorer.restore(picture)
    gpu.device.wait(gpu.device.default)
    assert not restored.requires_grad
    gone = weakref.ref(picture)
    del picture
    gc.collect()
    assert gone() is None
    restorer.restore(pictures((6, 6), "float32"))


# Bound tensors


def test_bound_tensors_are_not_copied_and_read_anew_by_each_replay(restorer, gpu, image, out) -> None:
    restorer.restore_into(image, out, 3, bound=True)
    first = done(gpu, out)
    captures = gpu.device.captures
    gpu.device.taken_log()
    image.copy_(image.flip(0))
    restorer.restore_into(image, out, 3, bound=True)
    log = gpu.device.taken_log()
    # The stream of all pictures of this size, for they share a network.
    assert log[:3] == ["stream 1 follows default", "stream 1: copy", "stream 1: replay"]
    assert log[3:] == ["default follows stream 1", "keep for stream 1", "keep for stream 1"]
    second = done(gpu, out)
    np.testing.assert_array_equal(second, restorer.restore(image.numpy(), 3))
    assert not np.array_equal(first, second)
    assert gpu.device.captures == captures


def test_bound_tensors_live_as_long_as_their_chain(gpu, image, pictures) -> None:
    restorer = gpu.load()
    out = gpu.device.empty(image.shape, "uint8")
    restorer.restore_into(image, out, 3, bound=True)
    taken = gpu.device.taken
    with no_collection():
        del out
        assert gpu.device.taken == taken
        restorer.close()
        # The image, which the test still has.
        assert gpu.device.taken == image.numel()


def test_other_tensors_are_bound_anew(restorer, gpu, image, out) -> None:
    restorer.restore_into(image, out, 3, bound=True)
    before = gpu.device.captures
    other = gpu.device.empty(image.shape, "uint8")
    restorer.restore_into(image, other, 3, bound=True)
    assert gpu.device.captures == before + 1
    np.testing.assert_array_equal(done(gpu, other), done(gpu, out))


def test_floats_are_bound_too(restorer, gpu, pictures) -> None:
    array = pictures((2, 5, 16), "float32")
    image, out = gpu.device.upload(array), gpu.device.empty(array.shape, "float32")
    restorer.restore_into(image, out, 3, bound=True)
    np.testing.assert_array_equal(done(gpu, out), restorer.restore(array, 3))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda image, out: (image.flip(0).permute(1, 0, 2), out),
        lambda image, out: (image, out.permute(1, 0, 2)),
        lambda image, out: (image.half(), out),
    ],
    ids=["strided image", "strided out", "half"],
)
def test_what_would_need_a_copy_is_not_bound(restorer, image, out, spoil: Any) -> None:
    with pytest.raises(InputError, match="only dense tensors of uint8 or float32 can be bound"):
        restorer.restore_into(*spoil(image, out), bound=True)


def test_arrays_are_not_bound(restorer, image) -> None:
    with pytest.raises(InputError, match="arrays of the host cannot be bound"):
        restorer.restore_into(image.numpy(), image.numpy().copy(), bound=True)


# Lent results


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [(16, 16), (2, 4, 5)], ids=str)
def test_a_lent_array_is_the_chains_own_until_the_next_restore(restorer, gpu, pictures, shape, kind: str) -> None:
    array = pictures(shape, kind)
    with restorer.lend(array, 3) as view:
        assert (view.shape, view.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(view, restored := view.copy())
    np.testing.assert_array_equal(restorer.restore(array, 3), restored)
    restorer.restore(array, 4)
    assert not np.array_equal(view, restored)


def test_a_lent_tensor_is_there_for_the_callers_stream(restorer, gpu, image) -> None:
    expected, read = restorer.restore(image.numpy(), 3), torch.zeros_like(image)
    stream = gpu.device.stream()
    gpu.device.taken_log()
    with gpu.device.on(stream), restorer.lend(image, 3) as view:
        assert view.shape == image.shape
        gpu.device.give("read", lambda: read.copy_(view))
    # The next restore, by another caller, comes after the read, which nobody waited for.
    restorer.restore(image, 4)
    assert not [line for line in gpu.device.taken_log()[-8:] if line.startswith("wait")]
    gpu.device.wait(gpu.device.default)
    np.testing.assert_array_equal(read.numpy(), expected)


def test_what_was_lent_is_followed_even_where_the_caller_fails(restorer, gpu, image) -> None:
    expected, read = restorer.restore(image.numpy(), 3), torch.zeros_like(image)
    stream = gpu.device.stream()

    def use() -> None:
        with gpu.device.on(stream), restorer.lend(image, 3) as view:
            gpu.device.give("read", lambda: read.copy_(view))
            raise KeyError("the caller's")

    with pytest.raises(KeyError, match="the caller's"):
        use()
    restorer.restore(image, 4)
    for each in (gpu.device.default, stream):
        gpu.device.wait(each)
    np.testing.assert_array_equal(read.numpy(), expected)


def test_a_lent_result_keeps_its_worker(restorer, image) -> None:
    with restorer.lend(image), pytest.raises(InputError, match="from within its own restore"):
        restorer.restore(image)
    restorer.restore(image)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, True], ids=str)
def test_a_wrong_seed_takes_no_worker(restorer, gpu, image, seed: Any) -> None:
    gpu.device.taken_log()
    for given in (image, image.numpy()):
        with pytest.raises(InputError, match="is not a whole number from 0"), restorer.lend(given, seed):
            raise AssertionError
        with pytest.raises(InputError, match="is not a whole number from 0"):
            restorer.restore(given, seed)
    assert gpu.device.taken_log() == []


# Chains


def test_a_chain_that_is_closed_has_done_its_work_and_gives_everything_back(make_chain, device, pictures) -> None:
    chain = make_chain()
    chain.warm_up(tensors=True)
    out = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    chain.restore_tensor(torch.from_numpy(pictures((1, 16, 16))), out, 3, device.default)
    with no_collection():
        chain.close()
        assert out.any()
        assert len(device.graphs) == 0
        del chain
        assert device.taken == 0


def test_a_chain_that_failed_is_closed_all_the_same(make_chain, device, pictures) -> None:
    chain = make_chain()
    chain.warm_up(tensors=True)
    device.fail["step_pixels"] = FailureError("launch failed")
    chain.restore_tensor(torch.from_numpy(pictures((1, 16, 16))), None, 3, device.default)
    chain.close()
    assert not chain.captured


def test_streams_go_with_their_sizes(gpu, pictures) -> None:
    # Memory for one of them at a time: a stream of each that is gone can be used again.
    with gpu.load(memory=160 * 36 * 36) as restorer, no_collection():
        for side in range(8, 37, 4):
            restorer.restore(pictures((36, side)))
            assert len(gpu.device.owned) <= 4
    assert len(gpu.device.owned) == 0
