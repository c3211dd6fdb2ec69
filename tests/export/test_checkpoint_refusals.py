"""Weights that fit no network, or another one, are refused in one line that names what is wrong."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from mrs.export.architectures import network_of
from mrs.export.checkpoint import Checkpoint, flatten
from mrs.runtime.errors import CheckpointError
from tests.export.checkpoints import TINY, UNEVEN, refusal, weights, written

# Keys that do not fit


@pytest.mark.parametrize(
    "key", ["ending.bias", "time_mlp.1.weight", "downs.1.weight", "middle_blks.0.beta", "encoders.2.1.sca.1.bias"]
)
def test_missing_key_is_named(tmp_path: Path, key: str) -> None:
    state = weights(UNEVEN)
    del state[key]
    assert f"missing: {key}" in refusal(written(tmp_path / "net.pth", state))


@pytest.mark.parametrize("part", ["ups.2.", "downs.0."])
def test_missing_level_is_named(tmp_path: Path, part: str) -> None:
    state = {key: value for key, value in weights(UNEVEN).items() if not key.startswith(part)}
    assert f"missing: {part}" in refusal(written(tmp_path / "net.pth", state))


@pytest.mark.parametrize("block", ["encoders.2.1", "decoders.2.0", "middle_blks.0"])
def test_missing_block_is_named(tmp_path: Path, block: str) -> None:
    state = {key: value for key, value in weights(UNEVEN).items() if not key.startswith(f"{block}.")}
    assert f"every weight of {block} is missing" in refusal(written(tmp_path / "net.pth", state))


@pytest.mark.parametrize(
    ("key", "value"),
    [("extra.weight", torch.zeros(1)), ("encoders.0.0.norm1.bn", torch.tensor(7)), ("downs.10.bias", torch.zeros(1))],
)
def test_left_over_key_is_named(tmp_path: Path, key: str, value: Tensor) -> None:
    text = refusal(written(tmp_path / "net.pth", weights() | {key: value}))
    assert f"left over: {key}" in text
    assert "missing" not in text


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    text = refusal(written(tmp_path / "net.pth", weights() | {"downs.0.bias": torch.zeros(9)}))
    assert "wrong shape: downs.0.bias is (9,), not (8,)" in text


def test_all_misfits_are_named_at_once_and_long_lists_are_cut(tmp_path: Path) -> None:
    state = weights() | {f"extra{i}": torch.zeros(1) for i in range(9)} | {"downs.0.bias": torch.zeros(9)}
    del state["intro.bias"]
    text = refusal(written(tmp_path / "net.pth", state))
    for part in ("missing: intro.bias", "extra0", "extra5 and 3 more", "downs.0.bias"):
        assert part in text
    assert "extra6" not in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    state = weights()
    state["ending.weight"][0, 1, 2, 0] = value
    assert "NaN or infinite: ending.weight" in refusal(written(tmp_path / "net.pth", state))


def test_weights_beyond_float32_are_refused(tmp_path: Path) -> None:
    state = weights() | {"intro.bias": torch.full((4,), 1e300, dtype=torch.float64)}
    assert "NaN or infinite: intro.bias" in refusal(written(tmp_path / "net.pth", state))


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.int8, torch.bool, torch.complex64, torch.bits8, torch.float4_e2m1fn_x2], ids=str
)
def test_weights_of_another_kind_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    value = torch.ones(4 * dtype.itemsize, dtype=torch.uint8).view(dtype)
    text = refusal(written(tmp_path / "net.pth", weights() | {"intro.bias": value}))
    assert f"not floating point of 8 to 64 bits: intro.bias is {dtype}" in text


def test_float4_of_safetensors_is_refused(tmp_path: Path) -> None:
    value = torch.ones(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    safetensors.torch.save_file(weights() | {"intro.bias": value}, tmp_path / "net.safetensors")
    assert "intro.bias" in refusal(tmp_path / "net.safetensors")


def test_a_checkpoint_made_by_hand_is_checked_too() -> None:
    state = weights()
    del state["intro.bias"]
    with pytest.raises(CheckpointError, match=r"missing: intro\.bias"):
        network_of(TINY, Checkpoint(state, ""))


@pytest.mark.parametrize("extra", [0, 3, "best", None, [], np.float32(1)], ids=repr)
def test_other_things_among_weights_are_named(extra: object) -> None:
    with pytest.raises(CheckpointError, match=rf"{type(extra).__name__} under 'epoch'"):
        flatten(weights() | {"epoch": extra})


def test_a_name_with_and_without_module_is_refused() -> None:
    state = weights()
    with pytest.raises(CheckpointError, match=r"intro\.bias twice"):
        flatten(state | {"module.intro.bias": state["intro.bias"] + 1})


# Other networks


def test_another_network_is_refused_by_name(tmp_path: Path) -> None:
    other = nn.Sequential(OrderedDict(init_conv=nn.Conv2d(6, 8, 7), norm=nn.BatchNorm2d(8)))
    text = refusal(written(tmp_path / "unet.pth", other.state_dict()))
    assert "no ConditionalNAFNet" in text
    assert "init_conv.weight, init_conv.bias, norm.weight" in text
    assert "networks of Refusion, IR-SDE and DA-CLIP are supported" in text


def test_a_network_without_time_is_refused_by_its_keys(tmp_path: Path) -> None:
    plain = {key: value for key, value in weights().items() if "mlp" not in key}
    plain["intro.weight"] = torch.zeros(4, 3, 3, 3)
    text = refusal(written(tmp_path / "nafnet.pth", plain))
    assert "does not fit ConditionalNAFNet-denoising; missing: " in text
    assert "encoders.0.0.mlp.1.weight" in text


@pytest.mark.parametrize(
    ("key", "shape", "named"),
    [
        ("intro.weight", (4,), "is no ConditionalNAFNet"),
        ("ending.weight", (), "is no ConditionalNAFNet"),
        ("intro.weight", (5, 6, 3, 3), "width 5"),
        ("intro.weight", (0, 6, 3, 3), "width 0"),
        ("ending.weight", (0, 4, 3, 3), "channels 0"),
    ],
)
def test_impossible_shapes_are_refused(tmp_path: Path, key: str, shape: tuple[int, ...], named: str) -> None:
    text = refusal(written(tmp_path / "net.pth", weights() | {key: torch.zeros(shape)}))
    assert "no ConditionalNAFNet" in text
    assert named in text


def test_a_transformer_is_refused_by_name(tmp_path: Path) -> None:
    keys = (
        "patch_embed.proj.weight",
        "t_embedder.mlp.0.weight",
        "blocks.0.mlp.fc1.weight",
        "final_layer.linear.weight",
    )
    text = refusal(written(tmp_path / "dit.pth", {key: torch.zeros(1) for key in keys}))
    assert "is Refusion's DiT, which is not supported" in text
