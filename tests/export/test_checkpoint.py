"""Checkpoints of every published form are read, with the metadata that they may have, and saved ones come back."""

from __future__ import annotations

import hashlib
import json
import struct
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mrs.export import checkpoint
from mrs.export.architectures import detect, load_checkpoint, network_of
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.checkpoint import read_checkpoint, save
from tests.export.checkpoints import TINY, UNEVEN, assert_same, refusal, weights, written

# What is read


@pytest.mark.parametrize(
    "nest",
    [
        lambda state: state,
        lambda state: OrderedDict(state),
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"params": state},
        lambda state: {"params_ema": state},
        lambda state: {"state_dict": state},
        lambda state: {"state_dict": {"params_ema": state}},
        lambda state: {"params": {"state_dict": {f"module.{key}": value for key, value in state.items()}}},
        lambda state: {"params": state, "iter": 5, "optimizers": [{"state": {}}]},
        lambda state: {"state_dict": state, "loss": torch.tensor(0.1), "epoch": 3},
        lambda state: {"params_ema": state, "params": weights(seed=1)},
        lambda state: {"params": weights(seed=1), "params_ema": state},
        lambda state: {"params_ema": {}, "params": state},
        lambda state: {"params_ema": None, "params": state},
        lambda state: {key: nn.Parameter(value) for key, value in state.items()},
    ],
    ids=[
        *("flat", "ordered", "module", "params", "params_ema", "state_dict", "params_ema in state_dict"),
        *("module in state_dict in params", "beside other things", "beside a tensor", "ema first", "ema last"),
        *("empty ema", "no ema", "parameters"),
    ],
)
def test_published_forms_of_pth(tmp_path: Path, nest) -> None:
    read = read_checkpoint(written(tmp_path / "net.pth", nest(weights())))
    assert_same(read.state, weights())
    assert detect(read.state) == TINY
    assert read.metadata == {}
    assert not any(value.requires_grad for value in read.state.values())


def test_old_format_of_pth(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    assert_same(read_checkpoint(tmp_path / "net.pth").state, weights())


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"note": "{not JSON", "format": "pt"}], ids=str)
def test_safetensors_of_others(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    safetensors.torch.save_file(weights(), tmp_path / "net.safetensors", metadata)
    read = read_checkpoint(tmp_path / "net.safetensors")
    assert_same(read.state, weights())
    assert read.metadata == {}


@pytest.mark.parametrize("name", ["net.safetensors", "net.SafeTensors", "net.pth", "net"])
def test_the_format_is_told_by_content(tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file(weights(), tmp_path / name)
    assert_same(read_checkpoint(str(tmp_path / name)).state, weights())


def test_save_and_read(tmp_path: Path) -> None:
    path, metadata = tmp_path / "net.safetensors", {"schedule": {"eps": 0.005, "kind": "cosine"}, "steps": [1, 2]}
    # As training holds them: with gradients, in channels_last, in two precisions.
    net = ConditionalNAFNet(TINY).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.load_state_dict(weights())
    state = dict(net.named_parameters()) | {"ending.bias": weights()["ending.bias"].double()}
    save(path, state, metadata)
    read = read_checkpoint(path)
    assert_same(read.state, weights())
    assert read.metadata == metadata
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_save_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save(path, weights(), {"which": "old"})
    with pytest.raises(TypeError):
        save(path, weights(seed=1), {"which": object()})
    assert read_checkpoint(path).metadata == {"which": "old"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_other_precisions_become_float32(tmp_path: Path, dtype: torch.dtype, suffix: str) -> None:
    state = {key: value.to(dtype) for key, value in weights().items()}
    path = tmp_path / f"net.{suffix}"
    torch.save(state, path) if suffix == "pth" else safetensors.torch.save_file(state, path)
    assert_same(read_checkpoint(path).state, state)
    assert {value.dtype for value in load_checkpoint(path).parameters()} == {torch.float32}


def test_network_has_the_weights_and_touches_no_random_number(tmp_path: Path) -> None:
    path = written(tmp_path / "net.pth", weights())
    torch.manual_seed(3)
    read = read_checkpoint(path)
    net = network_of(detect(read.state), read)
    drawn = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(4), drawn)
    assert not net.training
    assert_same(dict(net.state_dict()), weights())
    # The network is its own: training it leaves what was read as it was.
    with torch.no_grad():
        next(net.parameters()).zero_()
    assert_same(read.state, weights())


@pytest.mark.parametrize(
    "arch",
    [
        TINY,
        UNEVEN,
        NAFNet(4, (), 1, ()),
        NAFNet(4, (0,), 0, (0,)),
        NAFNet(4, (0, 0, 12), 0, (11, 0, 0), channels=1),
        NAFNet(10, (1, 1, 1, 3), 1, (1, 1, 1, 1)),
    ],
    ids=str,
)
def test_architecture_is_read_from_the_shapes(arch: NAFNet) -> None:
    with torch.device("meta"):
        state = ConditionalNAFNet(arch).state_dict()
    assert NAFNet.detect(state, "") == arch


@settings(max_examples=20)
@given(
    width=st.sampled_from([4, 6, 16]),
    levels=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=4),
    mid=st.integers(0, 2),
    channels=st.integers(1, 3),
)
def test_any_architecture_is_read_from_the_shapes(
    width: int, levels: list[tuple[int, int]], mid: int, channels: int
) -> None:
    arch = NAFNet(width, tuple(a for a, _ in levels), mid, tuple(b for _, b in levels), channels)
    with torch.device("meta"):
        state = ConditionalNAFNet(arch).state_dict()
    assert NAFNet.detect(state, "") == arch


def test_published_file(golden) -> None:
    read = read_checkpoint(golden.weights)
    assert detect(read.state) == NAFNet(8, (1, 2), 1, (1, 1))
    assert sum(value.numel() for value in read.state.values()) == 30403


# Metadata


def with_metadata(path: Path, text: str) -> Path:
    safetensors.torch.save_file(weights(), path, {checkpoint.METADATA_KEY: text})
    return path


@pytest.mark.parametrize(
    "text", ["", "{", "not JSON", "[1]", "3", "null", '"text"', "[" * 100_000, "1" * 5000], ids=lambda text: text[:9]
)
def test_metadata_that_are_no_object_are_refused(tmp_path: Path, text: str) -> None:
    error = refusal(with_metadata(tmp_path / "net.safetensors", text))
    assert "the metadata 'mrs'" in error
    assert "no JSON object" in error


def test_metadata_that_are_no_text_are_refused(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"mrs": {"schedule": 3}}}).encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "is not a readable checkpoint" in refusal(path)


def test_metadata_may_hold_anything_else(tmp_path: Path) -> None:
    metadata = {"schedule": None, "\u00fc": [1.5, {"x": "\n"}]}
    read = read_checkpoint(with_metadata(tmp_path / "net.safetensors", json.dumps(metadata)))
    assert read.metadata == metadata
