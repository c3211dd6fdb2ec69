"""The sizes that a restorer on a GPU keeps: which goes first, what they share, and that none leaves memory behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch


def test_the_size_used_longest_ago_goes_first_when_its_work_is_done(gpu, pictures) -> None:
    # Memory for so few networks that the least number of sizes is kept.
    with gpu.load(memory=160 * 1000) as restorer:
        image = gpu.device.upload(pictures((4, 4)))
        restored = restorer.restore(image)  # with the plan's own the second size
        for width in (8, 12):
            restorer.restore(pictures((4, width)))
        restorer.restore(pictures((16, 16)))
        gpu.device.taken_log()
        restorer.restore(pictures((4, 20)))
        log = gpu.device.taken_log()
        assert log[0] == "wait for stream 2"
        assert restored.numpy().std() > 1
        compiled = len(gpu.backend.compiled)
        restorer.restore(pictures((16, 16)))
        assert len(gpu.backend.compiled) == compiled
        restorer.restore(image)
        assert len(gpu.backend.compiled) == compiled + 1


def test_sizes_kept_share_their_memory(gpu, pictures) -> None:
    with gpu.load(memory=160 * 600) as restorer:
        restorer.restore(pictures((16, 20)))
        compiled = len(gpu.backend.compiled)
        restorer.restore(pictures((16, 20)))
        assert len(gpu.backend.compiled) == compiled
        # 16 x 16 and 16 x 20 are 576 pixels, with 4 x 12 they would be too many.
        restorer.restore(pictures((4, 12)))
        restorer.restore(pictures((16, 20)))
        assert len(gpu.backend.compiled) == compiled + 1
        restorer.restore(pictures((16, 16)))
        assert len(gpu.backend.compiled) == compiled + 2


def test_bound_tensors_count_as_sizes_do(restorer, gpu, pictures) -> None:
    image = gpu.device.upload(pictures((16, 16)))
    outs = [gpu.device.empty(image.shape, "uint8") for _ in range(6)]
    for out in outs:
        restorer.restore_into(image, out, bound=True)
    assert len(gpu.device.graphs) <= 4 * 2
    restorer.synchronize()
    assert all(torch.equal(out, outs[0]) for out in outs)


def test_sizes_that_are_padded_alike_share_a_network_on_one_stream(gpu, on_cpu, pictures) -> None:
    sizes = [(16, 16), (13, 15), (14, 16), (16, 16), (13, 15)]
    with gpu.load() as restorer:
        given = [gpu.device.upload(pictures(size, seed=sum(size))) for size in sizes]
        # Nobody waits in between.
        results = [restorer.restore(each, seed) for seed, each in enumerate(given)]
        gpu.device.wait(gpu.device.default)
        arrays = [restorer.restore(each.numpy(), seed) for seed, each in enumerate(given)]
        assert len(gpu.backend.networks) == 1
        # Arrays and tensors, of three sizes.
        assert gpu.device.captures == 6
    for seed, (image, result, array) in enumerate(zip(given, results, arrays, strict=True)):
        np.testing.assert_array_equal(result.numpy(), array)
        expected = on_cpu.restore(image.numpy(), seed)
        np.testing.assert_allclose(array.astype(int), expected.astype(int), rtol=0, atol=1)


@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
def test_an_interrupt_costs_the_chains_whose_network_it_stopped(gpu, pictures, tensors: bool) -> None:
    class InterruptError(BaseException):
        pass

    wanted: list[int] = []

    def interrupt(network: Any, step: int) -> None:
        if wanted and step == 1:
            wanted.clear()
            raise InterruptError

    gpu.backend.trouble = interrupt
    given, other = pictures((16, 16)), pictures((15, 16))
    with gpu.load(graphs=False) as restorer:
        expected = [restorer.restore(each, 3) for each in (given, other)]
        restorer.warm_up(16, 16, tensors=True)
        restorer.warm_up(8, 8)
        assert len(gpu.backend.networks) == 2
        wanted.append(1)
        with pytest.raises(InterruptError):
            restorer.restore(gpu.device.upload(given) if tensors else given, 3)
        # Looking for errors is no proof that all is well.
        restorer.synchronize()
        for each, right in zip((given, other), expected, strict=True):
            np.testing.assert_array_equal(restorer.restore(each, 3), right)
        assert len(gpu.backend.networks) == 3
        restorer.warm_up(8, 8)
        assert len(gpu.backend.networks) == 3


def test_types_of_pictures_have_their_own_graphs(restorer, gpu, pictures) -> None:
    restorer.restore(pictures((16, 16)))
    assert gpu.device.captures == 1
    restorer.restore(pictures((16, 16), "float32"))
    assert gpu.device.captures == 2
    restorer.restore_into(pictures((16, 16)), np.empty((16, 16, 3), np.float32))
    assert gpu.device.captures == 3


def test_restores_leave_no_memory_behind(restorer, gpu, pictures) -> None:
    given = pictures((16, 16))
    image, out = gpu.device.upload(given), gpu.device.empty(given.shape, "uint8")
    restorer.warm_up(16, 16, tensors=True)
    taken, captures = gpu.device.taken, gpu.device.captures
    for seed in range(20):
        restorer.restore(given, seed)
        restorer.restore_into(image, out, seed)
    assert (gpu.device.taken, gpu.device.captures) == (taken, captures)
