"""What tells a network of the whole picture: its scaling, its engine, and what an interrupt leaves of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mrs.kernels.scaling import fit_of, scale
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.conditioner import Conditioner, conditioner_of, scaled
from mrs.runtime.errors import BackendError
from tests.golden.networks import golden
from tests.tone_network import CHANNELS, LENGTH, SIDE, Net, ToneNet, plan_of


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


@pytest.mark.parametrize("size", [(300, 61), (61, 300), (77, 50), (9, 9), (120, 118)], ids=str)
@pytest.mark.parametrize("resize", ["stretch", "clip"])
def test_pictures_fit_as_specified_whichever_pillow_there_is(size: tuple[int, int], resize: str) -> None:
    """Black and white points overshoot, so that the order of rows and columns tells: some versions begin with rows."""
    picture = 255 * np.random.default_rng(8).integers(0, 2, (*size, 3)).astype(np.uint8)
    for given in (picture, picture / np.float32(255)):
        expected = scale(given, fit_of(*size, 48, resize))
        np.testing.assert_allclose(scaled(given, 48, resize), expected, rtol=0, atol=0 if resize == "clip" else 2e-6)


def test_clips_levels_are_rounded_down() -> None:
    values = np.array([0, 0.9, 1, 254.99, 255, 300, -4], np.float32) / np.float32(255)
    picture = np.broadcast_to(values[:, None, None, None], (7, 6, 6, 3))
    levels = [scaled(one, 6, "clip") * 255 for one in picture]
    np.testing.assert_allclose([level.mean() for level in levels], [0, 0, 1, 254, 255, 255, 0], atol=1e-4)
    assert all(level.std() < 1e-4 for level in levels)


@pytest.mark.parametrize(("height", "top"), [(6, 0), (7, 0), (8, 1), (9, 2), (11, 2), (13, 4)])
def test_of_an_odd_margin_the_half_goes_to_the_even_number(height: int, top: int) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (height, 6, 3), np.uint8)
    wanted = picture[top : top + 6].transpose(2, 0, 1)
    for given, expected in ((picture, wanted), (picture.transpose(1, 0, 2), wanted.transpose(0, 2, 1))):
        np.testing.assert_array_equal((scaled(given, 6, "clip") * 255).round(), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (3, 999_999), (70_000, 2)], ids=str)
def test_of_any_picture_clip_sees_the_middle(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    middle = tuple(slice(max(0, (side - min(size)) // 2 - 2), (side + min(size)) // 2 + 2) for side in size)
    picture[middle] = (255, 102, 0)
    made, resize = [], Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, size, *rest: made.append(size) or resize(self, size, *rest))
    small = scaled(picture, 8, "clip")
    assert small.shape == (3, 8, 8)
    np.testing.assert_allclose(small.mean(axis=(1, 2)), [1, 0.4, 0], atol=1e-6)
    # However long it is, what is made of it on the way is not.
    assert max(side for each in made for side in each) <= 16 * 8


def test_a_conditioner_scales_as_its_plan_tells(net: Net) -> None:
    import torch

    table = tableau(Schedule(), Solver(steps=2), "noise")
    plan = plan_of(net, table, "onnxruntime", (1, 8, 8))
    picture = np.random.default_rng(4).integers(0, 256, (9, 31, 3), np.uint8)
    made = []
    for told, resize in (({}, "stretch"), ({"resize": "stretch"}, "stretch"), ({"resize": "clip"}, "clip")):
        manifest = {**plan.manifest, "conditioner": {**plan.manifest["conditioner"], **told}}
        conditioner = conditioner_of(replace(plan, manifest=manifest), 1)
        assert conditioner is not None
        wanted = net.condition(torch.from_numpy(scaled(picture, SIDE, resize)[None])).numpy()
        made.append(conditioner(picture[None]))
        np.testing.assert_allclose(made[-1], wanted, rtol=0, atol=1e-5)
    assert np.abs(made[1] - made[2]).max() > 1e-4


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
