"""A worker lets go of its chains where memory, the device or an interrupt fails it, and the next ones are right."""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrs.runtime.errors import BackendError, CaptureError, DeviceError, DeviceMemoryError
from mrs.runtime.plan import Plan
from mrs.runtime.worker import Worker
from tests.runtime.fake_chains import BYTES, FakeDevice, Made, worker_of

# Memory that does not suffice


def test_a_lack_of_memory_lets_go_of_all_and_tries_again(
    gpu_worker: Worker, made_chains: Made, fake_device: FakeDevice
) -> None:
    for height in (4, 8):
        gpu_worker.chain((1, height, 8), BYTES)
    made_chains.errors = [DeviceMemoryError("full")]
    chain = gpu_worker.chain((1, 16, 8), BYTES)
    assert made_chains.open() == [chain]
    assert made_chains.kept == [0, 1, 2, 0]
    # What torch holds in reserve too.
    assert fake_device.released == 1
    assert gpu_worker.chain((1, 16, 8), BYTES) is chain


def test_a_lack_of_memory_is_told_the_second_time(gpu_worker: Worker, made_chains: Made) -> None:
    gpu_worker.chain((1, 4, 8), BYTES)
    made_chains.errors = [DeviceMemoryError("full"), DeviceMemoryError("still full"), DeviceMemoryError("never asked")]
    with pytest.raises(DeviceMemoryError, match="still full"):
        gpu_worker.chain((1, 16, 8), BYTES)
    assert made_chains.open() == []
    # With nothing to let go there is no second time.
    with pytest.raises(DeviceMemoryError, match="never asked"):
        gpu_worker.chain((1, 16, 8), BYTES)
    assert made_chains.kept == [0, 1, 0, 0]
    assert gpu_worker.chain((1, 16, 8), BYTES) in made_chains.open()


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
def test_other_errors_are_told_at_once(gpu_worker: Worker, made_chains: Made, error: Exception) -> None:
    kept = gpu_worker.chain((1, 4, 8), BYTES)
    made_chains.errors = [error]
    with pytest.raises(type(error), match="no"):
        gpu_worker.chain((1, 16, 8), BYTES)
    # The others stay, and the next attempt is a new one.
    assert gpu_worker.chain((1, 4, 8), BYTES) is kept
    assert gpu_worker.chain((1, 16, 8), BYTES) in made_chains.open()
    assert len(made_chains) == 2


# After a restore failed


@pytest.mark.parametrize("error", [DeviceError("gone"), DeviceMemoryError("full")], ids=repr)
def test_after_an_error_of_the_device_all_is_made_anew(
    gpu_worker: Worker, made_chains: Made, fake_device: FakeDevice, error: BackendError
) -> None:
    chains = [gpu_worker.chain((1, height, 8), BYTES) for height in (4, 8)]
    gpu_worker.failed(error)
    assert [chain.closed for chain in chains] == [True, True]
    assert fake_device.released == 1
    assert gpu_worker.chain((1, 4, 8), BYTES) not in chains


@pytest.mark.parametrize("error", [BackendError("infinities or NaN"), CaptureError("no")], ids=repr)
def test_after_any_other_error_chains_stay(
    gpu_worker: Worker, made_chains: Made, fake_device: FakeDevice, error: BackendError
) -> None:
    chain = gpu_worker.chain((1, 4, 8), BYTES)
    gpu_worker.failed(error)
    assert gpu_worker.chain((1, 4, 8), BYTES) is chain
    assert fake_device.released == 0


def test_clearing_closes_all_and_may_be_repeated(
    gpu_worker: Worker, made_chains: Made, fake_device: FakeDevice
) -> None:
    for height in (4, 8):
        gpu_worker.chain((1, height, 8), BYTES)
    for _ in range(2):
        gpu_worker.clear()
        assert made_chains.open() == []
    assert fake_device.released == 2


# After an interrupt


def test_an_unfinished_chain_is_dropped_with_all_that_share_its_network(gpu_worker: Worker, made_chains: Made) -> None:
    chains = [gpu_worker.chain((1, 8, 8), BYTES), gpu_worker.chain((1, 7, 8), BYTES)]
    apart = gpu_worker.chain((1, 4, 8), BYTES)
    chains[0].unfinished = True
    # Whatever is asked for next.
    assert gpu_worker.chain((1, 4, 8), BYTES) is apart
    assert made_chains.open() == [apart]
    assert gpu_worker.chain((1, 7, 8), BYTES).network is not chains[0].network


def test_a_chain_that_was_interrupted_while_it_was_let_go_is_not_used_again(
    gpu_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = gpu_worker.chain((1, 8, 8), BYTES)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(chain, "check", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gpu_worker.clear()
    assert gpu_worker.chain((1, 8, 8), BYTES) is not chain
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


def test_forgetting_does_not_touch_the_device(gpu_worker: Worker, made_chains: Made, fake_device: FakeDevice) -> None:
    chain = gpu_worker.chain((1, 8, 8), BYTES)
    gpu_worker.forget()
    assert not chain.closed
    assert (chain.checked, fake_device.released) == (0, 0)
    # Nor is it freed.
    kept = weakref.ref(chain)
    made_chains.clear()
    del chain
    assert kept() is not None
    assert gpu_worker.chain((1, 8, 8), BYTES) in made_chains.open()
