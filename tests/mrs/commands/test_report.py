"""`mrs-trt report`: the page is written, and what cannot be read or written is told in one line."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.mrs.reporting import examples


@pytest.fixture
def results(tmp_path: Path) -> Path:
    examples.least().save(tmp_path / "results.json")
    return tmp_path / "results.json"


def test_one_page_of_several_files(run, results, tmp_path) -> None:
    ended = run("report", results, results, "-o", tmp_path / "report.html")
    assert ended.code == 0, ended.err
    assert ended.out.startswith(f"wrote {tmp_path / 'report.html'}, 0.5 MB")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert 'id="side-by-side"' in page


def test_a_page_is_replaced_only_where_that_is_wanted(run, refuse, results, tmp_path) -> None:
    page = tmp_path / "report.html"
    page.write_text("mine")
    refuse("report", results, "-o", page, says="report.html exists")
    assert page.read_text() == "mine"
    assert run("report", results, "-o", page, "--overwrite").code == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_what_is_no_results_is_told_in_one_line(refuse, results, tmp_path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    refuse("report", results, bad, "-o", tmp_path / "report.html", says="bad.json holds no results")
    refuse("report", tmp_path / "none.json", "-o", tmp_path / "report.html", says="cannot read")
    assert not (tmp_path / "report.html").exists()


def test_where_it_cannot_be_written_is_told_before_anything_is_read(refuse, tmp_path) -> None:
    refuse("report", tmp_path / "none.json", "-o", tmp_path, says="it is a folder")
    refuse("report", tmp_path / "none.json", "-o", tmp_path / "no/report.html", says="its folder does not exist")


def test_more_files_than_letters(refuse, results, tmp_path) -> None:
    refuse("report", *[results] * 27, "-o", tmp_path / "report.html", says="27 files of results are too many")


def test_a_missing_library_is_named(refuse, results, tmp_path, monkeypatch) -> None:
    from mrs.commands import arguments

    monkeypatch.setattr(arguments, "find_spec", lambda name: None if name == "jinja2" else find_spec(name))
    refuse("report", results, "-o", tmp_path / "report.html", says='pip install "mrs-trt[report]"')
