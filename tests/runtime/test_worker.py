"""A worker keeps its chains by padded shape within a bound, and lets go of them where memory or the device fails."""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.runtime import worker as module
from mrs.runtime.errors import BackendError, CaptureError, DeviceError, DeviceMemoryError
from mrs.runtime.networks import Networks
from mrs.runtime.plan import Plan
from mrs.runtime.worker import FEWEST, MOST, Worker

BYTES = ("uint8", "uint8")
PLENTY = 1 << 30


class FakeDevice:
    """A GPU, as far as a worker looks at it."""

    Failure = RuntimeError

    def __init__(self) -> None:
        self.released = 0

    def apart(self) -> AbstractContextManager[None]:
        return nullcontext()

    def release(self) -> None:
        self.released += 1


class FakeChain:
    def __init__(self, network: Any, size: tuple[int, ...], dtypes: tuple[str, str], bound: Any, stream: Any) -> None:
        self.network, self.size, self.dtypes, self.bound = network, size, dtypes, bound
        self.stream = stream or object()
        self.closed, self.checked, self.unfinished = False, 0, False
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
        errors: raised instead of making the next ones, when their networks are there.
        kept: how many were not closed when each was made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []
        self.kept: list[int] = []

    def make(self, device: Any, network: Any, loop: Any, shape: Any, threads: int, **options: Any) -> FakeChain:
        self.kept.append(len(self.open()))
        compiled = network()
        if self.errors:
            raise self.errors.pop(0)
        count, _, height, width = shape
        size = count, height, width
        self.append(FakeChain(compiled, size, options["dtypes"], options["bound"], options["stream"]))
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
    return worker_of(fake_plan, fake, PLENTY, device)


def worker_of(plan: Plan, backend: Any, pixels: int = PLENTY, device: FakeDevice | None = None) -> Worker:
    return Worker(Networks(plan, backend, "fp32", 1), pixels, device)


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
            assert on_gpu.chain((1, 8, 8), pair).dtypes == pair
    assert len(made) == 4


def test_on_a_cpu_one_serves_all_types(fake, fake_plan: Plan) -> None:
    worker = worker_of(fake_plan, fake)
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
    first, second, *_ = (on_gpu.chain((1, height, 8), BYTES) for height in range(1, MOST + 1))
    on_gpu.chain((1, 1, 8), BYTES)
    on_gpu.chain((1, 99, 8), BYTES)
    assert [chain.closed for chain in (first, second)] == [False, True]
    assert len(made.open()) == MOST
    assert on_gpu.chain((1, 1, 8), BYTES) is first
    assert on_gpu.chain((1, 2, 8), BYTES) is not second
    # Never more at a time, the one in the making included.
    assert max(made.kept) == MOST - 1


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
    fake, fake_plan: Plan, made: Made, device: FakeDevice, sizes: Any, kept: Any
) -> None:
    # Padded to 12x12, 12x20, and so on.
    worker = worker_of(fake_plan, fake, 432, device)
    for size in sizes:
        worker.chain(size, BYTES)
        total = sum(count * (height + 2) * width for count, height, width in (chain.size for chain in made.open()))
        assert total <= 432 or len(made.open()) == 1
    assert [chain.size for chain in made.open()] == kept


def test_room_is_made_first(fake, fake_plan: Plan, made: Made, device: FakeDevice) -> None:
    worker = worker_of(fake_plan, fake, 400, device)
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
    worker = worker_of(fake_plan, fake)
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


# What shares a network


def test_on_a_gpu_all_of_one_shape_share_a_network_and_its_stream(on_gpu: Worker, made: Made, fake) -> None:
    first = on_gpu.chain((1, 8, 8), BYTES)
    others = [
        on_gpu.chain((1, 7, 5), BYTES),
        on_gpu.chain((1, 8, 8), ("float32", "float32")),
        on_gpu.chain((1, 8, 8), BYTES, bound(4096)),
    ]
    assert {(chain.network, chain.stream) for chain in others} == {(first.network, first.stream)}
    assert fake.compiled == [(1, 6, 8, 8)]
    # Another batch is another shape.
    assert on_gpu.chain((2, 8, 8), BYTES).stream is not first.stream
    assert len(fake.compiled) == 2
    assert not any(chain.unfinished for chain in made)


def test_a_network_outlives_the_chain_that_makes_room(fake, fake_plan: Plan, made: Made, device: FakeDevice) -> None:
    worker = worker_of(fake_plan, fake, 64, device)
    chains = [worker.chain((1, 8, 8), pair) for pair in (BYTES, ("float32", "float32"), BYTES)]
    assert [chain.closed for chain in made] == [True, True, False]
    assert {chain.network for chain in chains} == {chains[0].network}
    assert len(fake.compiled) == 1


def test_where_memory_does_not_suffice_no_network_is_held_back(on_gpu: Worker, made: Made, fake) -> None:
    first = on_gpu.chain((1, 8, 8), BYTES)
    made.errors = [DeviceMemoryError("full")]
    second = on_gpu.chain((1, 8, 7), BYTES)
    assert made.open() == [second]
    assert second.network is not first.network


