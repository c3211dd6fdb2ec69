"""What disturbs captures is not done while another thread captures; one that is disturbed from outside is retried."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mrs.runtime.cuda.alone import alone
from mrs.runtime.errors import CaptureError
from tests.runtime.cuda.behaviour import IMPLICIT, INVALIDATED

# Seconds in which another thread would have disturbed a capture.
SOON = 0.5


def started(work: Callable[[], object], failures: list[BaseException]) -> threading.Thread:
    def carefully() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # a thread's failure is the test's
            failures.append(error)

    thread = threading.Thread(target=carefully, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("what", ["compiles", "runs for the first time", "warms up for tensors", "captures"])
def test_no_thread_disturbs_another_ones_capture(gpu, pictures, monkeypatch, what: str) -> None:
    inside, disturbed = threading.Event(), threading.Event()
    failures: list[BaseException] = []
    compiled = gpu.backend.compile

    def disturb() -> None:
        if inside.is_set():
            gpu.device.synchronize()
            disturbed.set()

    def compiling(*arguments: Any) -> Any:
        if what == "compiles":
            disturb()
        return compiled(*arguments)

    def trouble(network: Any, step: int) -> None:
        if network.packed.shape[2] == 8:
            if network.device.capturing and not inside.is_set():
                inside.set()
                disturbed.wait(SOON)
        elif what in ("runs for the first time", "warms up for tensors") and not network.device.capturing:
            # As torch.compile does when it is called first.
            disturb()

    monkeypatch.setattr(gpu.backend, "compile", compiling)
    gpu.backend.trouble = trouble
    with gpu.load(workers=2) as restorer:
        captures = started(lambda: restorer.restore(pictures((8, 8))), failures)
        assert inside.wait(60)
        if what == "warms up for tensors":
            with restorer.chain((1, 16, 16)) as chain:
                chain.warm_up(True)
        else:
            restorer.restore(pictures((20, 20)))
        captures.join(60)
        assert not captures.is_alive()
    assert failures == []
    assert gpu.device.invalidated == 0
    assert gpu.device.captures == 4


@pytest.mark.parametrize("what", ["makes room", "closes", "gives memory back"])
def test_graphs_and_memory_go_while_nobody_captures(gpu, pictures, what: str) -> None:
    inside, gone, failures = threading.Event(), threading.Event(), []  # type: ignore[var-annotated]

    def trouble(network: Any, step: int) -> None:
        if network.packed.shape[2] == 8 and network.device.capturing and not inside.is_set():
            inside.set()
            gone.wait(SOON)

    def let_go() -> None:
        if what == "closes":
            other.close()
        elif what == "makes room":
            other.restore(pictures((16, 20)))
        else:
            other._workers[0].clear()
        gone.set()

    # Memory for so few networks that the least number of sizes is kept.
    other = gpu.load(memory=160 * 16 * 20)
    with gpu.load() as restorer:
        gpu.backend.trouble = trouble
        captures = started(lambda: restorer.restore(pictures((8, 8))), failures)
        assert inside.wait(60)
        lets_go = started(let_go, failures)
        for thread in (captures, lets_go):
            thread.join(60)
            assert not thread.is_alive()
    other.close()
    assert failures == []
    assert gpu.device.invalidated == 0


@pytest.mark.parametrize("reason", [INVALIDATED, IMPLICIT])
@pytest.mark.parametrize("times", [1, 2])
def test_a_capture_that_others_disturb_is_tried_once_more(gpu, pictures, times: int, reason: str) -> None:
    left, gpu.device.reason = [times], reason

    def trouble(network: Any, step: int) -> None:
        if network.device.capturing and left[0]:
            left[0] -= 1
            # As a thread of the caller's may, which knows of no turns.
            thread = threading.Thread(target=network.device.synchronize)
            thread.start()
            thread.join(60)

    gpu.backend.trouble = trouble
    if times == 1:
        with gpu.load() as restorer:
            assert restorer.restore(pictures((16, 16))).any()
        assert (gpu.device.captures, gpu.device.invalidated) == (1, 1)
    else:
        with pytest.raises(CaptureError, match=f"as a CUDA graph: {reason} "):
            gpu.load()
        assert (gpu.device.captures, gpu.device.invalidated) == (0, 2)


def test_it_is_one_thread_at_a_time_which_may_enter_again() -> None:
    inside: list[int] = []
    most, failures = [], []

    def work() -> None:
        for _ in range(20):
            with alone(), alone():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()

    threads = [started(work, failures) for _ in range(4)]
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert most == [1] * 80


def test_an_error_inside_takes_nothing_for_ever() -> None:
    with pytest.raises(KeyError), alone():
        raise KeyError
    done: list[int] = []

    def work() -> None:
        with alone():
            done.append(1)

    started(work, []).join(60)
    assert done == [1]


@pytest.mark.parametrize("graphs", [True, False], ids=["graph", "loop"])
@pytest.mark.parametrize(
    "what", ["array", "tiles", "tensor", "tensor in tiles", "bound", "lent", "warming up", "closing"]
)
def test_what_a_library_captures_for_all_threads_disturbs_no_restore(gpu, pictures, what: str, graphs: bool) -> None:
    """As ONNX Runtime does, in a thread of its own; nor is it disturbed."""
    given = pictures((16, 16))
    image, out = gpu.device.upload(given), gpu.device.empty(given.shape, "uint8")
    with gpu.load(graphs=graphs) as restorer:
        restorer.warm_up(16, 16, tensors=True)
        expected = restorer.restore(given, 3)
        gpu.device.captured_elsewhere = True
        if what == "array":
            assert (restorer.restore(given, 3) == expected).all()
        elif what == "tiles":
            restorer.restore(given, 3, tile=8)
        elif what == "tensor":
            found = restorer.restore(image, 3)
            restorer.synchronize()
            assert (found.numpy() == expected).all()
        elif what == "tensor in tiles":
            restorer.restore(image, 3, tile=8)
        elif what == "bound":
            restorer.restore_into(image, out, bound=True)
            restorer.synchronize()
        elif what == "lent":
            with restorer.lend(given, 3) as view:
                assert (view == expected).all()
        elif what == "warming up":
            restorer.warm_up(12, 12, tensors=True)
        else:
            restorer.close()
        gpu.device.captured_elsewhere = False
    assert gpu.device.invalidated == 0
