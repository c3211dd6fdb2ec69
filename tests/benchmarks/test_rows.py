"""Rows of results: what they hold on any machine."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmarks import rows
from mrs import __version__


def test_a_row_is_one_line_with_rounded_figures_and_what_they_depend_on(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    for _ in range(2):
        rows.append(path, "case", {"size": [1, 2]}, {"ms": 0.123456, "count": 3, "verdict": "passes"})
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == second | {"date": first["date"]}
    assert first["figures"] == {"ms": 0.1235, "count": 3, "verdict": "passes"}
    assert list(first) == [
        "case", "settings", "figures", "date", "commit", "processor", "instructions", "threads", "kernels", "versions",
    ]  # fmt: skip


def test_what_is_known_of_a_place_replaces_what_is_found(tmp_path: Path) -> None:
    rows.append(tmp_path / "rows.jsonl", "case", {}, {}, {"device": "a GPU"})
    row = json.loads((tmp_path / "rows.jsonl").read_text())
    assert list(row) == ["case", "settings", "figures", "date", "device"]


def test_packages_that_are_missing_have_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows.versions(("numpy", "no-such-package")) == {"numpy": version("numpy")}
    monkeypatch.setattr(rows, "LIBRARIES", ("no-such-package",))
    # The project itself may be a plain checkout, which no package index knows.
    assert rows.about()["versions"] == {"mrs-trt": __version__}


def test_outside_of_a_checkout_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert rows.commit() == ""


def test_rows_are_read_back_and_a_file_that_is_not_there_has_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert rows.read(path) == []
    for count in (1, 2):
        rows.append(path, "case", {}, {"count": count}, {"device": "a GPU"})
    assert [row["figures"]["count"] for row in rows.read(path)] == [1, 2]


def test_what_a_run_adds_to_the_results_is_no_change_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    monkeypatch.setattr(rows, "RESULTS", results)
    (results / "rows.jsonl").write_text("")
    (tmp_path / "code.py").write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True, timeout=60)
    clean = rows.commit()
    assert clean
    assert not clean.endswith("+")
    (results / "rows.jsonl").write_text("{}\n")
    assert rows.commit() == clean
    (tmp_path / "code.py").write_text("changed")
    assert rows.commit() == f"{clean}+"