@pytest.mark.parametrize("error", [CaptureError("no"), KeyboardInterrupt()], ids=repr)
def test_chains_whose_network_was_run_for_another_that_failed_are_not_used_again(
    on_gpu: Worker, made: Made, error: Exception
) -> None:
    chains = [on_gpu.chain((1, 8, 8), BYTES), on_gpu.chain((1, 7, 8), BYTES)]
    apart = on_gpu.chain((1, 4, 8), BYTES)
    made.errors = [error]
    with pytest.raises(type(error)):
        on_gpu.chain((1, 6, 8), BYTES)
    assert on_gpu.chain((1, 8, 8), BYTES) not in chains
    assert [chain.closed for chain in chains] == [True, True]
    assert on_gpu.chain((1, 4, 8), BYTES) is apart


# After an interrupt


def test_an_unfinished_chain_is_dropped_with_all_that_share_its_network(on_gpu: Worker, made: Made) -> None:
    chains = [on_gpu.chain((1, 8, 8), BYTES), on_gpu.chain((1, 7, 8), BYTES)]
    apart = on_gpu.chain((1, 4, 8), BYTES)
    chains[0].unfinished = True
    # Whatever is asked for next.
    assert on_gpu.chain((1, 4, 8), BYTES) is apart
    assert made.open() == [apart]
    assert on_gpu.chain((1, 7, 8), BYTES).network is not chains[0].network


def test_a_chain_that_was_interrupted_while_it_was_let_go_is_not_used_again(
    on_gpu: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = on_gpu.chain((1, 8, 8), BYTES)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(chain, "check", interrupted)
        with pytest.raises(KeyboardInterrupt):
            on_gpu.clear()
    assert on_gpu.chain((1, 8, 8), BYTES) is not chain
    assert chain.closed


class InterruptError(BaseException):
    """What a signal's handler raises."""


FILES = ("runtime/worker.py", "runtime/chain.py", "runtime/cpu_chain.py", "runtime/networks.py")


def interrupted_at(number: int, work: Callable[[], object]) -> bool:
    """Run with an interrupt before an instruction of the worker or its chain; whether there were so many."""
    left = number

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise InterruptError
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except InterruptError:
        return True
    finally:
        sys.settrace(before)
    return False


def restored(worker: Worker, size: tuple[int, int, int], seed: int) -> Any:
    picture = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return worker.chain(size, BYTES).restore_into(picture, None, seed)


@pytest.mark.parametrize("second", [(1, 3, 2), (1, 4, 8)], ids=["padded alike", "in the place of the first"])
def test_wherever_an_interrupt_comes_the_next_restores_are_right(
    fake, fake_plan: Plan, second: tuple[int, int, int]
) -> None:
    rows = fake_plan.manifest["table"]["rows"]
    plan = replace(
        fake_plan, manifest={**fake_plan.manifest, "table": {**fake_plan.manifest["table"], "rows": rows[:2]}}
    )
    sizes = second, (1, 4, 4)
    expected = [restored(worker_of(plan, fake), size, 5) for size in sizes]
    for number in itertools.count(1):
        worker = worker_of(plan, fake, 4 * 8)
        restored(worker, sizes[1], 3)
        came = interrupted_at(number, lambda worker=worker: restored(worker, second, 4))  # type: ignore[misc]
        for size, right in zip(sizes, expected, strict=True):
            assert np.array_equal(restored(worker, size, 5), right), number
        if not came:
            break
    # As many instructions as a restore has at least.
    assert number > 300


def test_a_network_that_may_still_be_at_work_is_not_used_again(fake, fake_plan: Plan) -> None:
    worker = worker_of(fake_plan, fake)
    expected = restored(worker, (1, 8, 8), 5)
    (network,) = fake.networks

    def evaluate(step: int) -> None:
        raise InterruptError

    network.evaluate = evaluate
    with pytest.raises(InterruptError):
        restored(worker, (1, 8, 8), 5)
    np.testing.assert_array_equal(restored(worker, (1, 8, 8), 5), expected)
    assert len(fake.networks) == 2


def test_nan_costs_no_network(fake, fake_plan: Plan) -> None:
    worker = worker_of(fake_plan, fake)
    expected = restored(worker, (1, 8, 8), 5)
    (network,) = fake.networks
    network.predict = lambda difference, mu, step: np.full_like(mu, np.nan)
    with pytest.raises(BackendError, match="infinities or NaN"):
        restored(worker, (1, 8, 8), 5)
    del network.predict
    np.testing.assert_array_equal(restored(worker, (1, 8, 8), 5), expected)
    assert fake.compiled == [(1, 6, 8, 8)]


def test_forgetting_does_not_touch_the_device(on_gpu: Worker, made: Made, device: FakeDevice) -> None:
    chain = on_gpu.chain((1, 8, 8), BYTES)
    on_gpu.forget()
    assert not chain.closed
    assert (chain.checked, device.released) == (0, 0)
    # Nor is it freed.
    kept = weakref.ref(chain)
    made.clear()
    del chain
    assert kept() is not None
    assert on_gpu.chain((1, 8, 8), BYTES) in made.open()


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
