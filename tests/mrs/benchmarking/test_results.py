from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from mrs.benchmarking import results
from mrs.benchmarking.results import Case, Machine, PlanFacts, Results
from mrs.runtime.errors import InputError


def some() -> Results:
    machine = Machine(
        processor="a processor", instructions=("avx2",), threads=2, memory_bytes=1 << 30, gpu=None, system="Linux",
        load=0.5,
    )  # fmt: skip
    plan = PlanFacts(
        name="a.mrsplan", sha256="0" * 64, network="a network", solver="ode order 2", evaluations=5,
        backend="openvino", precision="fp32", height=64, width=96, batch=1, build_seconds=None,
    )  # fmt: skip
    case = Case(
        work="restore", by=results.OURS, label="this plan", backend="openvino", precision="fp32", height=64, width=96,
        batch=1, evaluations=5, group=0, milliseconds=(1.5, 2.0),
    )  # fmt: skip
    return Results(
        date="2026-01-01T00:00:00Z", command="mrs-trt bench a.mrsplan", commit="", versions={"mrs-trt": "0"},
        machine=machine, plan=plan, cases=(case,),
    )  # fmt: skip


def test_results_are_read_as_they_were_saved(tmp_path: Path) -> None:
    some().save(tmp_path / "r.json")
    assert results.read(tmp_path / "r.json") == some()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format mrs-trt results 2"),
        ({"cases": [{"work": "restore"}]}, "missing required field"),
        ({"machine": None}, "machine"),
        ({"date": 5}, "date"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "r.json"
    some().save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message) as error:
        results.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(InputError, match="holds no results"):
        results.read(tmp_path / "r.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        results.read(tmp_path / "none.json")


def test_a_time_that_is_no_number_cannot_come_back(tmp_path: Path) -> None:
    bad = dataclasses.replace(some().cases[0], milliseconds=(math.nan,))
    dataclasses.replace(some(), cases=(bad,)).save(tmp_path / "r.json")
    with pytest.raises(InputError, match="holds no results"):
        results.read(tmp_path / "r.json")
