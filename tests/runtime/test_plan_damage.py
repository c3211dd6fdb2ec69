"""Files that are no plan, and damaged ones, are refused by name, and nothing of them is unpacked or run."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from mrs.runtime import plan as module
from mrs.runtime.errors import PlanError
from mrs.runtime.plan import ENGINE, GRAPH, MODULATION, TIMETABLE, read_plan
from tests.runtime.networks import smallest
from tests.runtime.plan_files import change_manifest, members, refused, rewrite, write

# Files that are no plan


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    refused(tmp_path / "none.mrsplan", "does not exist")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder")


@pytest.mark.parametrize("content", [b"", b"hello\n", bytes(5000), b"PK\x05\x06"], ids=["empty", "text", "zeros", "PK"])
def test_a_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mrsplan"
    path.write_bytes(content)
    refused(path, "is no plan or is damaged")


@pytest.mark.parametrize("content", [{}, {"a.txt": b"a"}, {"manifest.json": b"{}"}, {"manifest.json": b"[]"}], ids=repr)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_another_zip_file(tmp_path: Path, content: dict[str, bytes], compression: int) -> None:
    path = tmp_path / "a.zip"
    write(path, content, compression)
    refused(path, "a zip file, but no plan|not stored as it is")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_file_without_permission(plan_file: Path) -> None:
    plan_file.chmod(0)
    refused(plan_file, "cannot be read: Permission denied")


# Damage


def test_a_file_cut_anywhere_is_refused(plan_file: Path) -> None:
    content = plan_file.read_bytes()
    for length in [*range(0, len(content), 5), *range(len(content) - 25, len(content))]:
        plan_file.write_bytes(content[:length])
        with pytest.raises(PlanError):
            read_plan(plan_file)


def test_a_changed_byte_is_refused_or_changes_nothing(plan_file: Path) -> None:
    content = plan_file.read_bytes()
    plan = read_plan(plan_file)
    with zipfile.ZipFile(plan_file) as archive:
        # Where the content of each member lies, after its local header.
        parts = [(info.header_offset + 30 + len(info.filename), info.file_size) for info in archive.infolist()]
    inside = {at for start, size in parts for at in range(start, start + size)}
    for at in range(0, len(content), 2):
        flip = (0xFF, 0x01, 0x80)[at % 3]
        plan_file.write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
        try:
            changed = read_plan(plan_file)
        except PlanError:
            continue
        assert at not in inside
        assert (changed.manifest, changed.graph, changed.engine) == (plan.manifest, plan.graph, plan.engine)
        np.testing.assert_array_equal(changed.timetable, plan.timetable)


def test_a_member_with_another_digest_is_refused(plan_file: Path) -> None:
    content = members(plan_file)
    write(plan_file, {**content, ENGINE: b"foreign code"})
    refused(plan_file, "engine.bin does not have the digest")


@pytest.mark.parametrize("name", [GRAPH, MODULATION, TIMETABLE, ENGINE])
def test_a_member_that_is_listed_but_absent(plan_file: Path, name: str) -> None:
    content = members(plan_file)
    del content[name]
    write(plan_file, content)
    refused(plan_file, name)


@pytest.mark.parametrize("name", ["graph", "modulation"])
def test_a_plan_without_what_every_plan_has(plan_file: Path, name: str) -> None:
    rewrite(plan_file, **{name: None})
    refused(plan_file, "lacks " + {"graph": GRAPH, "modulation": MODULATION}[name])


def test_a_member_that_is_not_listed_is_not_used(plan_file: Path) -> None:
    change_manifest(plan_file, lambda manifest: [manifest["members"].pop(name) for name in (ENGINE, TIMETABLE)])
    assert read_plan(plan_file).engine is None
    assert read_plan(plan_file).timetable is None


@pytest.mark.parametrize("name", ["manifest.json", GRAPH])
def test_two_members_of_one_name(plan_file: Path, name: str) -> None:
    with zipfile.ZipFile(plan_file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(name, members(plan_file)[name])
    refused(plan_file, "two members of one name")


def test_compressed_members_are_not_unpacked(plan_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(plan_file, {**members(plan_file), "bomb": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("a member was read"))
    refused(plan_file, "not stored as it is")


def test_a_size_that_the_file_does_not_have(plan_file: Path) -> None:
    content = bytearray(plan_file.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    # Both sizes of the last entry: within what a 32-bit field can say.
    struct.pack_into("<II", content, at + 20, 0xFFFFFFF0, 0xFFFFFFF0)
    plan_file.write_bytes(content)
    refused(plan_file, "engine.bin is not stored as it is")


def test_encrypted_members_are_refused(plan_file: Path) -> None:
    content = bytearray(plan_file.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 8] |= 1
    plan_file.write_bytes(content)
    refused(plan_file, "engine.bin is not stored as it is")


def test_a_manifest_too_large_to_be_one(plan_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANIFEST_LIMIT", 100)
    refused(plan_file, "the manifest is too large")


# The members' contents


def test_a_graph_with_weights_in_other_files(plan_file: Path) -> None:
    model = smallest()
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    rewrite(plan_file, graph=model.SerializeToString())
    refused(plan_file, "its network is none of this program's: a field 14 of type 0")


@pytest.mark.parametrize("graph", [b"", b"no model"])
def test_a_graph_that_is_no_model(plan_file: Path, graph: bytes) -> None:
    rewrite(plan_file, graph=graph)
    refused(plan_file, "its network is none of this program's")
