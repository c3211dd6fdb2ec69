"""The arrays of a chain begin where wide accesses may, do not overlap, and travel in one copy each way."""

from __future__ import annotations

import pytest
import torch

from mrs.runtime.cuda.arena import Arena, Block, Spec
from tests.runtime.cuda.double import Double

SPECS = {
    "key": Spec((4,), torch.uint32),
    "none": Spec((0, 3, 4), torch.float32),
    "picture": Spec((1, 3, 5, 3), torch.uint8),
    "one": Spec((1,), torch.int32),
    "state": Spec((2, 3, 7, 11), torch.float32),
    "half": Spec((129,), torch.float16),
    "scalar": Spec((), torch.float32),
}


@pytest.fixture
def block(device: Double) -> Block:
    return Block(device.memory, SPECS)


def test_the_size_of_a_spec_is_in_bytes() -> None:
    sizes = {name: spec.size for name, spec in SPECS.items()}
    assert sizes == {"key": 16, "none": 0, "picture": 45, "one": 4, "state": 1848, "half": 258, "scalar": 4}


@pytest.mark.parametrize("name", SPECS)
def test_an_array_is_as_asked_for_and_dense(block: Block, name: str) -> None:
    array = block[name]
    assert (tuple(array.shape), array.dtype) == (SPECS[name].shape, SPECS[name].dtype)
    assert array.is_contiguous()
    # Of nothing there is no address.
    assert array.data_ptr() % 256 == 0
    assert not array.view(torch.uint8).any() if array.shape else array == 0


def test_arrays_lie_in_one_piece_in_their_order_and_apart(block: Block) -> None:
    end = block.all.data_ptr()
    for name, spec in SPECS.items():
        if spec.size:
            assert block[name].data_ptr() == end, name
            end += -(-spec.size // 256) * 256
    assert end == block.all.data_ptr() + block.all.numel()


def test_writing_one_array_leaves_the_others(block: Block) -> None:
    for name in SPECS:
        block[name].fill_(1)
    assert all((block[name] == 1).all() for name in SPECS)


@pytest.mark.parametrize("specs", [{}, {"none": Spec((0,), torch.float32)}], ids=["no array", "an empty array"])
def test_a_block_of_nothing(device: Double, specs: dict[str, Spec]) -> None:
    block = Block(device.memory, specs)
    assert block.all.numel() == 0
    assert all(block[name].numel() == 0 for name in specs)


def test_one_copy_takes_all_arrays_each_way(device: Double) -> None:
    arena = Arena(device, up=SPECS, down=SPECS, here={})
    for name in SPECS:
        arena.host_up[name].fill_(1)
        arena.down[name].fill_(2)
    arena.up.all.copy_(arena.host_up.all)
    arena.host_down.all.copy_(arena.down.all)
    assert all((arena.up[name] == 1).all() and (arena.host_down[name] == 2).all() for name in SPECS)


def test_the_hosts_arrays_can_be_copied_in_a_capture(device: Double) -> None:
    arena = Arena(device, up=SPECS, down=SPECS, here=SPECS)

    def copies() -> None:
        device.copy(arena.up.all, arena.host_up.all)
        device.copy(arena.host_down["one"], arena.down["one"])

    assert device.capture(device.stream(), copies).names == ["copy up", "copy down"]


def test_its_size_is_what_it_takes_of_the_device_and_given_back_with_it(device: Double) -> None:
    arena = Arena(device, up={"one": SPECS["one"]}, down={"state": SPECS["state"]}, here=SPECS)
    assert arena.size == device.taken == 256 + 2048 + 256 + 256 + 256 + 2048 + 512 + 256
    del arena
    assert device.taken == 0


@pytest.mark.parametrize("limit", [0, 256, 2303])
def test_too_little_memory_is_the_devices_own_error(limit: int) -> None:
    device = Double(limit=limit)
    with pytest.raises(device.OutOfMemory):
        Arena(device, up={"one": SPECS["one"]}, down={"state": SPECS["state"]}, here={})
    assert device.taken <= limit
