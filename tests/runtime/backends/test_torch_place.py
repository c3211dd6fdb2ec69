"""A network of the torch backend lies on one GPU, whatever GPU later threads are on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mrs.runtime.backends import torch as backend
from mrs.runtime.backends.settings import CompileSettings


@pytest.mark.parametrize("compiled", [False, True])
def test_the_gpu_of_the_thread_that_compiles_is_named_by_its_number(
    monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(backend, "TorchNetwork", lambda *arguments: made.append(arguments))
    backend.Torch("torch", compiled).compile(
        b"graph", np.zeros((1, 1), np.float32), (1, 6, 8, 8), "fp16", CompileSettings(1)
    )
    assert made[0][4:] == ("cuda:1", compiled)


def test_automatic_types_are_off_on_whatever_gpu_it_is(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[str] = []
    autocast = torch.autocast

    def seen(kind: str, **options: Any) -> Any:
        kinds.append(kind)
        return autocast(kind, **options)

    network = backend.TorchNetwork(tiny.graph, tiny.modulation, (1, 6, 16, 16), "fp32", "cpu:0", compiled=False)
    monkeypatch.setattr(torch, "autocast", seen)
    network.evaluate(0)
    assert kinds == ["cpu"]
