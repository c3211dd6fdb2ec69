"""Checkpoints of every published form are read, and everything else is refused in one line that names what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import struct
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mrs.export import checkpoint
from mrs.export.architectures import detect, load_checkpoint, nafnet, network_of
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.checkpoint import Checkpoint, flatten, read_checkpoint, save
from mrs.runtime.errors import CheckpointError

TINY = NAFNet(width=4, enc_blocks=(1,), mid_blocks=1, dec_blocks=(1,))
UNEVEN = NAFNet(width=6, enc_blocks=(2, 0, 3), mid_blocks=2, dec_blocks=(0, 1, 2))

State = dict[str, Tensor]


def weights(arch: NAFNet = TINY, seed: int = 0) -> State:
    torch.manual_seed(seed)
    return {key: torch.randn_like(value) for key, value in ConditionalNAFNet(arch).state_dict().items()}


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def assert_same(got: State, expected: State) -> None:
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        assert got[key].dtype == torch.float32
        assert torch.equal(got[key], value.float()), key


def refusal(path: Path) -> str:
    """The error for a file: one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


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


def test_a_transformer_is_refused_by_name(tmp_path: Path) -> None:
    keys = (
        "patch_embed.proj.weight",
        "t_embedder.mlp.0.weight",
        "blocks.0.mlp.fc1.weight",
        "final_layer.linear.weight",
    )
    text = refusal(written(tmp_path / "dit.pth", {key: torch.zeros(1) for key in keys}))
    assert "is Refusion's DiT, which is not supported" in text


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


# Files that hold no weights


@pytest.mark.parametrize(
    "content",
    [{}, [], 3, "text", None, torch.zeros(3), {"params": {}}, {"state_dict": {"params": None}}, {"epoch": 3}],
    ids=repr,
)
def test_no_state_dict(tmp_path: Path, content: object) -> None:
    text = refusal(written(tmp_path / "net.pth", content))
    assert "holds no state dict" in text
    assert "params_ema" in text


def test_a_nest_that_holds_itself(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["params"] = content
    assert "holds no state dict" in refusal(written(tmp_path / "net.pth", content))


@pytest.mark.parametrize(
    "bomb",
    [torch.zeros(1).expand(10**12), torch.zeros(1, 1).to_sparse(), torch.zeros(10**12, device="meta")],
    ids=["repeated", "sparse", "meta"],
)
def test_tensors_without_their_numbers(tmp_path: Path, bomb: Tensor) -> None:
    text = refusal(written(tmp_path / "net.pth", weights() | {"intro.bias": bomb}))
    assert "'intro.bias' a tensor without all of its numbers" in text


def test_claimed_blocks_are_not_built(tmp_path: Path) -> None:
    state = weights() | {"middle_blks.999.beta": torch.zeros(1)}
    assert "every weight of middle_blks.1 is missing" in refusal(written(tmp_path / "net.pth", state))
    state = weights() | {"middle_blks.99999999999999999999.beta": torch.zeros(1)}
    assert "left over: middle_blks.9999" in refusal(written(tmp_path / "net.pth", state))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arch: NAFNet) -> None:
        pytest.fail("a network was made of what a file claims")

    monkeypatch.setattr(nafnet, "ConditionalNAFNet", fail)


@pytest.mark.usefixtures("no_network")
def test_a_scalar_for_each_of_many_blocks(tmp_path: Path) -> None:
    scalar = torch.zeros(1)
    parts = [f"{part}.{level}" for part in ("encoders", "decoders") for level in range(9)]
    claimed = {f"{part}.{block}.x": scalar.clone() for part in parts for block in range(100)}
    text = refusal(written(tmp_path / "net.pth", weights() | claimed))
    assert "missing: decoders.0.1.beta" in text
    assert "left over: decoders.0.0.x" in text
    assert len(text) < 2000


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("width", [20_000_000, 2**40])
def test_a_width_without_its_numbers(tmp_path: Path, width: int) -> None:
    state = weights() | {"intro.weight": torch.zeros(width, 0, 3, 3)}
    assert f"decoders.0.0.conv3.bias is (4,), not ({width},)" in refusal(written(tmp_path / "net.pth", state))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_names_of_any_length_are_cut(tmp_path: Path, suffix: str) -> None:
    state, path = weights() | {"x" * 100_000: torch.zeros(1)}, tmp_path / f"net.{suffix}"
    torch.save(state, path) if suffix == "pth" else safetensors.torch.save_file(state, path)
    assert f"left over: {'x' * 100}..." in (text := refusal(path))
    assert len(text) < 1000


