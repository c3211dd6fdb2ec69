"""A worker keeps its chains by size within a bound, and lets go of them where memory or the device fails."""

from __future__ import annotations

import math
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.runtime import worker as module
from mrs.runtime.errors import BackendError, CaptureError, DeviceError, DeviceMemoryError
from mrs.runtime.plan import Plan
from mrs.runtime.worker import CHAINS_KEPT, Worker

BYTES = ("uint8", "uint8")
PLENTY = 1 << 30


class FakeDevice:
    """A GPU, as far as a worker looks at it."""

    Failure = RuntimeError

    def __init__(self) -> None:
        self.released = 0

    def release(self) -> None:
        self.released += 1


class FakeChain:
    def __init__(self, size: tuple[int, ...], kinds: tuple[str, str], bound: Any) -> None:
        self.size, self.kinds, self.bound = size, kinds, bound
        self.closed, self.checked = False, 0
        self.error: Exception | None = None

    def close(self) -> None:
        self.closed = True

    def check(self) -> None:
        self.checked += 1
        if self.error is not None:
            raise self.error


class Made(list[FakeChain]):
    """All chains that were made.

    Attributes:
        errors: raised instead of making the next ones.
        kept: how many were not closed when each was made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []
        self.kept: list[int] = []

    def make(self, device: Any, network: Any, loop: Any, shape: Any, threads: int, **options: Any) -> FakeChain:
        self.kept.append(len(self.open()))
        if self.errors:
            raise self.errors.pop(0)
        count, _, height, width = shape
        self.append(FakeChain((count, height, width), options["kinds"], options["bound"]))
        return self[-1]

    def open(self) -> list[FakeChain]:
        return [chain for chain in self if not chain.closed]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    made = Made()
    monkeypatch.setattr(module, "make_chain", made.make)
    return made


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def on_gpu(fake, fake_plan: Plan, made: Made, device: FakeDevice) -> Worker:
    """A worker of fake chains on a fake GPU."""
    return Worker(fake_plan, fake, "fp32", 1, PLENTY, device)


def bound(address: int) -> Any:
    return tuple(SimpleNamespace(data_ptr=lambda a=address + offset: a) for offset in (0, 1000))


# What is kept


def test_a_size_has_one_chain(on_gpu: Worker, made: Made) -> None:
    chain = on_gpu.chain((1, 8, 12), BYTES)
    assert on_gpu.chain((1, 8, 12), BYTES) is chain
    others = [on_gpu.chain(size, BYTES) for size in ((2, 8, 12), (1, 12, 8), (1, 8, 11))]
    assert on_gpu.chain((1, 8, 12), BYTES) is chain
    assert len({id(each) for each in (chain, *others)}) == len(made) == 4
    assert chain.size == (1, 8, 12)


def test_on_a_gpu_each_pair_of_types_has_its_own(on_gpu: Worker, made: Made) -> None:
    pairs = [(given, wanted) for given in ("uint8", "float32") for wanted in ("uint8", "float32")]
    for _ in range(2):
        for pair in pairs:
            assert on_gpu.chain((1, 8, 8), pair).kinds == pair
    assert len(made) == 4


def test_on_a_cpu_one_serves_all_types(fake, fake_plan: Plan) -> None:
    worker = Worker(fake_plan, fake, "fp32", 1, PLENTY)
    chain = worker.chain((1, 8, 12), BYTES)
    assert worker.chain((1, 8, 12), ("float32", "uint8")) is chain
    assert fake.compiled == [(1, 6, 8, 12)]


def test_tensors_that_are_bound_have_their_own(on_gpu: Worker, made: Made) -> None:
    plain = on_gpu.chain((1, 8, 8), BYTES)
    tensors = [bound(4096), bound(8192)]
    chains = [on_gpu.chain((1, 8, 8), BYTES, each) for each in tensors]
    assert [chain.bound for chain in chains] == tensors
    assert [on_gpu.chain((1, 8, 8), BYTES, each) for each in tensors] == chains
    assert on_gpu.chain((1, 8, 8), BYTES) is plain
    # The picture alone is not enough: the result goes elsewhere.
    moved = (tensors[0][0], tensors[1][1])
    assert on_gpu.chain((1, 8, 8), BYTES, moved) not in chains
    assert len(made) == 4


def test_the_least_recently_used_one_goes_first(on_gpu: Worker, made: Made) -> None:
    first, second, *_ = (on_gpu.chain((1, height, 8), BYTES) for height in range(1, CHAINS_KEPT + 1))
    on_gpu.chain((1, 1, 8), BYTES)
    on_gpu.chain((1, 99, 8), BYTES)
    assert [chain.closed for chain in (first, second)] == [False, True]
    assert len(made.open()) == CHAINS_KEPT == 4
    assert on_gpu.chain((1, 1, 8), BYTES) is first
    assert on_gpu.chain((1, 2, 8), BYTES) is not second
    # Never more at a time, the one in the making included.
    assert max(made.kept) == CHAINS_KEPT - 1


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([(1, 10, 10), (1, 10, 20), (1, 10, 10)], [(1, 10, 10), (1, 10, 20)]),
        ([(1, 10, 10), (1, 10, 20), (1, 10, 11)], [(1, 10, 20), (1, 10, 11)]),
        ([(1, 10, 10), (1, 10, 20), (1, 20, 20)], [(1, 20, 20)]),
        ([(1, 10, 10), (3, 10, 10)], [(1, 10, 10), (3, 10, 10)]),
        ([(1, 10, 10), (4, 10, 10)], [(4, 10, 10)]),
        # One alone is made, however large: it was asked for.
        ([(1, 10, 10), (1, 50, 50)], [(1, 50, 50)]),
        ([(1, 50, 50), (1, 10, 10)], [(1, 10, 10)]),
    ],
    ids=str,
)
def test_all_together_share_the_pixels(
    fake, fake_plan: Plan, made: Made, device: FakeDevice, sizes: Any, kept: Any
) -> None:
    worker = Worker(fake_plan, fake, "fp32", 1, 400, device)
    for size in sizes:
        worker.chain(size, BYTES)
        total = sum(math.prod(chain.size) for chain in made.open())
        assert total <= 400 or len(made.open()) == 1
    assert [chain.size for chain in made.open()] == kept


def test_room_is_made_first(fake, fake_plan: Plan, made: Made, device: FakeDevice) -> None:
    worker = Worker(fake_plan, fake, "fp32", 1, 400, device)
    for height in (20, 15, 12):
        worker.chain((1, height, 20), BYTES)
    assert made.kept == [0, 0, 0]


# Memory that does not suffice


def test_a_lack_of_memory_lets_go_of_all_and_tries_again(on_gpu: Worker, made: Made, device: FakeDevice) -> None:
    for height in (4, 8):
        on_gpu.chain((1, height, 8), BYTES)
    made.errors = [DeviceMemoryError("full")]
    chain = on_gpu.chain((1, 16, 8), BYTES)
    assert made.open() == [chain]
    assert made.kept == [0, 1, 2, 0]
    # What torch holds in reserve too.
    assert device.released == 1
    assert on_gpu.chain((1, 16, 8), BYTES) is chain


def test_a_lack_of_memory_is_told_the_second_time(on_gpu: Worker, made: Made) -> None:
    on_gpu.chain((1, 4, 8), BYTES)
    made.errors = [DeviceMemoryError("full"), DeviceMemoryError("still full"), DeviceMemoryError("never asked")]
    with pytest.raises(DeviceMemoryError, match="still full"):
        on_gpu.chain((1, 16, 8), BYTES)
    assert made.open() == []
    # With nothing to let go there is no second time.
    with pytest.raises(DeviceMemoryError, match="never asked"):
        on_gpu.chain((1, 16, 8), BYTES)
    assert made.kept == [0, 1, 0, 0]
    assert on_gpu.chain((1, 16, 8), BYTES) in made.open()


def test_what_failed_is_let_go_before_it_is_tried_again(fake, fake_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is being handled holds the frames that raised it, and with them the memory they took."""
    tried: list[Any] = []
    known: list[bool] = []
    compile_ = fake.compile

    def compiled(*arguments: Any) -> Any:
        known.append(any(network() is not None for network in tried))
        network = compile_(*arguments)
        fake.networks.clear()
        if len(fake.compiled) == 2:
            tried.append(weakref.ref(network))
            raise DeviceMemoryError("full")
        return network

    monkeypatch.setattr(fake, "compile", compiled)
    worker = Worker(fake_plan, fake, "fp32", 1, PLENTY)
    for height in (4, 8):
        worker.chain((1, height, 8), BYTES)
    assert known == [False, False, False]


