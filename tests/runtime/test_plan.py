"""Plans come back as they were written; an old one stays where a write fails."""

from __future__ import annotations

import math
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrs.kernels.table import Row
from mrs.runtime.errors import BackendError, InputError
from mrs.runtime.plan import ENGINE, GRAPH, MODULATION, TIMETABLE, Plan, read_plan
from tests.runtime.networks import smallest
from tests.runtime.plan_files import MANIFEST, change_manifest, members, refused, rewrite, write

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


def test_rows_are_rows(plan_file: Path) -> None:
    rows = read_plan(plan_file).table.rows
    assert rows == (Row(*MANIFEST["table"]["rows"][0]), Row(1, 0, 0, 0, 0, 1))
    assert [row.history for row in rows] == [3, 0]
    assert (rows[0].b3, rows[0].n, rows[0].m) == pytest.approx((0.8, 0.9, 1.0))


@pytest.mark.parametrize("clamp", ["none", "unit", "threshold"])
def test_every_clamp_is_written_and_read(tmp_path: Path, plan: Plan, clamp: str) -> None:
    table = {**MANIFEST["table"], "clamp": clamp}
    Plan({**MANIFEST, "table": table}, plan.graph, plan.modulation).save(tmp_path / "a")
    assert read_plan(tmp_path / "a").manifest["table"] == table


def test_equal_plans_are_equal_files(plan_file: Path, plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "again")
    read_plan(plan_file).save(tmp_path / "reread")
    assert (tmp_path / "again").read_bytes() == plan_file.read_bytes()
    assert (tmp_path / "reread").read_bytes() == plan_file.read_bytes()


def test_members_are_stored_as_they_are(plan_file: Path) -> None:
    with zipfile.ZipFile(plan_file) as archive:
        assert archive.namelist() == ["manifest.json", GRAPH, MODULATION, TIMETABLE, ENGINE]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert b"an engine" in plan_file.read_bytes()


# Writing


def test_an_old_plan_is_replaced(plan_file: Path, plan: Plan) -> None:
    Plan(plan.manifest, plan.graph, plan.modulation).save(plan_file)
    assert read_plan(plan_file).engine is None


def test_a_folder_that_does_not_exist(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(InputError, match="cannot write"):
        plan.save(tmp_path / "none" / "a.mrsplan")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "raised"),
    [(OSError(28, "No space left on device"), InputError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_write_that_fails_leaves_the_old_plan(
    plan_file: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, fault: BaseException, raised: type[BaseException]
) -> None:
    before = plan_file.read_bytes()
    write_member = zipfile.ZipFile.writestr

    def fail(self: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        if info.filename == MODULATION:
            raise fault
        write_member(self, info, data)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(raised):
        Plan(plan.manifest, plan.graph, plan.modulation).save(plan_file)
    assert plan_file.read_bytes() == before
    assert list(plan_file.parent.iterdir()) == [plan_file]


def test_a_manifest_that_nobody_could_read_is_not_written(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Plan({**MANIFEST, "latency_ms": math.nan}, plan.graph, plan.modulation).save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


# Engines for further shapes


@pytest.fixture
def many(plan: Plan, tmp_path: Path) -> Path:
    """With engines for three shapes."""
    shapes = [[1, 32, 48], [2, 16, 24]]
    engines = {(1, 32, 48): b"a larger one", (2, 16, 24): b"for two"}
    path = tmp_path / "many.mrsplan"
    replace(plan, manifest={**plan.manifest, "further_shapes": shapes}, further=engines).save(path)
    return path


def test_engines_for_further_shapes(many: Path, plan_file: Path) -> None:
    assert read_plan(many).engines == {
        (1, 16, 24): b"an engine", (1, 32, 48): b"a larger one", (2, 16, 24): b"for two",
    }  # fmt: skip
    assert {"engine.1x32x48.bin", "engine.2x16x24.bin"} <= members(many).keys()
    assert read_plan(plan_file).engines == {(1, 16, 24): b"an engine"}
    assert replace(read_plan(plan_file), engine=None).engines == {}


def test_an_engine_that_the_manifest_promises_and_the_plan_lacks(many: Path) -> None:
    change_manifest(many, lambda manifest: manifest["further_shapes"].append([1, 64, 64]))
    refused(many, "lacks engine.1x64x64.bin")


def test_a_further_engine_is_read_by_its_digest(many: Path) -> None:
    write(many, {**members(many), "engine.2x16x24.bin": b"for too"})
    refused(many, "engine.2x16x24.bin does not have the digest in its manifest")


@pytest.mark.parametrize(
    ("field", "value"), [("channels", 1), ("multiple", 4), ("bytes_per_pixel", 23)], ids=lambda value: str(value)
)
def test_what_the_manifest_says_of_the_network_is_what_the_network_is(plan_file: Path, field: str, value: int) -> None:
    change_manifest(plan_file, lambda manifest: manifest["network"].update({field: value}))
    refused(plan_file, f"is damaged: network.{field} does not fit {GRAPH}")


def test_a_network_for_other_vectors(plan_file: Path) -> None:
    rewrite(plan_file, graph=smallest(modulation=6).SerializeToString())
    refused(plan_file, f"is damaged: {MODULATION} does not fit {GRAPH}")


@pytest.mark.parametrize("opset", [18, 20])
def test_a_quantised_network_that_is_none(tmp_path: Path, plan: Plan, opset: int) -> None:
    path = tmp_path / "a.mrsplan"
    other = smallest(opset=opset).SerializeToString()
    Plan({**plan.manifest, "precision": "int8"}, plan.graph, plan.modulation, quantised=other).save(path)
    refused(path, f"its network is none of this program's: ONNX 9 with operators {opset}")


def test_members_that_share_their_bytes(plan_file: Path, plan: Plan) -> None:
    """Each claims no more than the file has, both together do."""
    Plan(plan.manifest, plan.graph, plan.modulation, bytes(10_000)).save(plan_file)
    content = plan_file.read_bytes()
    at, end = content.rindex(b"PK\x01\x02"), content.rindex(b"PK\x05\x06")
    # The last entry of the list once more, under another name.
    entry = content[at:end].replace(ENGINE.encode(), b"f" + ENGINE[1:].encode())
    counts = struct.unpack_from("<H", content, end + 10)[0] + 1, struct.unpack_from("<I", content, end + 12)[0]
    tail = bytearray(content[end:])
    struct.pack_into("<HHI", tail, 8, counts[0], counts[0], counts[1] + len(entry))
    plan_file.write_bytes(content[:end] + entry + tail)
    with zipfile.ZipFile(plan_file) as archive:
        assert [info.file_size for info in archive.infolist()[-2:]] == [10_000] * 2
    refused(plan_file, "its members lie upon each other")
