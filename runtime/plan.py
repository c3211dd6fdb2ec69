"""The plan: one file that holds everything a restore needs. Its format stands in docs/plan.md.

A plan is a zip archive without compression: `manifest.json`, the network as `network.onnx`, perhaps what tells it of
the whole picture as `conditioner.onnx`, the time-dependent vectors of each step as `modulation.npy`, perhaps those of
every whole time as `timetable.npy`, perhaps the network quantised for the plan's precision, and perhaps an engine
compiled for one machine as `engine.bin`, with others for further shapes. The manifest carries the SHA-256 of every
other member, which is checked before a byte of it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.table import CLAMPS, Row, Table
from mrs.runtime.backends.protocol import QUANTISED
from mrs.runtime.errors import BackendError, PlanError
from mrs.runtime.onnx_guard import check_conditioner, check_network
from mrs.runtime.system.atomic import replacing
from mrs.runtime.system.regular_files import open_regular

FORMAT = "mrs-trt plan"
FORMAT_VERSION = 3
GRAPH, MODULATION, TIMETABLE, ENGINE = "network.onnx", "modulation.npy", "timetable.npy", "engine.bin"
QUANTISED_GRAPH = "network.{}.onnx"
CONDITIONER = "conditioner.onnx"
# Graphs around the network that the format has a place for, and that nothing here runs yet.
UNKNOWN_GRAPHS = ("encoder.onnx", "decoder.onnx")
FURTHER_ENGINE = "engine.{}x{}x{}.bin"
# A manifest is some kilobytes; refuse to parse what cannot be one.
MANIFEST_LIMIT = 16 << 20
# A warning is one line, and a plan of somebody's has not hundreds.
LONGEST_WARNING, MOST_WARNINGS = 500, 8
BUILD = "make one with: mrs-trt build CHECKPOINT -o PLAN"
# What zipfile raises for archives that are damaged, or of kinds that it does not read.
DAMAGE = (zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError, OverflowError, struct.error)
Size = tuple[int, int, int]
LARGEST_NUMBER = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Plan:
    """A plan in memory.

    Attributes:
        manifest: the manifest as JSON values; `docs/plan.md` describes every field.
        graph: the ONNX model, any height, width and batch.
        modulation: (steps, M) float32.
        engine: compiled for `manifest["shape"]` on the machine of `manifest["fingerprint"]`, or None.
        timetable: (T + 1, M) float32, the modulation at every whole time, with which other solvers can be tried; or
            None.
        quantised: the ONNX model for `manifest["precision"]`, where that is int8 or fp8; else None.
        further: engines for `manifest["further_shapes"]`, by (N, H, W), on the same machine.
        conditioner: the ONNX model that gives the network its input `context`; None for a network without one.
    """

    manifest: dict[str, Any]
    graph: bytes
    modulation: NDArray[np.float32]
    engine: bytes | None = None
    timetable: NDArray[np.float32] | None = None
    quantised: bytes | None = None
    further: Mapping[Size, bytes] = field(default_factory=dict)
    conditioner: bytes | None = None

    @property
    def engines(self) -> dict[Size, bytes]:
        """All engines by (N, H, W), padded; `manifest["shape"]` first."""
        count, height, width = self.manifest["shape"]
        first = {} if self.engine is None else {(count, height, width): self.engine}
        return {**first, **self.further}

    @property
    def table(self) -> Table:
        """The solver."""
        said = self.manifest["table"]
        rows = tuple(Row(*row) for row in said["rows"])
        return Table(tuple(said["times"]), rows, float(said["start"]), str(said["clamp"]))

    @property
    def warnings(self) -> list[str]:
        """Why the plan does not restore, as its own build saw it; none where it does, or where nobody looked."""
        return list(self.manifest.get("verdict", {}).get("warnings", []))

    def graph_for(self, precision: str) -> bytes:
        """The ONNX model that an engine compiles for a precision.

        Raises:
            BackendError: for int8 or fp8 where that is not the plan's.
        """
        if precision not in QUANTISED:
            return self.graph
        if self.quantised is None or precision != self.manifest["precision"]:
            raise BackendError(
                f"the plan has no network for {precision}", hint=f"build one with --precision {precision}"
            )
        return self.quantised

    def save(self, path: str | Path, overwrite: bool = True) -> None:
        """Write the plan; the file appears whole or not at all.

        Raises:
            InputError: where it cannot be written, or exists and `overwrite` is not given.
        """
        members = {GRAPH: self.graph, MODULATION: _npy(self.modulation)}
        if self.quantised is not None:
            members[QUANTISED_GRAPH.format(self.manifest["precision"])] = self.quantised
        if self.timetable is not None:
            members[TIMETABLE] = _npy(self.timetable)
        if self.conditioner is not None:
            members[CONDITIONER] = self.conditioner
        if self.engine is not None:
            members[ENGINE] = self.engine
        members.update({FURTHER_ENGINE.format(*shape): engine for shape, engine in self.further.items()})
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
        manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, **self.manifest, "members": digests}
        with replacing(Path(path), overwrite) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            # ZipInfo's own date, 1980: equal plans are equal files.
            archive.writestr(zipfile.ZipInfo("manifest.json"), json.dumps(manifest, indent=1, allow_nan=False))
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)


def read_plan(path: str | Path) -> Plan:
    """Read a plan and check every member's digest.

    Raises:
        PlanError: for a file that is missing, no plan, damaged, or of a newer format.
    """
    path = Path(path)
    with _opened(path) as archive:
        manifest = _manifest(archive, path)
        members = {name: _member(archive, path, name, digest) for name, digest in manifest["members"].items()}
    quantised = QUANTISED_GRAPH.format(manifest["precision"]) if manifest["precision"] in QUANTISED else None
    missing = {GRAPH, MODULATION, quantised or GRAPH} - members.keys()
    if missing:
        raise PlanError(f"plan {path} lacks {', '.join(sorted(missing))}", hint="build it again")
    modulation = _vectors(members[MODULATION], path, MODULATION)
    if len(modulation) != len(manifest["table"]["rows"]):
        raise _damaged(path, f"{MODULATION} does not fit its rows")
    unknown = members.keys() & set(UNKNOWN_GRAPHS)
    if unknown:
        raise PlanError(
            f"plan {path} has {min(unknown)}, which this version cannot run", hint="use the version that built it"
        )
    context = _context(members.get(CONDITIONER), manifest, path)
    for name, kind in {GRAPH: "fp32", **({quantised: manifest["precision"]} if quantised else {})}.items():
        network, about = check_network(members[name], f"plan {path}", kind), manifest["network"]
        wrong = (
            "network.channels" if network.channels != about["channels"]
            else "network.multiple" if network.multiple != about["multiple"]
            else "network.bytes_per_pixel" if network.bytes_per_pixel > about["bytes_per_pixel"]
            else MODULATION if network.modulation != modulation.shape[1]
            else CONDITIONER if network.context != context
            else None
        )  # fmt: skip
        if wrong is not None:
            raise _damaged(path, f"{wrong} does not fit {name}")
    timetable = _vectors(members[TIMETABLE], path, TIMETABLE) if TIMETABLE in members else None
    if timetable is not None and timetable.shape[1] != modulation.shape[1]:
        raise _damaged(path, f"{TIMETABLE} does not fit {MODULATION}")
    return Plan(
        manifest, members[GRAPH], modulation, members.get(ENGINE), timetable, members[quantised] if quantised else None,
        _further(manifest, members, path), members.get(CONDITIONER),
    )  # fmt: skip


def _context(conditioner: bytes | None, manifest: Mapping[str, Any], path: Path) -> int:
    """Length of what the conditioner gives; 0 without one."""
    about = manifest.get("conditioner")
    if conditioner is None and about is None:
        return 0
    if conditioner is None or about is None:
        raise _damaged(path, f"{CONDITIONER} or its place in the manifest is missing")
    found = check_conditioner(conditioner, f"plan {path}")
    if (found.channels, found.side, found.length) != (manifest["network"]["channels"], about["side"], about["length"]):
        raise _damaged(path, f"conditioner does not fit {CONDITIONER}")
    return found.length


def _further(manifest: Mapping[str, Any], members: Mapping[str, bytes], path: Path) -> dict[Size, bytes]:
    """The engines for further shapes."""
    found = {}
    for count, height, width in manifest.get("further_shapes", []):
        name = FURTHER_ENGINE.format(count, height, width)
        if name not in members:
            raise PlanError(f"plan {path} lacks {name}", hint="build it again")
        found[count, height, width] = members[name]
    return found


def is_plan(path: str | Path) -> bool:
    """Whether a file looks like a plan, sound or damaged; checkpoints may be zip archives too."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return "manifest.json" in archive.namelist()
    except DAMAGE:
        return False


