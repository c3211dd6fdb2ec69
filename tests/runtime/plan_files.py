"""A manifest that is right, and ways to change what a plan's file holds."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrs.runtime.errors import PlanError
from mrs.runtime.plan import GRAPH, MODULATION, read_plan

MANIFEST: dict[str, Any] = {
    "network": {"channels": 3, "multiple": 1, "bytes_per_pixel": 160},
    "table": {
        "times": [90.0, 40.0, 0.0],
        "rows": [[0.1 * i for i in range(11)], [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]],
        "start": 0.2,
        "clamp": "none",
    },
    "shape": [1, 16, 24],
    "backend": "openvino",
    "precision": "fp32",
    "fingerprint": {"system": "Linux"},
}


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, **changes: bytes | None) -> None:
    """Exchange members (None drops one) and write their digests, as somebody would who makes plans of his own."""
    content = members(path)
    names = {"graph": GRAPH, "modulation": MODULATION}
    for key, value in changes.items():
        content[names[key]] = value if value is not None else b""
        if value is None:
            del content[names[key]]
    manifest = json.loads(content.pop("manifest.json"))
    manifest["members"] = {name: hashlib.sha256(value).hexdigest() for name, value in content.items()}
    write(path, {"manifest.json": json.dumps(manifest).encode(), **content})


def write(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in content.items():
            archive.writestr(name, value)


def change_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = members(path)
    manifest = json.loads(content["manifest.json"])
    change(manifest)
    write(path, {**content, "manifest.json": json.dumps(manifest).encode()})


def refused(path: Path, match: str) -> None:
    """Refused by both readers or the full one, in one line that names the file."""
    with pytest.raises(PlanError, match=match) as caught:
        read_plan(path)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)