def test_weights_that_share_their_numbers(tmp_path: Path) -> None:
    """Each would get its own in float32."""
    shared = torch.zeros(1000, dtype=torch.float16)
    state = weights() | {f"extra{i}": shared[i:] for i in range(50)}
    assert "the same numbers under several names" in refusal(written(tmp_path / "net.pth", state))
    # Parts of one storage that do not overlap are as good as any.
    flat = torch.cat([value.flatten() for value in weights().values()])
    sizes = [value.numel() for value in weights().values()]
    parts = {
        key: part.view(value.shape) for (key, value), part in zip(weights().items(), flat.split(sizes), strict=True)
    }
    assert_same(read_checkpoint(written(tmp_path / "net.pth", parts)).state, weights())


@pytest.mark.parametrize("kind", ["pipe", "zeros"])
def test_what_has_no_end(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "net.pth"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    assert f"cannot be read: it is a {'pipe' if kind == 'pipe' else 'device'}" in refusal(path)


def test_missing_file(tmp_path: Path) -> None:
    text = refusal(tmp_path / "absent.pth")
    assert "does not exist" in text
    assert ".safetensors" in text


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_a_file_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be read" in refusal(tmp_path / "file" / "net.pth")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"P",
        b"hello, this is no checkpoint\n",
        b"<!DOCTYPE html><html></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
        b"\x89PNG\r\n\x1a\n" + bytes(64),
    ],
    ids=["empty", "one byte", "text", "page", "pointer", "png"],
)
def test_a_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    text = refusal(tmp_path / "net.pth")
    assert "is not a checkpoint" in text
    assert "downloaded" in text
    (tmp_path / "net.safetensors").write_bytes(content)
    assert "is not a readable checkpoint" in refusal(tmp_path / "net.safetensors")


def test_a_zip_that_is_no_checkpoint(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", a=np.zeros(3))
    (tmp_path / "net.npz").rename(tmp_path / "net.pth")
    assert "is not a readable checkpoint" in refusal(tmp_path / "net.pth")


@pytest.mark.parametrize("kept", [0.0001, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["pth", "old pth", "safetensors"])
def test_truncated(tmp_path: Path, kind: str, kept: float) -> None:
    path = tmp_path / f"net.{kind.split()[-1]}"
    if kind == "safetensors":
        save(path, weights(), {"a": 1})
    else:
        torch.save(weights(), path, _use_new_zipfile_serialization=kind == "pth")
    content = path.read_bytes()
    path.write_bytes(content[: max(2, int(kept * len(content)))])
    text = refusal(path)
    assert "is not a readable checkpoint" in text
    assert "again" in text
    assert "code" not in text


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_headers_end_in_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net.{suffix}"
    torch.save(weights(), path) if suffix == "pth" else save(path, weights(), {})
    content = path.read_bytes()
    rng = random.Random(0)
    texts = []
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(8):
            damaged[rng.randrange(3000)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            texts.append(str(error))
    assert len(texts) > 10
    assert not any("\n" in text for text in texts)


# Code


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("form", ["zip", "old", "plain"])
@pytest.mark.parametrize("place", ["alone", "among weights", "beside weights"])
def test_code_is_refused_and_does_not_run(tmp_path: Path, form: str, place: str) -> None:
    target = tmp_path / "ran"
    payload = Payload(target)
    content = {
        "alone": payload,
        "among weights": weights() | {"intro.bias": payload},
        "beside weights": {"params": weights(), "hook": payload},
    }[place]
    path = tmp_path / "net.pth"
    if form == "plain":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    text = refusal(path)
    assert not target.exists()
    assert "holds more than weights (" in text
    assert "could run code" in text
    # The first thing refused is named: in a bare pickle that is how tensors are stored there.
    assert ("system" in text) == (form != "plain" or place == "alone")
    assert "save the bare state dict" in text
    assert "weights_only" not in text
    # The payload is a live one.
    pickle.loads(pickle.dumps(payload))  # noqa: S301 (made above)
    assert target.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    text = refusal(written(tmp_path / "net.pth", nn.Linear(2, 2)))
    assert "torch.nn.modules.linear.Linear" in text
    assert "save the bare state dict" in text


def test_arrays_in_a_pickle_are_refused_by_name(tmp_path: Path) -> None:
    text = refusal(written(tmp_path / "net.pth", {"params": weights(), "best": np.float64(31.5)}))
    assert "numpy" in text
    assert "save the bare state dict" in text


def test_remarks_of_torch_do_not_reach_the_user(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        refusal(tmp_path / "net.pth")
    assert remarks == []


def test_a_pickle_that_torch_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(pickle.dumps({"a": 1}))
    assert "was not written by torch.save" in refusal(tmp_path / "net.pth")


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
