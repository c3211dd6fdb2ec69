"""Rows of results under version control: one JSON object per line, with all that a figure depends on."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mrs.kernels import cpu
from mrs.runtime import machine

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("numpy", "openvino", "onnxruntime", "torch")


def append(path: Path, case: str, settings: dict[str, Any], figures: dict[str, Any]) -> None:
    """Add one row: what was measured, under which settings, where, when, with what."""
    row = {
        "case": case,
        "settings": settings,
        "figures": {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "processor": machine.processor(),
        "instructions": " ".join(machine.instructions()),
        "threads": machine.threads(),
        "kernels": "compiled" if cpu.compiled() else "numpy",
        "versions": {name: version(name) for name in ("mrs-trt", *LIBRARIES)},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


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