@pytest.mark.parametrize(
    "error", [BackendError("no"), DeviceError("no"), CaptureError("no"), ValueError("no")], ids=repr
)
def test_other_errors_are_told_at_once(on_gpu: Worker, made: Made, error: Exception) -> None:
    kept = on_gpu.chain((1, 4, 8), BYTES)
    made.errors = [error]
    with pytest.raises(type(error), match="no"):
        on_gpu.chain((1, 16, 8), BYTES)
    # The others stay, and the next attempt is a new one.
    assert on_gpu.chain((1, 4, 8), BYTES) is kept
    assert on_gpu.chain((1, 16, 8), BYTES) in made.open()
    assert len(made) == 2


# After a restore failed


@pytest.mark.parametrize("error", [DeviceError("gone"), DeviceMemoryError("full")], ids=repr)
def test_after_an_error_of_the_device_all_is_made_anew(
    on_gpu: Worker, made: Made, device: FakeDevice, error: BackendError
) -> None:
    chains = [on_gpu.chain((1, height, 8), BYTES) for height in (4, 8)]
    on_gpu.failed(error)
    assert [chain.closed for chain in chains] == [True, True]
    assert device.released == 1
    assert on_gpu.chain((1, 4, 8), BYTES) not in chains


@pytest.mark.parametrize("error", [BackendError("infinities or NaN"), CaptureError("no")], ids=repr)
def test_after_any_other_error_chains_stay(on_gpu: Worker, made: Made, device: FakeDevice, error: BackendError) -> None:
    chain = on_gpu.chain((1, 4, 8), BYTES)
    on_gpu.failed(error)
    assert on_gpu.chain((1, 4, 8), BYTES) is chain
    assert device.released == 0


