"""Captures that fail or are disturbed leave the device as it was: started by test_gpu.py, in a process of its own."""

from __future__ import annotations

import threading
from contextlib import suppress

import numpy as np
import pytest
import torch

from benchmarks.gpu.restores import SMALL, plan_of
from benchmarks.networks import random_network
from mrs import Schedule, Solver, tableau
from mrs.runtime.backends.torch import TorchNetwork
from mrs.runtime.errors import CaptureError
from mrs.runtime.session import Restorer

SIDE, MEBIBYTE = 64, 1 << 20


def main() -> None:
    plan = plan_of(random_network(SMALL), tableau(Schedule(), Solver("sde", 2, steps=4)), SIDE, "torch-eager", "fp32")
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    with Restorer(plan) as restorer:
        expected = restorer.restore(picture, seed=3)
    fail_to_capture(plan)
    # The generator is not left as if a graph were still drawing from it.
    assert torch.randn(3, device="cuda").isfinite().all()
    np.testing.assert_array_equal(disturbed(plan, picture), expected)
    with Restorer(plan) as restorer:
        np.testing.assert_array_equal(restorer.restore(picture, seed=3), expected)
        many = torch.from_numpy(np.stack([picture] * 64)).cuda()
        for turn in range(103):
            if turn == 3:
                before = torch.cuda.memory_reserved()
            restorer.restore(many.clone(), seed=3)
            restorer.synchronize()
        # What another stream has used is free again once it is done: 100 of these would take 75 MiB.
        assert torch.cuda.memory_reserved() - before <= 16 * MEBIBYTE
    torch.cuda.synchronize()
    torch.empty(256 * MEBIBYTE, dtype=torch.uint8, device="cuda")
    before = torch.cuda.memory_reserved()
    torch.cuda.empty_cache()
    assert before - torch.cuda.memory_reserved() >= 256 * MEBIBYTE


def fail_to_capture(plan: object) -> None:
    """As a backend does that waits for the device between two steps."""
    evaluate = TorchNetwork.evaluate

    def waiting(self: TorchNetwork, step: int) -> None:
        evaluate(self, step)
        self.output.sum().item()

    TorchNetwork.evaluate = waiting  # type: ignore[method-assign]
    with pytest.raises(CaptureError, match="graphs=False"):
        Restorer(plan)
    TorchNetwork.evaluate = evaluate  # type: ignore[method-assign]


def disturbed(plan: object, picture: object) -> object:
    """A restore whose capture another thread may end at first."""
    evaluate, times = TorchNetwork.evaluate, []

    def wait() -> None:
        # CUDA may refuse it too.
        with suppress(RuntimeError):
            torch.cuda.synchronize()

    def disturbing(self: TorchNetwork, step: int) -> None:
        evaluate(self, step)
        if torch.cuda.is_current_stream_capturing() and not times:
            times.append(step)
            thread = threading.Thread(target=wait)
            thread.start()
            thread.join(60)

    TorchNetwork.evaluate = disturbing  # type: ignore[method-assign]
    with Restorer(plan) as restorer:
        TorchNetwork.evaluate = evaluate  # type: ignore[method-assign]
        assert times == [0]
        return restorer.restore(picture, seed=3)


if __name__ == "__main__":
    main()
