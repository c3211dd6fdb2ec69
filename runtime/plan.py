"""The plan: one file that holds everything a restore needs. Its format stands in docs/plan.md.

A plan is a zip archive without compression: `manifest.json`, the network as `network.onnx`, the time-dependent vectors
of each step as `modulation.npy`, and perhaps an engine compiled for one machine as `engine.bin`. The manifest carries
the SHA-256 of every other member, which is checked before a byte of it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.row import Row
from mrs.runtime.atomic import replacing
from mrs.runtime.errors import PlanError
from mrs.runtime.onnx_guard import check_self_contained

FORMAT = "mrs-trt plan"
FORMAT_VERSION = 1
GRAPH, MODULATION, ENGINE = "network.onnx", "modulation.npy", "engine.bin"
# A manifest is some kilobytes; refuse to parse what cannot be one.
MANIFEST_LIMIT = 16 << 20


@dataclass(frozen=True)
class Plan:
    """A plan in memory.

    Attributes:
        manifest: the manifest as JSON values; `docs/plan.md` describes every field.
        graph: the ONNX model, any height, width and batch.
        modulation: (steps, M) float32.
        engine: compiled for `manifest["shape"]` on the machine of `manifest["fingerprint"]`, or None.
    """

    manifest: dict[str, Any]
    graph: bytes
    modulation: NDArray[np.float32]
    engine: bytes | None = None

    @property
    def rows(self) -> list[Row]:
        """The solver's rows, one per network evaluation."""
        return [Row(*row) for row in self.manifest["table"]["rows"]]

    def save(self, path: str | Path) -> None:
        """Write the plan; the file appears whole or not at all."""
        array = io.BytesIO()
        np.save(array, self.modulation, allow_pickle=False)
        members = {GRAPH: self.graph, MODULATION: array.getvalue()}
        if self.engine is not None:
            members[ENGINE] = self.engine
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
        manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, **self.manifest, "members": digests}
        with replacing(Path(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            # ZipInfo's own date, 1980: equal plans are equal files.
            archive.writestr(zipfile.ZipInfo("manifest.json"), json.dumps(manifest, indent=1))
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)


def read_plan(path: str | Path) -> Plan:
    """Read a plan and check every member's digest.

    Raises:
        PlanError: for a file that is missing, no plan, damaged, or of a newer format.
    """
    path = Path(path)
    with _open(path) as archive:
        manifest = _manifest(archive, path)
        members = {name: _member(archive, path, name, digest) for name, digest in manifest["members"].items()}
    missing = {GRAPH, MODULATION} - members.keys()
    if missing:
        raise PlanError(f"plan {path} lacks {', '.join(sorted(missing))}", hint="build it again")
    check_self_contained(members[GRAPH], str(path))
    try:
        modulation = np.load(io.BytesIO(members[MODULATION]), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise PlanError(f"plan {path} is damaged: {MODULATION}: {error}", hint="build it again") from None
    plan = Plan(manifest, members[GRAPH], modulation, members.get(ENGINE))
    if modulation.dtype != np.float32 or modulation.ndim != 2 or len(modulation) != len(plan.rows):
        raise PlanError(f"plan {path} is damaged: {MODULATION} does not fit its rows", hint="build it again")
    return plan


def read_manifest(path: str | Path) -> dict[str, Any]:
    """A plan's manifest alone, without checking the other members.

    Raises:
        PlanError: as `read_plan`.
    """
    path = Path(path)
    with _open(path) as archive:
        return _manifest(archive, path)


def _open(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise PlanError(f"plan {path} {what}", hint="make one with: mrs-trt build CHECKPOINT -o PLAN")
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise PlanError(
            f"{path} is no plan or is damaged: {error}", hint="make one with: mrs-trt build CHECKPOINT -o PLAN"
        ) from None


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        info = archive.getinfo("manifest.json")
        if info.file_size > MANIFEST_LIMIT:
            raise ValueError("the manifest is too large")
        manifest = json.loads(archive.read(info))
    except (KeyError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise PlanError(f"{path} is no plan or is damaged: {error}", hint="build it again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise PlanError(f"{path} is a zip file, but no plan", hint="make one with: mrs-trt build CHECKPOINT -o PLAN")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise PlanError(
            f"plan {path} has format version {manifest.get('format_version')}, this program reads {FORMAT_VERSION}",
            hint="build it again with this version",
        )
    _check_manifest(manifest, path)
    return manifest


def _check_manifest(manifest: Mapping[str, Any], path: Path) -> None:
    """Refuse a manifest whose values a restore would trip over later, with the field's name."""
    try:
        rows = [Row(*map(float, row)) for row in manifest["table"]["rows"]]
        times = [float(time) for time in manifest["table"]["times"]]
        if not rows or len(times) != len(rows) + 1:
            raise ValueError("table")
        if not all(np.isfinite(row).all() for row in rows) or not float(manifest["table"]["start"]) > 0:
            raise ValueError("table")
        bool(manifest["table"]["clamp"])
        for name, least in (("channels", 1), ("multiple", 1), ("bytes_per_pixel", 1)):
            if int(manifest["network"][name]) < least:
                raise ValueError(name)
        shape = manifest["shape"]
        if len(shape) != 3 or any(int(side) < 1 for side in shape):
            raise ValueError("shape")
        for name in ("backend", "precision"):
            if not isinstance(manifest[name], str):
                raise ValueError(name)
        for name in ("fingerprint", "members"):
            if not isinstance(manifest[name], dict):
                raise ValueError(name)
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(f"plan {path} is damaged: its manifest is wrong at {error}", hint="build it again") from None


def _member(archive: zipfile.ZipFile, path: Path, name: str, digest: str) -> bytes:
    try:
        content = archive.read(name)
    except (KeyError, zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise PlanError(f"plan {path} is damaged: {name}: {error}", hint="build it again") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise PlanError(f"plan {path} is damaged: {name} does not have the digest in its manifest", hint="build it again")
    return content
