"""A worker keeps its chains by padded shape within a bound, shares networks among them, and checks all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrs.runtime.errors import BackendError, CaptureError, DeviceError, DeviceMemoryError
from mrs.runtime.plan import Plan
from mrs.runtime.worker import FEWEST, MOST, Worker
from tests.runtime.fake_chains import BYTES, FakeDevice, Made, bound, worker_of

# What is kept


def test_a_size_has_one_chain(gpu_worker: Worker, made_chains: Made) -> None:
    chain = gpu_worker.chain((1, 8, 12), BYTES)
    assert gpu_worker.chain((1, 8, 12), BYTES) is chain
    others = [gpu_worker.chain(size, BYTES) for size in ((2, 8, 12), (1, 12, 8), (1, 8, 11))]
    assert gpu_worker.chain((1, 8, 12), BYTES) is chain
    assert len({id(each) for each in (chain, *others)}) == len(made_chains) == 4
    assert chain.size == (1, 8, 12)


def test_on_a_gpu_each_pair_of_types_has_its_own(gpu_worker: Worker, made_chains: Made) -> None:
    pairs = [(given, wanted) for given in ("uint8", "float32") for wanted in ("uint8", "float32")]
    for _ in range(2):
        for pair in pairs:
            assert gpu_worker.chain((1, 8, 8), pair).dtypes == pair
    assert len(made_chains) == 4


def test_on_a_cpu_one_serves_all_types(fake, fake_plan: Plan) -> None:
    worker = worker_of(fake_plan, fake)
    chain = worker.chain((1, 8, 12), BYTES)
    assert worker.chain((1, 8, 12), ("float32", "uint8")) is chain
    assert fake.compiled == [(1, 6, 8, 12)]


def test_tensors_that_are_bound_have_their_own(gpu_worker: Worker, made_chains: Made) -> None:
    plain = gpu_worker.chain((1, 8, 8), BYTES)
    tensors = [bound(4096), bound(8192)]
    chains = [gpu_worker.chain((1, 8, 8), BYTES, each) for each in tensors]
    assert [chain.bound for chain in chains] == tensors
    assert [gpu_worker.chain((1, 8, 8), BYTES, each) for each in tensors] == chains
    assert gpu_worker.chain((1, 8, 8), BYTES) is plain
    # The picture alone is not enough: the result goes elsewhere.
    moved = (tensors[0][0], tensors[1][1])
    assert gpu_worker.chain((1, 8, 8), BYTES, moved) not in chains
    assert len(made_chains) == 4


def test_the_least_recently_used_one_goes_first(gpu_worker: Worker, made_chains: Made) -> None:
    first, second, *_ = (gpu_worker.chain((1, height, 8), BYTES) for height in range(1, MOST + 1))
    gpu_worker.chain((1, 1, 8), BYTES)
    gpu_worker.chain((1, 99, 8), BYTES)
    assert [chain.closed for chain in (first, second)] == [False, True]
    assert len(made_chains.open()) == MOST
    assert gpu_worker.chain((1, 1, 8), BYTES) is first
    assert gpu_worker.chain((1, 2, 8), BYTES) is not second
    # Never more at a time, the one in the making included.
    assert max(made_chains.kept) == MOST - 1


@pytest.mark.parametrize(
    ("pixels", "graph", "most"),
    [(1 << 30, 0, MOST), (0, 0, FEWEST), (9 * (32 << 20) // 160 + 1, 0, 9), (9 * (34 << 20) // 160 + 1, 1 << 20, 9)],
)
def test_networks_take_as_much_memory_as_activations_may(
    fake, fake_plan: Plan, pixels: int, graph: int, most: int
) -> None:
    # 160 bytes a pixel; a network takes 32 MiB and twice its graph.
    worker = worker_of(replace(fake_plan, graph=bytes(graph)), fake, pixels)
    assert worker._most == most


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([(1, 10, 10), (1, 10, 20), (1, 10, 10)], [(1, 10, 10), (1, 10, 20)]),
        ([(1, 10, 10), (1, 10, 20), (1, 12, 11)], [(1, 10, 20), (1, 12, 11)]),
        ([(1, 10, 10), (1, 10, 20), (1, 20, 20)], [(1, 20, 20)]),
        ([(1, 10, 10), (2, 10, 10)], [(1, 10, 10), (2, 10, 10)]),
        ([(1, 10, 10), (3, 10, 10)], [(3, 10, 10)]),
        # One alone is made, however large: it was asked for.
        ([(1, 10, 10), (1, 50, 50)], [(1, 50, 50)]),
        ([(1, 50, 50), (1, 10, 10)], [(1, 10, 10)]),
    ],
    ids=str,
)
def test_all_together_share_the_pixels(
    fake, fake_plan: Plan, made_chains: Made, fake_device: FakeDevice, sizes: Any, kept: Any
) -> None:
    # Padded to 12x12, 12x20, and so on.
    worker = worker_of(fake_plan, fake, 432, fake_device)
    for size in sizes:
        worker.chain(size, BYTES)
        total = sum(
            count * (height + 2) * width for count, height, width in (chain.size for chain in made_chains.open())
        )
        assert total <= 432 or len(made_chains.open()) == 1
    assert [chain.size for chain in made_chains.open()] == kept


def test_room_is_made_first(fake, fake_plan: Plan, made_chains: Made, fake_device: FakeDevice) -> None:
    worker = worker_of(fake_plan, fake, 400, fake_device)
    for height in (20, 15, 12):
        worker.chain((1, height, 20), BYTES)
    assert made_chains.kept == [0, 0, 0]


# What shares a network


def test_on_a_gpu_all_of_one_shape_share_a_network_and_its_stream(gpu_worker: Worker, made_chains: Made, fake) -> None:
    first = gpu_worker.chain((1, 8, 8), BYTES)
    others = [
        gpu_worker.chain((1, 7, 5), BYTES),
        gpu_worker.chain((1, 8, 8), ("float32", "float32")),
        gpu_worker.chain((1, 8, 8), BYTES, bound(4096)),
    ]
    assert {(chain.network, chain.stream) for chain in others} == {(first.network, first.stream)}
    assert fake.compiled == [(1, 6, 8, 8)]
    # Another batch is another shape.
    assert gpu_worker.chain((2, 8, 8), BYTES).stream is not first.stream
    assert len(fake.compiled) == 2
    assert not any(chain.unfinished for chain in made_chains)


def test_a_network_outlives_the_chain_that_makes_room(
    fake, fake_plan: Plan, made_chains: Made, fake_device: FakeDevice
) -> None:
    worker = worker_of(fake_plan, fake, 64, fake_device)
    chains = [worker.chain((1, 8, 8), pair) for pair in (BYTES, ("float32", "float32"), BYTES)]
    assert [chain.closed for chain in made_chains] == [True, True, False]
    assert {chain.network for chain in chains} == {chains[0].network}
    assert len(fake.compiled) == 1


def test_where_memory_does_not_suffice_no_network_is_held_back(gpu_worker: Worker, made_chains: Made, fake) -> None:
    first = gpu_worker.chain((1, 8, 8), BYTES)
    made_chains.errors = [DeviceMemoryError("full")]
    second = gpu_worker.chain((1, 8, 7), BYTES)
    assert made_chains.open() == [second]
    assert second.network is not first.network


@pytest.mark.parametrize("error", [CaptureError("no"), KeyboardInterrupt()], ids=repr)
def test_chains_whose_network_was_run_for_another_that_failed_are_not_used_again(
    gpu_worker: Worker, made_chains: Made, error: Exception
) -> None:
    chains = [gpu_worker.chain((1, 8, 8), BYTES), gpu_worker.chain((1, 7, 8), BYTES)]
    apart = gpu_worker.chain((1, 4, 8), BYTES)
    made_chains.errors = [error]
    with pytest.raises(type(error)):
        gpu_worker.chain((1, 6, 8), BYTES)
    assert gpu_worker.chain((1, 8, 8), BYTES) not in chains
    assert [chain.closed for chain in chains] == [True, True]
    assert gpu_worker.chain((1, 4, 8), BYTES) is apart


# What went wrong meanwhile


def test_every_chain_is_checked(gpu_worker: Worker, made_chains: Made) -> None:
    gpu_worker.check()
    for height in (4, 8):
        gpu_worker.chain((1, height, 8), BYTES)
    gpu_worker.check()
    assert [chain.checked for chain in made_chains] == [1, 1]
    made_chains[1].error = BackendError("infinities or NaN at step 2 of 3")
    with pytest.raises(BackendError, match="at step 2 of 3"):
        gpu_worker.check()


def test_on_a_cpu_nothing_goes_wrong_meanwhile(fake, fake_plan: Plan) -> None:
    worker = worker_of(fake_plan, fake)
    worker.chain((1, 4, 8), BYTES)
    worker.check()
    # Neither clearing nor dropping asks a chain of a CPU for what only one of a GPU has.
    worker.failed(DeviceError("gone"))
    picture = np.zeros((1, 4, 8, 3), np.uint8)
    assert worker.chain((1, 4, 8), BYTES).restore_into(picture, None, 0).shape == picture.shape
    assert len(fake.compiled) == 2
    for height in range(1, 9):
        worker.chain((1, height, 8), BYTES)
