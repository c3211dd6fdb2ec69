"""The double holds back what nobody waits for, and refuses what CUDA refuses: one that takes all proves nothing."""

from __future__ import annotations

import gc
import inspect
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mrs.runtime.device import Device
from tests.runtime.cuda.behaviour import POISON, FailureError, FatalError, Stream
from tests.runtime.cuda.double import Double

pytestmark = pytest.mark.slow(6)


def given(device: Double, stream: Stream, call: Callable[[], Any], name: str = "work") -> None:
    with device.on(stream):
        device.give(name, call)


def test_it_has_what_the_gpu_has() -> None:
    from mrs.runtime.cuda.device import Cuda

    for name, member in inspect.getmembers(Cuda, inspect.isfunction):
        if not name.startswith("_"):
            ours, theirs = (list(inspect.signature(each).parameters) for each in (getattr(Double, name), member))
            assert ours == theirs, name
    assert issubclass(Double.OutOfMemory, Double.Failure)


def test_the_protocol_is_all_that_the_gpu_has() -> None:
    """What a chain may ask for: mypy holds the GPU to it, but not what was left out of it."""
    from mrs.runtime.cuda.device import Cuda

    def parameters(owner: type) -> dict[str, list[str]]:
        methods = {name: member for name, member in vars(owner).items() if inspect.isfunction(member)}
        return {name: list(inspect.signature(each).parameters) for name, each in methods.items() if name[0] != "_"}

    assert parameters(Device) == parameters(Cuda)


def test_work_is_done_in_order_and_not_before_somebody_waits(device: Double) -> None:
    stream, done = device.stream(), []
    for number in range(3):
        given(device, stream, lambda number=number: done.append(number))
    assert done == []
    device.wait(stream)
    assert done == [0, 1, 2]


def test_a_stream_does_not_wait_for_another_that_it_does_not_follow(device: Double) -> None:
    first, second, done = device.stream(), device.stream(), []
    given(device, first, lambda: done.append("first"))
    given(device, second, lambda: done.append("second"))
    device.wait(second)
    assert done == ["second"]


def test_a_stream_that_follows_another_waits_for_what_that_was_given_before(device: Double) -> None:
    first, second, done = device.stream(), device.stream(), []
    given(device, first, lambda: done.append("before"))
    device.follow(second, first)
    given(device, first, lambda: done.append("after"))
    given(device, second, lambda: done.append("second"))
    device.wait(second)
    assert done == ["before", "second"]


def test_torchs_own_operations_take_their_turn(device: Double) -> None:
    stream, tensor = device.stream(), torch.zeros(3)
    given(device, stream, lambda: tensor.fill_(2))
    with device.on(stream):
        assert (tensor + 1).tolist() == [3, 3, 3]


def test_a_view_waits_for_nothing(device: Double) -> None:
    stream, tensor = device.stream(), torch.zeros(3)
    given(device, stream, lambda: tensor.fill_(2))
    with device.on(stream):
        view = tensor[None]
    assert view.tolist() == [[0, 0, 0]]


def test_a_pinned_source_is_read_when_its_turn_comes_and_any_other_of_the_host_at_once(device: Double) -> None:
    stream, pinned, pageable = device.stream(), device.host_memory(1), torch.from_numpy(np.zeros(1, np.uint8))
    targets = device.memory(2)
    with device.on(stream):
        device.copy(targets[:1], pinned)
        device.copy(targets[1:], pageable)
    pinned.fill_(5)
    pageable.fill_(5)
    device.wait(stream)
    assert targets.tolist() == [5, 0]


