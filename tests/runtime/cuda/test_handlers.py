"""What the handler of a signal raises comes out as it is, also where it has the class of the device's failures."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

pytestmark = pytest.mark.signals


class HandlerError(RuntimeError):
    """Of a signal's handler."""


WHEN = ["first run", "capture", "restore", "restore of a tensor", "wait", "closing"]


@pytest.mark.parametrize("when", WHEN)
def test_what_a_signals_handler_raises_is_not_the_gpus(gpu, pictures, monkeypatch, when: str) -> None:
    pressed: list[bool] = []

    def handler(*_: object) -> None:
        raise HandlerError("too late")

    def press() -> None:
        if not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGUSR1)

    def trouble(network: Any, step: int) -> None:
        if when == "first run" or (when == "capture" and network.device.capturing):
            press()

    wait, follow = gpu.device.wait, gpu.device.follow
    gpu.backend.trouble = trouble

    def work() -> None:
        with gpu.load() as restorer:
            image = gpu.device.upload(pictures((16, 16)))
            restorer.restore(image)
            if when == "restore of a tensor":
                monkeypatch.setattr(gpu.device, "follow", lambda *given: (press(), follow(*given)))
                restorer.restore(image)
            monkeypatch.setattr(gpu.device, "wait", lambda stream: (press(), wait(stream)))
            if when == "restore":
                restorer.restore(image.numpy().copy())
            if when == "wait":
                restorer.synchronize()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(HandlerError, match="too late"):
            work()
    finally:
        signal.signal(signal.SIGUSR1, before)
    with gpu.load() as restorer:
        assert restorer.restore(pictures((16, 16))).any()


def test_one_that_comes_while_a_failure_is_looked_into(gpu, pictures, monkeypatch) -> None:
    def handler(*_: object) -> None:
        raise HandlerError("too late")

    def waiting(stream: Any) -> None:
        # The failure itself clears this.
        if not gpu.device.fail and not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGUSR1)
        wait(stream)

    pressed: list[bool] = []
    wait = gpu.device.wait
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with gpu.load() as restorer:
            gpu.device.fail["step_pixels"] = gpu.device.Failure("CUDA error: out of luck")
            gpu.device.flaky = True
            monkeypatch.setattr(gpu.device, "wait", waiting)
            with pytest.raises(HandlerError, match="too late"):
                restorer.restore(pictures((16, 16)))
    finally:
        signal.signal(signal.SIGUSR1, before)
