"""Plans come back as they were written; whatever else a file may hold is refused by name, and runs no code."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mrs.kernels.table import Row
from mrs.runtime import plan as module
from mrs.runtime.errors import BackendError, InputError, PlanError
from mrs.runtime.manifest import ConditionerFacts, Manifest
from mrs.runtime.plan import ENGINE, GRAPH, MODULATION, TIMETABLE, Plan, read_manifest, read_plan
from tests.runtime.networks import smallest

MANIFEST: dict[str, Any] = {
    "network": {"channels": 3, "multiple": 1, "bytes_per_pixel": 160},
    "table": {
        "times": [90.0, 40.0, 0.0],
        "rows": [[0.1 * i for i in range(11)], [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]],
        "start": 0.2,
        "clamp": "none",
    },
    "shape": [1, 16, 24],
    "backend": "openvino",
    "precision": "fp32",
    "fingerprint": {"system": "Linux"},
}


@pytest.fixture
def plan() -> Plan:
    timetable = np.arange(20, dtype=np.float32).reshape(4, 5)
    return Plan(MANIFEST, smallest().SerializeToString(), timetable[[3, 1]], b"an engine", timetable)


@pytest.fixture
def saved(plan: Plan, tmp_path: Path) -> Path:
    path = tmp_path / "a.mrsplan"
    plan.save(path)
    return path


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, **changes: bytes | None) -> None:
    """Exchange members (None drops one) and write their digests, as somebody would who makes plans of his own."""
    content = members(path)
    names = {"graph": GRAPH, "modulation": MODULATION}
    for key, value in changes.items():
        content[names[key]] = value if value is not None else b""
        if value is None:
            del content[names[key]]
    manifest = json.loads(content.pop("manifest.json"))
    manifest["members"] = {name: hashlib.sha256(value).hexdigest() for name, value in content.items()}
    write(path, {"manifest.json": json.dumps(manifest).encode(), **content})


def write(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in content.items():
            archive.writestr(name, value)


def change_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = members(path)
    manifest = json.loads(content["manifest.json"])
    change(manifest)
    write(path, {**content, "manifest.json": json.dumps(manifest).encode()})


def refused(path: Path, match: str) -> None:
    """Refused by both readers or the full one, in one line that names the file."""
    with pytest.raises(PlanError, match=match) as caught:
        read_plan(path)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)


# What is written is what is read


@pytest.mark.parametrize("engine", [None, b"an engine"], ids=["no engine", "engine"])
def test_roundtrip(tmp_path: Path, plan: Plan, engine: bytes | None) -> None:
    path = tmp_path / "a.mrsplan"
    Plan(plan.manifest, plan.graph, plan.modulation, engine).save(str(path))
    back = read_plan(str(path))
    assert MANIFEST.items() <= back.manifest.items()
    assert back.manifest["format"] == "mrs-trt plan"
    assert back.manifest["format_version"] == 3
    assert (back.graph, back.engine) == (plan.graph, engine)
    np.testing.assert_array_equal(back.modulation, plan.modulation)


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_a_quantised_network(tmp_path: Path, plan: Plan, precision: str) -> None:
    path = tmp_path / "a.mrsplan"
    manifest = {**plan.manifest, "precision": precision}
    other = smallest(opset=19).SerializeToString()
    Plan(manifest, plan.graph, plan.modulation, quantised=other).save(path)
    assert f"network.{precision}.onnx" in members(path)
    back = read_plan(path)
    assert (back.graph, back.quantised) == (plan.graph, other)
    assert [back.graph_for(one) for one in ("fp32", "bf16", precision)] == [plan.graph, plan.graph, other]
    other_type = {"int8": "fp8", "fp8": "int8"}[precision]
    with pytest.raises(BackendError, match=f"the plan has no network for {other_type} .build one with --precision"):
        back.graph_for(other_type)
    with pytest.raises(BackendError, match=f"the plan has no network for {precision}"):
        plan.graph_for(precision)


def test_a_plan_without_its_quantised_network(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "a.mrsplan"
    Plan({**plan.manifest, "precision": "int8"}, plan.graph, plan.modulation).save(path)
    refused(path, "lacks network.int8.onnx")


def test_a_quantised_network_is_guarded_like_the_other(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "a.mrsplan"
    Plan({**plan.manifest, "precision": "fp8"}, plan.graph, plan.modulation, quantised=b"no model").save(path)
    refused(path, "its network is none of this program's")
    content = members(path)
    write(path, {**content, "network.fp8.onnx": plan.graph})
    refused(path, "network.fp8.onnx does not have the digest")


def test_rows_are_rows(saved: Path) -> None:
    rows = read_plan(saved).table.rows
    assert rows == (Row(*MANIFEST["table"]["rows"][0]), Row(1, 0, 0, 0, 0, 1))
    assert [row.history for row in rows] == [3, 0]
    assert (rows[0].b3, rows[0].n, rows[0].m) == pytest.approx((0.8, 0.9, 1.0))


@pytest.mark.parametrize("clamp", ["none", "unit", "threshold"])
def test_every_clamp_is_written_and_read(tmp_path: Path, plan: Plan, clamp: str) -> None:
    table = {**MANIFEST["table"], "clamp": clamp}
    Plan({**MANIFEST, "table": table}, plan.graph, plan.modulation).save(tmp_path / "a")
    assert read_plan(tmp_path / "a").manifest["table"] == table


def test_equal_plans_are_equal_files(saved: Path, plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "again")
    read_plan(saved).save(tmp_path / "reread")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()
    assert (tmp_path / "reread").read_bytes() == saved.read_bytes()


def test_members_are_stored_as_they_are(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        assert archive.namelist() == ["manifest.json", GRAPH, MODULATION, TIMETABLE, ENGINE]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert b"an engine" in saved.read_bytes()


def test_the_manifest_alone_is_read_beside_a_damaged_engine(saved: Path) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content.replace(b"an engine", b"no engine"))
    assert read_manifest(saved)["backend"] == "openvino"
    refused(saved, "engine.bin")


# Writing


def test_an_old_plan_is_replaced(saved: Path, plan: Plan) -> None:
    Plan(plan.manifest, plan.graph, plan.modulation).save(saved)
    assert read_plan(saved).engine is None


def test_a_folder_that_does_not_exist(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(InputError, match="cannot write"):
        plan.save(tmp_path / "none" / "a.mrsplan")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "raised"),
    [(OSError(28, "No space left on device"), InputError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_write_that_fails_leaves_the_old_plan(
    saved: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, fault: BaseException, raised: type[BaseException]
) -> None:
    before = saved.read_bytes()
    write_member = zipfile.ZipFile.writestr

    def fail(self: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        if info.filename == MODULATION:
            raise fault
        write_member(self, info, data)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(raised):
        Plan(plan.manifest, plan.graph, plan.modulation).save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_manifest_that_nobody_could_read_is_not_written(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Plan({**MANIFEST, "latency_ms": math.nan}, plan.graph, plan.modulation).save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


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
    with pytest.raises(PlanError, match="is no plan or is damaged"):
        read_manifest(path)


@pytest.mark.parametrize("content", [{}, {"a.txt": b"a"}, {"manifest.json": b"{}"}, {"manifest.json": b"[]"}], ids=repr)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_another_zip_file(tmp_path: Path, content: dict[str, bytes], compression: int) -> None:
    path = tmp_path / "a.zip"
    write(path, content, compression)
    refused(path, "a zip file, but no plan|not stored as it is")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_file_without_permission(saved: Path) -> None:
    saved.chmod(0)
    refused(saved, "cannot be read: Permission denied")


# Damage


def test_a_file_cut_anywhere_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    for length in [*range(0, len(content), 5), *range(len(content) - 25, len(content))]:
        saved.write_bytes(content[:length])
        with pytest.raises(PlanError):
            read_plan(saved)


def test_a_changed_byte_is_refused_or_changes_nothing(saved: Path) -> None:
    content = saved.read_bytes()
    plan = read_plan(saved)
    with zipfile.ZipFile(saved) as archive:
        # Where the content of each member lies, after its local header.
        parts = [(info.header_offset + 30 + len(info.filename), info.file_size) for info in archive.infolist()]
    inside = {at for start, size in parts for at in range(start, start + size)}
    for at in range(0, len(content), 2):
        flip = (0xFF, 0x01, 0x80)[at % 3]
        saved.write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
        try:
            changed = read_plan(saved)
        except PlanError:
            continue
        assert at not in inside
        assert (changed.manifest, changed.graph, changed.engine) == (plan.manifest, plan.graph, plan.engine)
        np.testing.assert_array_equal(changed.timetable, plan.timetable)


def test_a_member_with_another_digest_is_refused(saved: Path) -> None:
    content = members(saved)
    write(saved, {**content, ENGINE: b"foreign code"})
    refused(saved, "engine.bin does not have the digest")


@pytest.mark.parametrize("name", [GRAPH, MODULATION, TIMETABLE, ENGINE])
def test_a_member_that_is_listed_but_absent(saved: Path, name: str) -> None:
    content = members(saved)
    del content[name]
    write(saved, content)
    refused(saved, name)


@pytest.mark.parametrize("name", ["graph", "modulation"])
def test_a_plan_without_what_every_plan_has(saved: Path, name: str) -> None:
    rewrite(saved, **{name: None})
    refused(saved, "lacks " + {"graph": GRAPH, "modulation": MODULATION}[name])


def test_a_member_that_is_not_listed_is_not_used(saved: Path) -> None:
    change_manifest(saved, lambda manifest: [manifest["members"].pop(name) for name in (ENGINE, TIMETABLE)])
    assert read_plan(saved).engine is None
    assert read_plan(saved).timetable is None


@pytest.mark.parametrize("name", ["manifest.json", GRAPH])
def test_two_members_of_one_name(saved: Path, name: str) -> None:
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(name, members(saved)[name])
    refused(saved, "two members of one name")


def test_compressed_members_are_not_unpacked(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(saved, {**members(saved), "bomb": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("a member was read"))
    refused(saved, "not stored as it is")


def test_a_size_that_the_file_does_not_have(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    # Both sizes of the last entry: within what a 32-bit field can say.
    struct.pack_into("<II", content, at + 20, 0xFFFFFFF0, 0xFFFFFFF0)
    saved.write_bytes(content)
    refused(saved, "engine.bin is not stored as it is")


def test_encrypted_members_are_refused(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 8] |= 1
    saved.write_bytes(content)
    refused(saved, "engine.bin is not stored as it is")


def test_a_manifest_too_large_to_be_one(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANIFEST_LIMIT", 100)
    refused(saved, "the manifest is too large")


# The manifest's values


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}"], ids=range(5))
def test_a_manifest_that_is_no_json(saved: Path, text: bytes) -> None:
    write(saved, {**members(saved), "manifest.json": text})
    refused(saved, "no plan or is damaged")


@pytest.mark.parametrize("version", [0, 1, 2, 4, "3", None])
def test_another_format_version(saved: Path, version: object) -> None:
    change_manifest(saved, lambda manifest: manifest.update(format_version=version))
    refused(saved, f"has format version {version}, this program reads 3")
    for read in (read_plan, read_manifest):
        with pytest.raises(PlanError) as caught:
            read(saved)
        assert caught.value.hint == "build it again with this version"


def test_a_plan_of_the_first_format_is_told_its_version_not_its_damage(saved: Path) -> None:
    """Its rows have nine numbers and its clamp is true or false."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["format_version"] = 1
        manifest["table"].update(rows=[[0.1] * 9] * 2, clamp=False)

    change_manifest(saved, change)
    refused(saved, "has format version 1, this program reads 3")
    # Of this version such a plan is damaged.
    change_manifest(saved, lambda manifest: manifest.update(format_version=3))
    refused(saved, "is damaged: table.rows in its manifest is missing or wrong")


