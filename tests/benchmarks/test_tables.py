"""Tables of README and docs say what the rows say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.rows import Row
from benchmarks.tables import measured, times
from benchmarks.tables.__main__ import TABLES
from benchmarks.tables.documents import DOCUMENTS, names, written


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_tables_of_documents_are_those_of_the_rows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert written(text, TABLES) == text, "write them with: python -m benchmarks.tables"


def test_every_table_stands_in_a_document() -> None:
    shown = [name for path in DOCUMENTS for name in names(path.read_text(encoding="utf-8"))]
    assert sorted(shown) == sorted(TABLES)


def test_a_block_is_replaced_and_what_is_around_it_stays() -> None:
    text = "before\n<!-- rows: a -->\nold\n<!-- end of rows -->\nafter"
    done = written(text, {"a": lambda: "| new |"})
    assert done == "before\n<!-- rows: a -->\n| new |\n<!-- end of rows -->\nafter"
    assert written(done, {"a": lambda: "| new |"}) == done


@pytest.mark.parametrize(
    "text", ["<!-- rows: unknown -->\n<!-- end of rows -->", "<!-- rows: a -->\nno end", "<!-- rows: A_B -->\n"]
)
def test_a_block_that_cannot_be_written_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"no table is named|no end"):
        written(text, {"a": lambda: ""})


def row(case: str, date: str, processor: str = "A CPU", **figures: float) -> Row:
    return {
        "case": case, "settings": {}, "figures": figures, "date": date, "commit": "abc+", "processor": processor,
        "instructions": "avx2", "threads": 2, "versions": {"torch": "2"},
    }  # fmt: skip


def test_the_newest_row_of_each_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (
        row("import mrs", "2026-01-01", median_s=0.001, min_s=0.001, max_s=0.001),
        row("import mrs", "2026-01-03", median_s=0.004, min_s=0.003, max_s=0.005),
        row("import mrs", "2026-01-02", "Other", median_s=0.009, min_s=0.009, max_s=0.009),
    )
    monkeypatch.setattr(measured, "cpu_rows", lambda: found)
    table = times.processes()
    assert "| | A CPU, AVX2, 2 threads | Other, AVX2, 2 threads |" in table
    assert "| `import mrs`, ms | 4 (3-5) | 9 (9-9) |" in table
    assert "4096x4096" not in table, "what nobody measured has no line"
    assert "A CPU, AVX2, 2 threads: 2026-01-03, torch 2, at abc" in table
