"""Of rows: the newest of each case on each machine, and how a table says them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from benchmarks import rows
from benchmarks.rows import Row
from mrs.runtime.manifest import JsonObject

CPU, SOLVERS = rows.RESULTS / "cpu.jsonl", rows.RESULTS / "solvers.jsonl"
LIBRARIES = ("openvino", "onnxruntime", "torch")
# What tells processors apart by speed, the most first.
TOLD = (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512 with bfloat16"), ("avx512f", "AVX-512"), ("avx2", "AVX2"))


@cache
def cpu_rows() -> tuple[Row, ...]:
    """Rows of what runs on processors, oldest first."""
    return tuple(rows.read(CPU))


def machine(row: Row) -> str:
    """Where it was measured, such as `Intel Xeon, AMX, 2 threads`."""
    processor = str(row["processor"]).replace("(R)", "").removesuffix(" Processor")
    instructions = str(row["instructions"]).split()
    best = next((name for flag, name in TOLD if flag in instructions), "no AVX2")
    return f"{processor}, {best}, {row['threads']} threads"


def newest(case: str) -> dict[str, Row]:
    """The last row of a case by machine, in the order in which machines came."""
    return {machine(row): row for row in cpu_rows() if row["case"] == case}


def machines(cases: Iterable[str]) -> tuple[str, ...]:
    """All that measured one of some cases, in the order in which they came."""
    wanted = set(cases)
    return tuple(dict.fromkeys(machine(row) for row in cpu_rows() if row["case"] in wanted))


def when(rows: Iterable[Row]) -> str:
    """Where, when, with what and at which commits rows were measured: a line for each machine."""
    by_machine: dict[str, list[Row]] = {}
    for row in rows:
        by_machine.setdefault(machine(row), []).append(row)
    lines = []
    for name, found in by_machine.items():
        found = sorted(found, key=lambda row: row["date"])
        dates = dict.fromkeys(row["date"][:10] for row in found)
        commits = dict.fromkeys(row["commit"].rstrip("+") for row in found)
        versions = (f"{name} {found[-1]['versions'][name]}" for name in LIBRARIES if name in found[-1]["versions"])
        lines.append(f"{name}: {', '.join(dates)}, {', '.join(versions)}, at {', '.join(commits)}")
    return "; ".join(lines) + "."


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    written = ("|" + "".join(f" {cell} |" if cell else " |" for cell in cells) for cells in (head, *lines))
    first, *others = written
    return "\n".join((first, "|" + "---|" * len(head), *others))


def ms(value: float) -> str:
    """Milliseconds with three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(figures: JsonObject, name: str, low: str, high: str, form: str = ".1f") -> str:
    """A figure with its range in brackets."""
    return f"{figures[name]:{form}} ({figures[low]:{form}}-{figures[high]:{form}})"