WRONG = {
    "table.rows": [None, [], {}, [[1.0] * 10, [1.0] * 11], [[1.0] * 9] * 2, [[1.0] * 12] * 2, [[1.0] * 11, ["1"] * 11],
                   [[1.0] * 11, [math.nan] * 11], [[1.0] * 11, [10**400] * 11], [[1.0] * 11, [1e39] * 11],
                   [[1.0] * 11, 5], [[True] * 11] * 2],
    "table.times": [None, [90.0, 0.0], [90.0, math.inf, 0.0], [90.0, "4", 0.0], 90.0],
    "table.start": [None, 0, -1.0, "1", math.nan, math.inf, True],
    "table.clamp": [None, 0, "no", False, True, "", "Unit", ["none"], {"none": 1}],
    "table": [None, [], 3],
    "network.channels": [None, 0, 3.0, "3", True, math.inf, 10**30],
    "network.multiple": [None, 0, -4, 4.0, "4"],
    "network.bytes_per_pixel": [None, 0, 1.5],
    "network": [None, "NAFNet"],
    "further_shapes": [None, {}, 3, [1, 8, 8], [[1, 8]], [[1, 8, 0]], [[1, 8, "8"]], [[1, 8, 8]] * 2, [[1, 16, 24]]],
    "shape": [None, [16, 24], [1, 16, 24, 3], [1, 16.0, 24], [1, 0, 24], "abc", 3, [2, 1 << 15, 1 << 15]],
    "backend": [None, 3],
    "precision": [None, ["fp32"]],
    "fingerprint": [None, "Linux", {}, {"system": 1}],
    "members": [None, [], {}, {GRAPH: 5}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [pytest.param(field, value, id=f"{field}={value!r:.30}") for field in WRONG for value in WRONG[field]],
)
def test_a_field_with_a_value_of_another_kind(saved: Path, field: str, value: object) -> None:
    def change(manifest: dict[str, Any]) -> None:
        *outer, last = field.split(".")
        for name in outer:
            manifest = manifest[name]
        manifest[last] = value

    change_manifest(saved, change)
    refused(saved, rf"is damaged: {field}(\.\w+)? in its manifest is missing or wrong")


@pytest.mark.parametrize("resize", [None, "CLIP", "", 1, ["clip"], {}], ids=repr)
def test_a_way_to_scale_pictures_that_nobody_knows(saved: Path, resize: object) -> None:
    told = {"side": 8, "length": 5, "resize": resize}
    change_manifest(saved, lambda manifest: manifest.update(conditioner=told))
    refused(saved, r"is damaged: conditioner\.resize in its manifest is missing or wrong")


@pytest.mark.parametrize(("told", "resize"), [({}, "stretch"), ({"resize": "clip"}, "clip")], ids=str)
def test_how_a_picture_is_scaled_for_a_conditioner(saved: Path, told: dict[str, str], resize: str) -> None:
    manifest = read_plan(saved).manifest
    facts = Manifest.of({**manifest, "conditioner": {"side": 8, "length": 5, **told}}).conditioner
    assert facts == ConditionerFacts(side=8, length=5, resize=resize)


def test_times_that_do_not_fit_the_rows(saved: Path) -> None:
    change_manifest(saved, lambda manifest: manifest["table"]["rows"].pop())
    refused(saved, "table.times in its manifest")


@pytest.mark.parametrize("field", [field for field in WRONG if field != "further_shapes"])
def test_a_field_that_is_missing(saved: Path, field: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        *outer, last = field.split(".")
        for name in outer:
            manifest = manifest[name]
        del manifest[last]

    change_manifest(saved, change)
    refused(saved, rf"is damaged: {field}(\.\w+)? in its manifest is missing or wrong")


# Engines for further shapes


@pytest.fixture
def many(plan: Plan, tmp_path: Path) -> Path:
    """With engines for three shapes."""
    shapes = [[1, 32, 48], [2, 16, 24]]
    engines = {(1, 32, 48): b"a larger one", (2, 16, 24): b"for two"}
    path = tmp_path / "many.mrsplan"
    replace(plan, manifest={**plan.manifest, "further_shapes": shapes}, further=engines).save(path)
    return path


def test_engines_for_further_shapes(many: Path, saved: Path) -> None:
    assert read_plan(many).engines == {
        (1, 16, 24): b"an engine", (1, 32, 48): b"a larger one", (2, 16, 24): b"for two",
    }  # fmt: skip
    assert {"engine.1x32x48.bin", "engine.2x16x24.bin"} <= members(many).keys()
    assert read_plan(saved).engines == {(1, 16, 24): b"an engine"}
    assert replace(read_plan(saved), engine=None).engines == {}


def test_an_engine_that_the_manifest_promises_and_the_plan_lacks(many: Path) -> None:
    change_manifest(many, lambda manifest: manifest["further_shapes"].append([1, 64, 64]))
    refused(many, "lacks engine.1x64x64.bin")


def test_a_further_engine_is_read_by_its_digest(many: Path) -> None:
    write(many, {**members(many), "engine.2x16x24.bin": b"for too"})
    refused(many, "engine.2x16x24.bin does not have the digest in its manifest")


@pytest.mark.parametrize(
    ("field", "value"), [("channels", 1), ("multiple", 4), ("bytes_per_pixel", 23)], ids=lambda value: str(value)
)
def test_what_the_manifest_says_of_the_network_is_what_the_network_is(saved: Path, field: str, value: int) -> None:
    change_manifest(saved, lambda manifest: manifest["network"].update({field: value}))
    refused(saved, f"is damaged: network.{field} does not fit {GRAPH}")


def test_a_network_for_other_vectors(saved: Path) -> None:
    rewrite(saved, graph=smallest(modulation=6).SerializeToString())
    refused(saved, f"is damaged: {MODULATION} does not fit {GRAPH}")


@pytest.mark.parametrize("opset", [18, 20])
def test_a_quantised_network_that_is_none(tmp_path: Path, plan: Plan, opset: int) -> None:
    path = tmp_path / "a.mrsplan"
    other = smallest(opset=opset).SerializeToString()
    Plan({**plan.manifest, "precision": "int8"}, plan.graph, plan.modulation, quantised=other).save(path)
    refused(path, f"its network is none of this program's: ONNX 9 with operators {opset}")


def test_members_that_share_their_bytes(saved: Path, plan: Plan) -> None:
    """Each claims no more than the file has, both together do."""
    Plan(plan.manifest, plan.graph, plan.modulation, bytes(10_000)).save(saved)
    content = saved.read_bytes()
    at, end = content.rindex(b"PK\x01\x02"), content.rindex(b"PK\x05\x06")
    # The last entry of the list once more, under another name.
    entry = content[at:end].replace(ENGINE.encode(), b"f" + ENGINE[1:].encode())
    counts = struct.unpack_from("<H", content, end + 10)[0] + 1, struct.unpack_from("<I", content, end + 12)[0]
    tail = bytearray(content[end:])
    struct.pack_into("<HHI", tail, 8, counts[0], counts[0], counts[1] + len(entry))
    saved.write_bytes(content[:end] + entry + tail)
    with zipfile.ZipFile(saved) as archive:
        assert [info.file_size for info in archive.infolist()[-2:]] == [10_000] * 2
    refused(saved, "its members lie upon each other")


# The members' contents


def test_a_graph_with_weights_in_other_files(saved: Path) -> None:
    model = smallest()
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    rewrite(saved, graph=model.SerializeToString())
    refused(saved, "its network is none of this program's: a field 14 of type 0")


@pytest.mark.parametrize(
    "verdict",
    [
        *(None, [], {}, "no", {"warnings": None}, {"warnings": "no"}, {"warnings": [""]}, {"warnings": [1]}),
        *({"warnings": ["x" * 501]}, {"warnings": ["x"] * 9}),
    ],
    ids=lambda verdict: repr(verdict)[:30],
)
def test_a_wrong_verdict(saved: Path, verdict: object) -> None:
    change_manifest(saved, lambda manifest: manifest.update(verdict=verdict))
    refused(saved, "is damaged: verdict in its manifest is missing or wrong")


def test_warnings_of_the_build(saved: Path) -> None:
    assert read_plan(saved).facts.warnings == ()
    change_manifest(saved, lambda manifest: manifest.update(verdict={"warnings": ["it does not restore"]}))
    assert read_plan(saved).facts.warnings == ("it does not restore",)


@pytest.mark.parametrize("graph", [b"", b"no model"])
def test_a_graph_that_is_no_model(saved: Path, graph: bytes) -> None:
    rewrite(saved, graph=graph)
    refused(saved, "its network is none of this program's")