# Capture


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize(
    "operation",
    [lambda x: x.t().reshape(-1), lambda x: x.t().contiguous(), lambda x: x.t().flatten(), lambda x: x.double(),
     lambda x: x.reshape(-1), lambda x: x.contiguous(), lambda x: x.flatten(), lambda x: x.float()],
    ids=["reshape", "contiguous", "flatten", "to", "plain reshape", "plain contiguous", "plain flatten", "plain to"],
)  # fmt: skip
def test_what_copies_only_sometimes_is_replayed_where_it_does(device: Double, operation: Any, inference: bool) -> None:
    stream, source, out = device.stream(), torch.zeros(2, 3), torch.zeros(6, dtype=torch.float64)
    with torch.inference_mode(inference):
        graph = device.capture(stream, lambda: out.view(-1).copy_(operation(source).view(-1)))
        for number in (1, 2):
            source.copy_(number + torch.arange(6.0).view(2, 3))
            with device.on(stream):
                graph.replay()
            device.wait(stream)
            assert torch.equal(out, operation(source).reshape(-1).double())


def test_what_is_captured_is_done_by_replays_alone(device: Double) -> None:
    stream, source, target = device.stream(), torch.tensor([1.0]), torch.zeros(1)

    def work() -> None:
        device.give("add", lambda: target.add_(source))
        # Of torch's own, with a result in the graph's memory.
        doubled = target * 2
        target.copy_(doubled)

    graph = device.capture(stream, work)
    device.wait(stream)
    assert target.item() == 0
    assert graph.names == ["add", "aten::mul", "aten::copy_"]
    source.fill_(3)
    for expected in (6, 18):
        with device.on(stream):
            graph.replay()
        assert target.item() != expected
        device.wait(stream)
        assert target.item() == expected
    assert [line for line in device.log if "replay" in line] == ["stream 1: replay"] * 2


def wrong_stream(device: Double) -> None:
    with device.on(device.stream()):
        device.give("work")


def torch_on_the_wrong_stream(device: Double) -> None:
    with device.on(device.default):
        torch.zeros(1).add_(1)