def test_clearing_closes_all_and_may_be_repeated(on_gpu: Worker, made: Made, device: FakeDevice) -> None:
    for height in (4, 8):
        on_gpu.chain((1, height, 8), BYTES)
    for _ in range(2):
        on_gpu.clear()
        assert made.open() == []
    assert device.released == 2


# What went wrong meanwhile


def test_every_chain_is_checked(on_gpu: Worker, made: Made) -> None:
    on_gpu.check()
    for height in (4, 8):
        on_gpu.chain((1, height, 8), BYTES)
    on_gpu.check()
    assert [chain.checked for chain in made] == [1, 1]
    made[1].error = BackendError("infinities or NaN at step 2 of 3")
    with pytest.raises(BackendError, match="at step 2 of 3"):
        on_gpu.check()


def test_on_a_cpu_nothing_goes_wrong_meanwhile(fake, fake_plan: Plan) -> None:
    worker = Worker(fake_plan, fake, "fp32", 1, PLENTY)
    worker.chain((1, 4, 8), BYTES)
    worker.check()
    # Neither clearing nor dropping asks a chain of a CPU for what only one of a GPU has.
    worker.failed(DeviceError("gone"))
    picture = np.zeros((1, 4, 8, 3), np.uint8)
    assert worker.chain((1, 4, 8), BYTES).restore_into(picture, None, 0).shape == picture.shape
    assert len(fake.compiled) == 2
    for height in range(1, 9):
        worker.chain((1, height, 8), BYTES)
