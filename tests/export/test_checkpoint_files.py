"""Files that hold no weights, or code, are refused in one line, and no code of theirs runs."""

from __future__ import annotations

import os
import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from mrs.export.architectures import load_checkpoint, nafnet
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.checkpoint import read_checkpoint, save
from mrs.runtime.errors import CheckpointError
from tests.export.checkpoints import assert_same, refusal, weights, written

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
