"""Rows of results under version control: one JSON object per line, with all that a figure depends on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from mrs._version import __version__
from mrs.kernels import cpu
from mrs.runtime.manifest import JsonObject
from mrs.runtime.system import machine

RESULTS = Path(__file__).parent / "results"


class Row(TypedDict):
    """A row as it is read. Where it was measured is told otherwise of a GPU, see `append`'s `where`."""

    case: str
    settings: JsonObject
    figures: JsonObject
    date: str
    commit: NotRequired[str]
    processor: NotRequired[str]
    instructions: NotRequired[str]
    threads: NotRequired[int]
    versions: NotRequired[dict[str, str]]


LIBRARIES = ("numpy", "openvino", "onnxruntime", "torch", "triton")


def append(
    path: Path,
    case: str,
    settings: Mapping[str, object],
    figures: Mapping[str, object],
    where: Mapping[str, object] | None = None,
) -> None:
    """Add one row: what was measured, under which settings, when, and `where` or `about()`: where, with what."""
    row = {
        "case": case,
        "settings": settings,
        "figures": {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **(about() if where is None else where),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        # A process that was ended while it wrote leaves half a line.
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        between = b"" if file.read() in (b"", b"\n") else b"\n"
        file.write(between + json.dumps(row).encode() + b"\n")


def read(path: Path) -> list[Row]:
    """All rows of a file, oldest first; none where there is no file. Lines that are no rows do not count."""
    found: list[Row] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and {"case", "settings", "figures", "date"} <= set(row):
            found.append(cast(Row, row))
    return found


def about() -> JsonObject:
    """What a row says of the checkout, the machine and the libraries."""
    return {
        "commit": commit(),
        "processor": machine.processor(),
        "instructions": " ".join(machine.instructions()),
        "threads": machine.threads(),
        "kernels": "compiled" if cpu.compiled() else "numpy",
        "versions": {"mrs-trt": __version__, **versions(LIBRARIES)},
    }


def versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Short hash of the checkout's commit, with + where files differ from it; "" outside of a checkout.

    Rows of results, which every run adds to, are no difference.
    """
    try:
        head = _git("describe", "--always")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)benchmarks/results")
    except (OSError, subprocess.SubprocessError):
        return ""
    return head + "+" * bool(changed)


def _git(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    done = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()
