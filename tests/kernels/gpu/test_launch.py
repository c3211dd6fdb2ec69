"""Launches from several threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from mrs.kernels.gpu import launch as module
from mrs.kernels.gpu.launch import Launch


class Kernel:
    """Stands for one of Triton's: `work` is called for each launch."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.given: list[Any] = []

    def __getitem__(self, grid: tuple[int, int]) -> Callable[..., None]:
        def launch(*arguments: Any, **options: Any) -> None:
            self.given.append((grid, arguments, options))
            self.work()

        return launch


def launched(launches: list[Launch]) -> None:
    """Run each on a thread of its own, at once."""
    threads = [threading.Thread(target=launch.run) for launch in launches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_first_launches_are_one_at_a_time_and_later_ones_are_not() -> None:
    """Triton gives a kernel that another thread is loading to whoever asks, without its code."""
    inside: list[int] = []
    most: list[int] = []

    def loading() -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()

    kernel = Kernel(loading)
    launches = [Launch(kernel, (1, 1), (number,), {"GROUP": 4}, 1) for number in range(4)]
    launched(launches)
    assert most == [1] * 4
    both = threading.Barrier(2, timeout=30)
    kernel.work = both.wait
    launched(launches[:2])
    assert not both.broken
    assert len(kernel.given) == 6
    assert kernel.given[0] == ((1, 1), (0,), {"GROUP": 4, "num_warps": 1, "enable_fp_fusion": False})


def test_a_launch_that_failed_is_a_first_one_again() -> None:
    def fail() -> None:
        raise RuntimeError("no such image")

    kernel = Kernel(fail)
    launch = Launch(kernel, (1, 1), (), {}, 1)
    with pytest.raises(RuntimeError, match="no such image"):
        launch.run()
    alone = threading.Barrier(2, timeout=0.2)

    def wait() -> None:
        with pytest.raises(threading.BrokenBarrierError):
            alone.wait()

    kernel.work = wait
    launched([launch, Launch(kernel, (1, 1), (), {}, 1)])
    assert len(kernel.given) == 3


def test_arrays_of_another_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton launches on the current one, which would read what is not there."""
    place = SimpleNamespace(type="cuda", index=1)
    kernel = Kernel(lambda: None)
    launch = Launch(kernel, (1, 1), (SimpleNamespace(device=place), 3), {}, 1)
    current = [1]
    monkeypatch.setattr(module, "current_gpu", lambda: current[0])
    launch.run()
    current[0] = 0
    with pytest.raises(ValueError, match="the current GPU is cuda:0"):
        launch.run()
    assert len(kernel.given) == 1
