"""Rows of results under version control: one JSON object per line, with all that a figure depends on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mrs._version import __version__
from mrs.kernels import cpu
from mrs.runtime import machine

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("numpy", "openvino", "onnxruntime", "torch", "triton")


def append(
    path: Path, case: str, settings: dict[str, Any], figures: dict[str, Any], where: dict[str, Any] | None = None
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
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def about() -> dict[str, Any]:
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
    """Short hash of the checkout's commit, with + where files differ from it; "" outside of a checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip()