def read_manifest(path: str | Path) -> dict[str, Any]:
    """A plan's manifest alone, without checking the other members.

    Raises:
        PlanError: as `read_plan`.
    """
    path = Path(path)
    with _opened(path) as archive:
        return _manifest(archive, path)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, of which every member can be read without claiming more memory than the file has bytes."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"
        raise PlanError(f"plan {path} {what}", hint=BUILD)
    try:
        archive, size = zipfile.ZipFile(path), path.stat().st_size
    except PermissionError as error:
        raise PlanError(f"plan {path} cannot be read: {error.strerror}") from None
    except DAMAGE as error:
        raise PlanError(f"{path} is no plan or is damaged: {error}", hint=BUILD) from None
    with archive:
        entries = archive.infolist()
        if "manifest.json" not in archive.namelist():
            raise PlanError(f"{path} is a zip file, but no plan", hint=BUILD)
        for entry in entries:
            stored = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
            if not stored or not entry.file_size == entry.compress_size <= size:
                raise _damaged(path, f"{entry.filename} is not stored as it is")
        if sum(entry.file_size for entry in entries) > size:
            raise _damaged(path, "its members lie upon each other")
        if len(set(archive.namelist())) < len(entries):
            raise _damaged(path, "it holds two members of one name")
        yield archive


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        info = archive.getinfo("manifest.json")
        if info.file_size > MANIFEST_LIMIT:
            raise ValueError("the manifest is too large")
        manifest = json.loads(archive.read(info))
    except DAMAGE as error:
        raise PlanError(f"{path} is no plan or is damaged: {error}", hint="build it again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise PlanError(f"{path} is a zip file, but no plan", hint=BUILD)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise PlanError(
            f"plan {path} has format version {manifest.get('format_version')}, this program reads {FORMAT_VERSION}",
            hint="build it again with this version",
        )
    wrong = next(_wrong_fields(manifest), None)
    if wrong is not None:
        raise _damaged(path, f"{wrong} in its manifest is missing or wrong")
    return manifest


