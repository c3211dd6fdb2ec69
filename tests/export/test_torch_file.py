"""What a file of torch.save claims is held against its bytes."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from mrs.export.checkpoint import read_checkpoint
from mrs.export.torch_file import ClaimError, check_claims
from mrs.runtime.errors import CheckpointError


def saved(content: object, archive: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=archive)
    return stream.getvalue()


def refused(tmp_path: Path, content: bytes) -> str:
    """The reason, which is the reader's too, before torch reads anything."""
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(ClaimError) as caught:
        check_claims(path)
    with pytest.raises(CheckpointError) as told:
        read_checkpoint(path)
    assert (caught.value.more or str(caught.value)) in str(told.value)
    return str(caught.value)


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(zipfile.ZipInfo(name), part, compression)
    return stream.getvalue()


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before archives"])
def test_what_torch_writes_passes(tmp_path: Path, archive: bool) -> None:
    path = tmp_path / "net.pth"
    state = {"a": torch.zeros(3), "b": torch.zeros(0), "c": torch.nn.Parameter(torch.ones(2).half())}
    path.write_bytes(saved({"params": state, "epoch": 3, "name": "x", "betas": (0.9, 0.99)}, archive))
    check_claims(path)


def test_a_deflated_record(tmp_path: Path) -> None:
    parts = members(saved({"a": torch.zeros(1_000_000)}))
    deflated = packed(parts, zipfile.ZIP_DEFLATED)
    assert len(deflated) < 20_000
    assert "is compressed, which torch never does" in refused(tmp_path, deflated)


def test_records_that_overlap(tmp_path: Path) -> None:
    """Two names for the same bytes, as in bombs that need no compression."""
    content = packed(members(saved({"a": torch.zeros(100), "b": torch.ones(100)})))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first, second = (archive.getinfo(f"archive/data/{i}") for i in range(2))
    at = content.rindex(second.filename.encode()) - 4
    assert struct.unpack("<L", content[at : at + 4])[0] == second.header_offset
    content = content[:at] + struct.pack("<L", first.header_offset) + content[at + 4 :]
    assert refused(tmp_path, content) == "its records overlap"


@pytest.mark.parametrize("where", ["before", "after"])
def test_bytes_beside_the_archive(tmp_path: Path, where: str) -> None:
    """Readers of archives differ in what they make of these."""
    content = saved({"a": torch.zeros(3)})
    refused(tmp_path, b"PK" + content if where == "before" else content + b"\0" * 7)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_two_records_of_one_name(tmp_path: Path) -> None:
    content = packed({**members(saved({})), "archive/daty.pkl": b""}).replace(b"daty.pkl", b"data.pkl")
    assert refused(tmp_path, content) == "it holds two records of one name"


def test_a_long_directory(tmp_path: Path) -> None:
    content = bytearray(saved({}))
    content[-10:-6] = struct.pack("<L", 1 << 30)
    assert refused(tmp_path, bytes(content)) == "its directory is too long"


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before archives"])
@pytest.mark.parametrize(
    "call", [b"cbuiltins\nbytearray\nJ\x00\x00\x00\x70\x85R", b"ctorch\nTensor\nJ\x00\x00\x00\x70\x85R"],
    ids=["bytearray", "Tensor"],
)  # fmt: skip
def test_a_call_that_takes_any_amount_of_memory(tmp_path: Path, call: bytes, archive: bool) -> None:
    pickled = b"\x80\x02}X\x01\x00\x00\x00a" + call + b"s."
    if archive:
        content = packed({**members(saved({})), "archive/data.pkl": pickled})
    else:
        content = saved({}, archive=False).replace(b"\x80\x02}q\x00.", pickled)
        assert pickled in content
    assert refused(tmp_path, content).startswith("it calls ")


def test_a_long_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrs.export.torch_file.LONGEST_PICKLE", 10)
    assert refused(tmp_path, saved({"a": torch.zeros(3)})).endswith("data.pkl is too long")
