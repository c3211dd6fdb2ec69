"""What tells a network of the whole picture: its scaling, its engine, and what an interrupt leaves of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrs.runtime import backends
from mrs.runtime.conditioner import Conditioner, scaled
from mrs.runtime.errors import BackendError
from tests.tone_network import CHANNELS, LENGTH, SIDE, Net, ToneNet


@pytest.fixture(scope="module")
def net() -> Net:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Net(ToneNet(4)).eval()


@pytest.fixture
def conditioner(net: Net) -> Conditioner:
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    return Conditioner(ToneNet(4).conditioner(state).graph.SerializeToString(), CHANNELS, SIDE, 1)


def expected(net: Net, pictures: Any) -> Any:
    import torch

    return net.condition(torch.from_numpy(np.stack([scaled(picture, SIDE) for picture in pictures]))).numpy()


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_pictures_of_any_size_have_a_context_each(conditioner: Conditioner, net: Net, kind: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 31, 17, 3)).astype(kind)
    pictures = pictures if kind == "uint8" else pictures / np.float32(255)
    made = conditioner(pictures)
    assert (made.shape, made.dtype) == ((3, LENGTH), np.float32)
    np.testing.assert_allclose(made, expected(net, pictures), rtol=0, atol=1e-5)


def test_types_of_pictures_scale_alike() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (40, 23, 3), np.uint8)
    small = scaled(picture, SIDE)
    assert (small.shape, small.dtype) == ((3, SIDE, SIDE), np.float32)
    np.testing.assert_allclose(small, scaled(picture / np.float32(255), SIDE), rtol=0, atol=1e-6)
    # Bicubic overshoots at edges; a picture does not.
    edge = np.zeros((64, 64, 3), np.uint8)
    edge[:, 32:] = 255
    assert (scaled(edge, SIDE).min(), scaled(edge, SIDE).max()) == (0.0, 1.0)
    # A grey picture stays grey, whatever its sides.
    np.testing.assert_allclose(scaled(np.full((5, 99, 3), 102, np.uint8), SIDE), 0.4, atol=1e-6)


def test_after_an_interrupt_another_network_is_used(
    conditioner: Conditioner, net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = np.random.default_rng(2).random((1, 9, 9, 3), np.float32)
    interrupted: Any = conditioner._network

    def evaluate(step: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupted, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        conditioner(pictures)
    for _ in range(2):
        np.testing.assert_allclose(conditioner(pictures), expected(net, pictures), rtol=0, atol=1e-5)
    kept: Any = conditioner._network
    assert kept is not interrupted
    conditioner(pictures)
    assert conditioner._network is kept


def test_without_an_engine_for_cpus_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openvino", "onnxruntime"):
        monkeypatch.setattr(type(backends.get(name)), "missing", lambda self: "gone")
    with pytest.raises(BackendError, match="openvino and onnxruntime are not there"):
        Conditioner(b"", 3, 8, 1)