REFUSED: dict[str, tuple[Callable[[Double], Any], str]] = {
    "device memory": (lambda device: device.memory(1), "memory of the device kind"),
    "pinned memory": (lambda device: device.host_memory(1), "memory of the pinned kind"),
    "a tensor": (lambda device: device.empty((1,), "uint8"), "memory"),
    "waiting": (lambda device: device.wait(device.current()), "the host waits"),
    "reading": (lambda device: device.to_host(torch.zeros(1)), "the host waits"),
    "writing": (lambda device: device.from_host(torch.zeros(1), np.zeros(1)), "the host waits"),
    "following": (lambda device: device.follow(device.current(), device.stream()), "follows one that is not captured"),
    "the default stream": (lambda device: given(device, device.default, print), "on the default stream"),
    "another stream": (wrong_stream, "on a stream that is not captured"),
    "torch elsewhere": (torch_on_the_wrong_stream, "aten::zeros on the default stream"),
    "from unpinned": (lambda d: d.copy(torch.zeros(1), torch.from_numpy(np.zeros(1))), "not pinned"),
    "to unpinned": (lambda d: d.copy(torch.from_numpy(np.zeros(1)), torch.zeros(1)), "not pinned"),
    "item": (lambda device: (torch.zeros(1) + 1).item(), "aten::_local_scalar_dense"),
    "if": (lambda device: bool(torch.zeros(1) > 0), "aten::"),
    "nonzero": (lambda device: torch.ones(2).nonzero(), "aten::nonzero"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_a_capture_and_allowed_otherwise(device: Double, what: str) -> None:
    work, reason = REFUSED[what]
    stream = device.stream()
    with pytest.raises(FailureError, match=f"operation not permitted when stream is capturing.*{reason}"):
        device.capture(stream, lambda: work(device))
    assert device.captures == 0
    with device.on(stream):
        work(device)
    device.wait(stream)


def test_the_default_stream_is_not_captured(device: Double) -> None:
    with pytest.raises(FailureError, match="default stream"):
        device.capture(device.default, lambda: None)


def test_pinned_copies_and_copies_on_the_device_are_captured(device: Double) -> None:
    pinned, memory, other = device.host_memory(1), device.memory(1), torch.zeros(1, dtype=torch.uint8)
    stream = device.stream()
    graph = device.capture(stream, lambda: [device.copy(memory, pinned), device.copy(other, memory)])
    assert graph.names == ["copy up", "copy"]
    pinned.fill_(7)
    with device.on(stream):
        graph.replay()
    device.wait(stream)
    assert other.item() == 7


def test_a_capture_does_not_disturb_other_threads(device: Double) -> None:
    stream, errors = device.stream(), []

    def elsewhere() -> None:
        try:
            device.memory(1)
            device.wait(device.stream())
        except FailureError as error:
            errors.append(error)

    def work() -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(120)

    assert device.capture(stream, work).names == []
    assert errors == []


# Memory


def test_memory_begins_where_a_gpus_does_and_is_zero_or_poisoned(device: Double) -> None:
    blocks = [device.memory(3) for _ in range(5)]
    assert all(block.data_ptr() % 256 == 0 and not block.any() for block in blocks)
    assert device.empty((2, 2), "uint8").tolist() == [[POISON, POISON]] * 2


def test_memory_is_counted_and_given_back_with_its_last_view() -> None:
    device = Double(limit=10)
    view = device.memory(8)[2:]
    with pytest.raises(device.OutOfMemory, match="3 bytes do not fit into 2"):
        device.memory(3)
    device.host_memory(100)
    assert (device.taken, device.free_memory()) == (8, 2)
    del view
    assert device.taken == 0


def test_a_graph_lives_no_longer_than_it_is_kept(device: Double) -> None:
    graph = device.capture(device.stream(), lambda: None)
    assert len(device.graphs) == 1
    del graph
    gc.collect()
    assert len(device.graphs) == 0


# Failures


def test_a_failure_is_told_to_who_waits_and_what_lies_behind_it_is_lost(device: Double) -> None:
    stream, done = device.stream(), []
    device.fail["bad"] = FailureError("no")
    given(device, stream, lambda: done.append(1), "good 0")
    given(device, stream, lambda: done.append(2), "bad 7")
    given(device, stream, lambda: done.append(3), "good 1")
    with pytest.raises(FailureError, match="no"):
        device.wait(stream)
    assert done == [1]
    device.fail.clear()
    given(device, stream, lambda: done.append(4), "bad 7")
    device.wait(stream)
    assert done == [1, 4]


def test_after_a_fatal_failure_nothing_works(device: Double) -> None:
    stream = device.stream()
    device.fail["bad"] = FatalError("an illegal memory access was encountered")
    given(device, stream, print, "bad")
    with pytest.raises(FatalError):
        device.wait(stream)
    device.fail.clear()
    for call in (lambda: device.memory(1), lambda: device.wait(stream), lambda: given(device, stream, print),
                 lambda: device.capture(stream, print), device.release):  # fmt: skip
        with pytest.raises(FatalError, match="illegal"):
            call()


# Kernels


@pytest.mark.skipif("os.environ.get('TRITON_INTERPRET') != '1'", reason="the kernels are compiled for the GPU here")
@pytest.mark.parametrize(("shape", "clamp"), [((1, 4, 16), "none"), ((2, 3, 5), "threshold")])
def test_references_give_what_the_kernels_give(make_chain, pictures, table, shape: Any, clamp: str) -> None:
    solver = table("ode", 2, 2)
    pair = [
        make_chain(solver, shape, clamp, on=device, graphs=False) for device in (Double(), Double(interpreted=True))
    ]
    by_reference, by_triton = (chain.restore_into(pictures(shape), None, 3) for chain in pair)
    np.testing.assert_array_equal(by_reference, by_triton)
    for ours, theirs in zip(vars(pair[0].arrays).values(), vars(pair[1].arrays).values(), strict=True):
        if isinstance(ours, torch.Tensor) and ours.is_floating_point():
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=2e-6)
