"""Doubles of a GPU's clock.

Nothing here loads triton when it is imported: tests/kernels/gpu must choose its interpreter before that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


class Device:
    """A double of `torch.cuda` whose launches take the microseconds that `launch` is told.

    Attributes:
        log: everything that happened, in order.
        late: for each sample to come, whether the host was too slow; then it never is.
        time: microseconds on the device.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self.late: Iterator[bool] = iter(())
        self.time = 0.0
        self.holds: list[int] = []
        device = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                device.log.append("event")
                self.at = device.time

            def query(self) -> bool:
                device.log.append("query")
                return next(device.late, False)

            def synchronize(self) -> None:
                device.log.append("wait")

            def elapsed_time(self, other: Any) -> float:
                return (other.at - self.at) / 1e3

        self.Event = Event

    def launch(self, name: str, microseconds: float = 1.0) -> None:
        self.log.append(name)
        self.time += microseconds

    def _sleep(self, cycles: int) -> None:
        self.holds.append(cycles)
        self.launch("sleep", 1e4)

    def synchronize(self) -> None:
        self.log.append("synchronize")


@pytest.fixture
def cuda() -> Device:
    return Device()


@pytest.fixture
def no_gpu() -> None:
    """For a test of a machine without one."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
