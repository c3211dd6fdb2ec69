"""Files that are no checkpoints: refused by name, and nothing in them is run."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mrs.export.checkpoint import read_checkpoint
from tests.golden.networks import weights

pytestmark = pytest.mark.usefixtures("quick")


class Code:
    """What runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("form", "says"),
    [("torch", "holds more than weights"), (2, "holds more than weights"), (4, "was not written by torch.save")],
    ids=["torch.save", "pickle 2", "pickle 4"],
)
def test_a_checkpoint_with_code_is_not_run(refuse_build, tmp_path, form, says) -> None:
    path, mark = tmp_path / "net.pth", tmp_path / "mark"
    if form == "torch":
        torch.save({"params": Code(mark)}, path)
    else:
        path.write_bytes(pickle.dumps({"params": Code(mark)}, protocol=form))
    refuse_build(checkpoint=path, says=("net.pth", says))
    assert not mark.exists()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "damage", [cut, lambda content: b"", lambda content: b"<html>not found</html>", lambda content: b"\0" * 100],
    ids=["cut", "empty", "page", "zeros"],
)  # fmt: skip
def test_a_damaged_checkpoint(refuse_build, golden, tmp_path, suffix, damage) -> None:
    path = tmp_path / f"net{suffix}"
    if suffix == ".pth":
        path.write_bytes(golden.weights.read_bytes())
    else:
        save_file(dict(torch.load(golden.weights)), path)
    path.write_bytes(damage(path.read_bytes()))
    refuse_build(checkpoint=path, says=f"net{suffix} is not a")


def test_checkpoints_that_are_something_else(refuse_build, golden, tmp_path, plan, picture) -> None:
    refuse_build(checkpoint=tmp_path / "missing.pth", says=("missing.pth does not exist", "give a .pth"))
    refuse_build(checkpoint="sunshine", says="checkpoint sunshine does not exist")
    refuse_build(checkpoint=tmp_path, says="is a folder")
    refuse_build(checkpoint=plan, says=("tiny.mrsplan is a plan, not a checkpoint", "give the checkpoint"))
    refuse_build(checkpoint=picture, says="picture.png is not a checkpoint")
    refuse_build(checkpoint="n" * 300, says="File name too long")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "hello")
    refuse_build(checkpoint=tmp_path / "other.zip", says="other.zip is not a readable checkpoint")


def test_a_torch_file_by_another_name(golden, tmp_path) -> None:
    """Its content tells, as it does of a safetensors file that is named .pth."""
    renamed = tmp_path / "net.safetensors"
    renamed.write_bytes(golden.weights.read_bytes())
    found, expected = read_checkpoint(renamed), read_checkpoint(golden.weights)
    assert found.state.keys() == expected.state.keys()
    assert found.sha256 == expected.sha256


def test_an_encoder_given_as_an_autoencoder(refuse_build, tmp_path) -> None:
    encoder = weights("daclip_encoder_a.pt", tmp_path)
    refuse_build("--autoencoder", encoder, says=("is the DA-CLIP encoder, not an autoencoder", "--encoder"))


def test_a_checkpoint_of_another_network(refuse_build, tmp_path) -> None:
    torch.save({"conv.weight": torch.zeros(3, 3, 1, 1)}, tmp_path / "other.pth")
    refuse_build(checkpoint=tmp_path / "other.pth", says="other.pth is no ConditionalNAFNet")


def test_a_checkpoint_that_misses_weights(refuse_build, golden, tmp_path) -> None:
    state = dict(torch.load(golden.weights))
    del state["ending.bias"]
    torch.save(state, tmp_path / "partial.pth")
    refuse_build(checkpoint=tmp_path / "partial.pth", says="missing: ending.bias")


def test_a_checkpoint_whose_schedule_is_not_understood(refuse_build, golden, tmp_path) -> None:
    save_file(
        dict(torch.load(golden.weights)), tmp_path / "odd.safetensors", {"mrs": json.dumps({"schedule": {"beta": 1}})}
    )
    assert load_file(tmp_path / "odd.safetensors")
    refuse_build(checkpoint=tmp_path / "odd.safetensors", says="odd.safetensors carries a schedule")
