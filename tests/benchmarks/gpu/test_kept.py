"""Rows are in the file at once, and a run that goes on finds those that are its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.kept import Kept, known

WHERE = {"commit": "abc", "device": "A GPU", "driver": "580.1", "versions": {"torch": "2.11.0", "triton": "3.6.0"}}
SETTINGS = {"side": 256, "backend": "torch"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    kept = Kept(tmp_path / "rows.jsonl", WHERE)
    kept.add("gpu restore", SETTINGS, {"restore_ms": 12.5, "name": "x"})
    kept.add("gpu tests", {"tests": "a.py"}, {"passed": 1, "trouble": "pytest ended with code 1"})
    kept.add("gpu tests", {"tests": "b.py"}, {"passed": 1, "trouble": ""})
    return tmp_path / "rows.jsonl"


def test_a_row_is_in_the_file_when_it_was_added(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["case"] for row in rows] == ["gpu restore", "gpu tests", "gpu tests"]
    assert rows[0]["settings"] == SETTINGS
    assert {key: rows[0][key] for key in WHERE} == WHERE


def test_what_was_measured_is_found_whatever_the_order_of_its_settings(path: Path) -> None:
    kept = Kept(path, WHERE, skip=True)
    assert kept.find("gpu restore", dict(reversed(SETTINGS.items()))) == {"restore_ms": 12.5, "name": "x"}
    assert kept.find("gpu restore", {**SETTINGS, "side": 512}) is None
    assert kept.find("gpu kernel", SETTINGS) is None


def test_what_went_wrong_is_tried_again(path: Path) -> None:
    kept = Kept(path, WHERE, skip=True)
    assert kept.find("gpu tests", {"tests": "a.py"}) is None
    assert kept.find("gpu tests", {"tests": "b.py"}) is not None


def test_everything_is_measured_unless_it_is_told_otherwise(path: Path) -> None:
    assert Kept(path, WHERE).find("gpu restore", SETTINGS) is None


@pytest.mark.parametrize(
    "other",
    [{"commit": "abd"}, {"commit": "abc+"}, {"commit": ""}, {"device": "B GPU"}, {"driver": "581"},
     {"versions": {"torch": "2.12.0", "triton": "3.6.0"}}],
    ids=str,
)  # fmt: skip
def test_rows_of_other_files_devices_or_libraries_do_not_count(path: Path, other: dict[str, Any]) -> None:
    assert Kept(path, WHERE | other, skip=True).find("gpu restore", SETTINGS) is None


@pytest.mark.parametrize("commit", ["", "abc+"])
def test_rows_of_no_commit_do_not_count_even_for_the_like(tmp_path: Path, commit: str) -> None:
    where = WHERE | {"commit": commit}
    Kept(tmp_path / "rows", where).add("gpu restore", SETTINGS, {})
    assert Kept(tmp_path / "rows", where, skip=True).find("gpu restore", SETTINGS) is None
    assert not known(commit)


def test_half_a_line_of_a_run_that_was_killed_costs_no_other_row(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'{"case": "gpu restore", "settings": {"side"')
    Kept(path, WHERE).add("gpu restore", {"side": 1}, {"restore_ms": 1.0})
    kept = Kept(path, WHERE, skip=True)
    assert kept.find("gpu restore", SETTINGS)
    assert kept.find("gpu restore", {"side": 1}) == {"restore_ms": 1.0}


@pytest.mark.parametrize("line", ["[]", "1", '{"case": "gpu restore"}', "\x00\x01"])
def test_lines_that_are_no_rows_do_not_count(path: Path, line: str) -> None:
    path.write_text(path.read_text() + line + "\n")
    assert Kept(path, WHERE, skip=True).find("gpu restore", SETTINGS)
