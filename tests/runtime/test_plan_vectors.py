"""The network's vectors in a plan, of its steps and of every whole time: read as written, or refused without a trap."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mrs.runtime.errors import PlanError
from mrs.runtime.plan import GRAPH, MODULATION, TIMETABLE, Plan, read_plan
from tests.runtime.networks import smallest

MANIFEST: dict[str, Any] = {
    "network": {"channels": 3, "multiple": 1, "bytes_per_pixel": 160},
    "table": {"times": [3.0, 1.0, 0.0], "rows": [[1.0] * 11] * 2, "start": 0.2, "clamp": "none"},
    "shape": [1, 16, 24],
    "backend": "openvino",
    "precision": "fp32",
    "fingerprint": {"system": "Linux"},
}
EVERY_TIME = np.arange(20, dtype=np.float32).reshape(4, 5)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.mrsplan"
    Plan(MANIFEST, smallest().SerializeToString(), EVERY_TIME[[3, 1]], None, EVERY_TIME).save(path)
    return path


def exchange(path: Path, name: str, content: bytes, digest: bool = True) -> None:
    """Put this in a member's place, with its digest too, as somebody would who makes plans of his own."""
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    members[name] = content
    manifest = json.loads(members["manifest.json"])
    if digest:
        manifest["members"][name] = hashlib.sha256(content).hexdigest()
    members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for entry, value in members.items():
            archive.writestr(entry, value)


def npy(array: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def refused(path: Path, match: str) -> None:
    with pytest.raises(PlanError, match=match) as caught:
        read_plan(path)
    assert str(path) in caught.value.message
    assert caught.value.hint == "build it again"
    assert "\n" not in str(caught.value)


# What is written is what is read


def test_both_come_back_as_they_were(saved: Path) -> None:
    plan = read_plan(saved)
    assert plan.timetable is not None
    for array, expected in ((plan.modulation, EVERY_TIME[[3, 1]]), (plan.timetable, EVERY_TIME)):
        np.testing.assert_array_equal(array, expected)
        # Engines take the address of the rows, and some want to be able to write there.
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert array.flags.writeable


def test_a_plan_may_do_without_its_timetable(saved: Path, tmp_path: Path) -> None:
    whole = read_plan(saved)
    Plan(whole.manifest, whole.graph, whole.modulation).save(tmp_path / "b")
    plan = read_plan(tmp_path / "b")
    assert plan.timetable is None
    assert TIMETABLE not in plan.manifest["members"]
    np.testing.assert_array_equal(plan.modulation, whole.modulation)


def test_another_order_of_memory_is_written_alike(saved: Path, tmp_path: Path) -> None:
    turned = np.asfortranarray(EVERY_TIME)
    Plan(MANIFEST, smallest().SerializeToString(), np.asfortranarray(turned[[3, 1]]), None, turned).save(
        tmp_path / "turned"
    )
    assert (tmp_path / "turned").read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("name", [MODULATION, TIMETABLE])
def test_foreign_vectors_are_found_by_their_digest(saved: Path, name: str) -> None:
    exchange(saved, name, npy(EVERY_TIME[:2] + 1), digest=False)
    refused(saved, f"{name} does not have the digest")


# What is refused


class Trap:
    """Leaves a folder where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("name", [MODULATION, TIMETABLE])
def test_pickled_objects_run_nothing(saved: Path, tmp_path: Path, name: str) -> None:
    trap = np.empty((2, 5), object)
    trap[:] = Trap(tmp_path / "mark")
    exchange(saved, name, npy(trap, allow_pickle=True))
    refused(saved, f"is damaged: {name} is not a table of float32")
    assert not (tmp_path / "mark").exists()


def header(text: str) -> bytes:
    """An .npy file without data."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("name", [MODULATION, TIMETABLE])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(npy(np.zeros(10, np.float32)), id="one axis"),
        pytest.param(npy(np.zeros((2, 5, 1), np.float32)), id="three axes"),
        pytest.param(npy(np.zeros((2, 5), np.float64)), id="float64"),
        pytest.param(npy(np.zeros((2, 5), ">f4")), id="other byte order"),
        pytest.param(npy(np.asfortranarray(np.zeros((2, 5), np.float32))), id="column order"),
        pytest.param(npy(np.zeros((2, 5), np.float32))[:-1], id="cut"),
        pytest.param(npy(np.zeros((2, 5), np.float32)) + b"\0", id="longer"),
        pytest.param(npy(np.full((2, 5), np.nan, np.float32)), id="NaN"),
        pytest.param(npy(np.full((2, 5), np.inf, np.float32)), id="infinite"),
        pytest.param(header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 10000000000000)}"), id="endless"),
        pytest.param(header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, -5)}"), id="negative"),
        pytest.param(header("{'descr': '<f4', 'shape': (2, "), id="broken header"),
        pytest.param(header("(" * 5000), id="deep header"),
        pytest.param(b"\x93NUMPY\x03\x00", id="version"),
        pytest.param(b"PK\x03\x04", id="zip"),
        pytest.param(b"", id="empty"),
    ],
)
def test_what_is_no_table_of_float32(saved: Path, name: str, content: bytes) -> None:
    exchange(saved, name, content)
    refused(saved, f"is damaged: {name}")


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_modulation_with_another_number_of_rows(saved: Path, rows: int) -> None:
    exchange(saved, MODULATION, npy(np.zeros((rows, 5), np.float32)))
    refused(saved, "is damaged: modulation.npy does not fit its rows")


@pytest.mark.parametrize("length", [0, 4, 6])
def test_a_timetable_of_another_network(saved: Path, length: int) -> None:
    exchange(saved, TIMETABLE, npy(np.zeros((4, length), np.float32)))
    refused(saved, "is damaged: timetable.npy does not fit modulation.npy")


def test_a_timetable_may_not_stand_in_for_a_modulation(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    del manifest["members"][MODULATION]
    with zipfile.ZipFile(saved, "w") as archive:
        for entry in ("manifest.json", GRAPH, TIMETABLE):
            archive.writestr(entry, json.dumps(manifest) if entry == "manifest.json" else members[entry])
    refused(saved, "lacks modulation.npy")
