"""What a compiled network gives for an input, and the backends that compile on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrs.runtime import backends
from mrs.runtime.backends import Torch
from mrs.runtime.errors import BackendError

SHAPE = (2, 6, 8, 12)
TORCH = Torch("torch-eager", compiled=False, place="cpu")
CPU = {name: each for name, each in backends.BACKENDS.items() if each.device == "cpu"}


def expected(tiny, packed: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    difference, mu = packed[:, :3], packed[:, 3:]
    return tiny.denoise(difference + mu, mu, tiny.table.times[step])


def fill(network: Any, packed: np.ndarray[Any, Any]) -> None:
    """Write a network's input."""
    if isinstance(network.packed, np.ndarray):
        network.packed[...] = packed
        return
    import torch

    network.packed.copy_(torch.from_numpy(np.ascontiguousarray(packed)))


def read(buffer: Any) -> np.ndarray[Any, Any]:
    """A copy of a network's buffer as a dense array of float32."""
    return buffer.copy() if isinstance(buffer, np.ndarray) else np.ascontiguousarray(buffer.float().numpy())


def address(buffer: Any) -> int:
    return int(buffer.ctypes.data if isinstance(buffer, np.ndarray) else buffer.data_ptr())


def output(network: Any, packed: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    """What a network gives for an input at a step; NaN where it does not write."""
    fill(network, packed)
    network.output[...] = np.nan
    network.evaluate(step)
    return read(network.output)


def refused(call: Any, match: str) -> None:
    with pytest.raises(BackendError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


def outputs(network: Any, packed: np.ndarray[Any, Any], steps: int) -> list[bytes]:
    """What a network gives at each step, to the last bit."""
    return [output(network, packed, step).tobytes() for step in range(steps)]