def _wrong_fields(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Names of the fields that a restore would trip over later."""
    table, network, fingerprint, members = (
        value if isinstance(value := manifest.get(name), dict) else {}
        for name in ("table", "network", "fingerprint", "members")
    )
    rows = table.get("rows")
    if not rows or not _is_list(rows, lambda row: _is_list(row, _is_number, len(Row._fields))):
        yield "table.rows"
    elif not _is_list(table.get("times"), _is_number, len(rows) + 1):
        yield "table.times"
    if not _is_number(table.get("start")) or table["start"] <= 0:
        yield "table.start"
    if table.get("clamp") not in CLAMPS:
        yield "table.clamp"
    yield from (
        f"network.{name}" for name in ("channels", "multiple", "bytes_per_pixel") if not _is_count(network.get(name))
    )
    conditioner = manifest.get("conditioner", {"side": 1, "length": 1})
    if not isinstance(conditioner, dict) or not all(_is_count(conditioner.get(name)) for name in ("side", "length")):
        yield "conditioner"
    if network.get("padding", "zero") != "zero":
        yield "network.padding"
    if not _is_list(manifest.get("shape"), _is_count, 3) or math.prod(manifest["shape"]) >= 1 << 31:
        yield "shape"
    if not _are_further_shapes(manifest):
        yield "further_shapes"
    verdict = manifest.get("verdict", {"warnings": []})
    lines = verdict.get("warnings") if isinstance(verdict, dict) else None
    few = isinstance(lines, list) and len(lines) <= MOST_WARNINGS
    if not few or not _is_list(lines, lambda line: isinstance(line, str) and 0 < len(line) <= LONGEST_WARNING):
        yield "verdict"
    yield from (name for name in ("backend", "precision") if not isinstance(manifest.get(name), str))
    for name, entries in (("fingerprint", fingerprint), ("members", members)):
        if not entries or not all(isinstance(value, str) for value in entries.values()):
            yield name


def _are_further_shapes(manifest: Mapping[str, Any]) -> bool:
    """None of them twice, and none that is the plan's own."""
    shapes = manifest.get("further_shapes", [])
    if not _is_list(shapes, lambda shape: _is_list(shape, _is_count, 3)):
        return False
    distinct = {tuple(shape) for shape in shapes}
    return len(distinct) == len(shapes) and manifest.get("shape") not in shapes


def _is_list(value: object, fits: Callable[[Any], bool], length: int | None = None) -> bool:
    return isinstance(value, list) and length in (None, len(value)) and all(map(fits, value))


def _is_number(value: object) -> bool:
    # By type, because a bool is an int too; false for NaN. The kernels compute in float32.
    return type(value) in (int, float) and abs(value) <= LARGEST_NUMBER  # type: ignore[arg-type]


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 31


def _member(archive: zipfile.ZipFile, path: Path, name: str, digest: str) -> bytes:
    try:
        content = archive.read(name)
    except (KeyError, *DAMAGE) as error:
        raise _damaged(path, f"{name}: {error}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise _damaged(path, f"{name} does not have the digest in its manifest")
    return content


def _npy(array: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    return stream.getvalue()


def _vectors(content: bytes, path: Path, name: str) -> NDArray[np.float32]:
    """The table in an .npy file; its header is not believed before it fits the bytes that follow."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"version {version} of .npy")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # noqa: BLE001 (NumPy's parser raises many types for damaged headers)
        raise _damaged(path, f"{name}: {' '.join(str(error).split())}") from None
    values = content[stream.tell() :]
    if dtype != np.dtype("<f4") or fortran or len(shape) != 2 or len(values) != 4 * shape[0] * shape[1]:
        raise _damaged(path, f"{name} is not a table of float32")
    # A copy, because what is made of bytes is read-only, and engines want writeable memory.
    vectors = np.frombuffer(values, np.float32).reshape(shape).copy()
    if not np.isfinite(vectors).all():
        raise _damaged(path, f"{name} holds infinities or NaN")
    return vectors


def _damaged(path: Path, what: str) -> PlanError:
    return PlanError(f"plan {path} is damaged: {what}", hint="build it again")
