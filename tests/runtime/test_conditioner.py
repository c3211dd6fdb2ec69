"""What tells a network of the whole picture: its scaling, its engine, and what an interrupt leaves of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrs.runtime import backends
from mrs.runtime.conditioner import Conditioner, scaled
from mrs.runtime.errors import BackendError
from tests.golden.networks import golden
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


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("index", range(3))
def test_clips_pictures_are_the_published_ones(index: int, kind: str) -> None:
    arrays = golden("daclip_preprocess")
    picture = arrays[f"src_u8_{index}"]
    given = picture if kind == "uint8" else (picture.astype(kind) / np.array(255, kind))
    levels = scaled(given, 224, "clip") * 255
    assert (levels.shape, levels.dtype) == ((3, 224, 224), np.float32)
    levels = levels.transpose(1, 2, 0).round().astype(np.int64)
    assert levels.sum() == arrays[f"crop_u8_sum_{index}"]
    np.testing.assert_array_equal(levels[100:132], arrays[f"crop_u8_rows100to132_{index}"])
    np.testing.assert_array_equal(levels[:, :8], arrays[f"crop_u8_cols0to8_{index}"])


def test_clips_levels_are_rounded_down() -> None:
    values = np.array([0, 0.9, 1, 254.99, 255, 300, -4], np.float32) / np.float32(255)
    picture = np.broadcast_to(values[:, None, None, None], (7, 6, 6, 3))
    levels = [scaled(one, 6, "clip") * 255 for one in picture]
    np.testing.assert_allclose([level.mean() for level in levels], [0, 0, 1, 254, 255, 255, 0], atol=1e-4)
    assert all(level.std() < 1e-4 for level in levels)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (3, 999_999), (70_000, 2)], ids=str)
def test_of_any_picture_clip_sees_the_middle(size: tuple[int, int]) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    middle = tuple(slice(max(0, (side - min(size)) // 2 - 2), (side + min(size)) // 2 + 2) for side in size)
    picture[middle] = (255, 102, 0)
    small = scaled(picture, 8, "clip")
    assert small.shape == (3, 8, 8)
    np.testing.assert_allclose(small.mean(axis=(1, 2)), [1, 0.4, 0], atol=1e-6)


def test_a_conditioner_scales_as_it_is_told(net: Net) -> None:
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    graph = ToneNet(4).conditioner(state).graph.SerializeToString()
    picture = np.random.default_rng(4).integers(0, 256, (1, 9, 31, 3), np.uint8)
    stretched, clipped = (Conditioner(graph, CHANNELS, SIDE, 1, resize)(picture) for resize in ("stretch", "clip"))
    assert np.abs(stretched - clipped).max() > 1e-4
    import torch

    wanted = net.condition(torch.from_numpy(scaled(picture[0], SIDE, "clip")[None])).numpy()
    np.testing.assert_allclose(clipped, wanted, rtol=0, atol=1e-5)


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
