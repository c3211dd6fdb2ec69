"""The plan: one file that holds everything a restore needs. Its format stands in docs/plan.md.

A plan is a zip archive without compression: `manifest.json`, the network as `network.onnx`, perhaps what tells it of
the whole picture as `conditioner.onnx`, perhaps what makes its latents and pictures of these as `encoder.onnx` and
`decoder.onnx`, the time-dependent vectors of each step as `modulation.npy`, perhaps those of every whole time as
`timetable.npy`, perhaps the network quantised for the plan's precision, and perhaps an engine compiled for one machine
as `engine.bin`, with others for further shapes. The manifest carries the SHA-256 of every other member, which is
checked before a byte of it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.table import Table
from mrs.runtime.backends.protocol import QUANTISED
from mrs.runtime.errors import BackendError, PlanError
from mrs.runtime.manifest import BUILD, FORMAT, FORMAT_VERSION, JsonObject, Manifest, Size, damaged
from mrs.runtime.onnx_guard import check_conditioner, check_decoder, check_encoder, check_network
from mrs.runtime.system.atomic import replacing
from mrs.runtime.system.inputs import path_of
from mrs.runtime.system.regular_files import open_regular

GRAPH, MODULATION, TIMETABLE, ENGINE = "network.onnx", "modulation.npy", "timetable.npy", "engine.bin"
QUANTISED_GRAPH = "network.{}.onnx"
CONDITIONER = "conditioner.onnx"
# Around a network that restores latents.
ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
FURTHER_ENGINE = "engine.{}x{}x{}.bin"
# A manifest is some kilobytes; refuse to parse what cannot be one.
MANIFEST_LIMIT = 16 << 20
# What zipfile raises for archives that are damaged, or of kinds that it does not read.
DAMAGE = (zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError, OverflowError, struct.error)


@dataclass(frozen=True)
class Plan:
    """A plan in memory.

    Attributes:
        manifest: the manifest as JSON values; `docs/plan.md` describes every field.
        graph: the ONNX model, any height, width and batch.
        modulation: (steps, M) float32.
        engine: compiled for the shape and the machine of its manifest, or None.
        timetable: (T + 1, M) float32, the modulation at every whole time, with which other solvers can be tried; or
            None.
        quantised: the ONNX model for the plan's precision, where that is int8 or fp8; else None.
        further: engines for the manifest's further shapes, by (N, H, W), on the same machine.
        conditioner: the ONNX model that gives the network its input `context`; None for a network without one.
        encoder, decoder: the ONNX models from pictures to latents and back, where the network restores latents.
    """

    manifest: JsonObject
    graph: bytes
    modulation: NDArray[np.float32]
    engine: bytes | None = None
    timetable: NDArray[np.float32] | None = None
    quantised: bytes | None = None
    further: Mapping[Size, bytes] = field(default_factory=dict)
    conditioner: bytes | None = None
    encoder: bytes | None = None
    decoder: bytes | None = None

    @property
    def engines(self) -> dict[Size, bytes]:
        """All engines by (N, H, W), padded; that of the plan's shape first."""
        first = {} if self.engine is None else {self.facts.shape: self.engine}
        return {**first, **self.further}

    @cached_property
    def facts(self) -> Manifest:
        """What a restore reads of the manifest."""
        return Manifest.of(self.manifest)

    @property
    def table(self) -> Table:
        """The solver."""
        return self.facts.table

    def graph_for(self, precision: str) -> bytes:
        """The ONNX model that an engine compiles for a precision.

        Raises:
            BackendError: for int8 or fp8 where that is not the plan's.
        """
        if precision not in QUANTISED:
            return self.graph
        if self.quantised is None or precision != self.facts.precision:
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
            members[QUANTISED_GRAPH.format(self.facts.precision)] = self.quantised
        if self.timetable is not None:
            members[TIMETABLE] = _npy(self.timetable)
        around = {CONDITIONER: self.conditioner, ENCODER: self.encoder, DECODER: self.decoder}
        members.update({name: graph for name, graph in around.items() if graph is not None})
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
    path = path_of("plan", path)
    with _opened(path) as archive:
        manifest = _manifest(archive, path)
        members = {name: _member(archive, path, name, digest) for name, digest in manifest.members.items()}
    quantised = QUANTISED_GRAPH.format(manifest.precision) if manifest.precision in QUANTISED else None
    missing = {GRAPH, MODULATION, quantised or GRAPH} - members.keys()
    if missing:
        raise PlanError(f"plan {path} lacks {', '.join(sorted(missing))}", hint="build it again")
    modulation = _vectors(members[MODULATION], path, MODULATION)
    if len(modulation) != len(manifest.table.rows):
        raise damaged(path, f"{MODULATION} does not fit its rows")
    _check_codec(members, manifest, path)
    context, network = _context(members.get(CONDITIONER), manifest, path), manifest.network
    for name, precision in {GRAPH: "fp32", **({quantised: manifest.precision} if quantised else {})}.items():
        graph = check_network(members[name], f"plan {path}", precision)
        wrong = (
            "network.channels" if graph.channels != network.channels
            # A network may ask for twice what its halvings need, as the published UNets do.
            else "network.multiple" if network.multiple not in (graph.multiple, 2 * graph.multiple)
            else "network.bytes_per_pixel" if graph.bytes_per_pixel > network.bytes_per_pixel
            else MODULATION if graph.modulation != modulation.shape[1]
            else CONDITIONER if graph.context != context
            else None
        )  # fmt: skip
        if wrong is not None:
            raise damaged(path, f"{wrong} does not fit {name}")
    timetable = _vectors(members[TIMETABLE], path, TIMETABLE) if TIMETABLE in members else None
    if timetable is not None and timetable.shape[1] != modulation.shape[1]:
        raise damaged(path, f"{TIMETABLE} does not fit {MODULATION}")
    return Plan(
        manifest.raw, members[GRAPH], modulation, members.get(ENGINE), timetable,
        members[quantised] if quantised else None, _further(manifest, members, path),
        members.get(CONDITIONER), members.get(ENCODER), members.get(DECODER),
    )  # fmt: skip


def _context(content: bytes | None, manifest: Manifest, path: Path) -> int:
    """Length of what the conditioner gives; 0 without one."""
    said = manifest.conditioner
    if content is None and said is None:
        return 0
    if content is None or said is None:
        raise damaged(path, f"{CONDITIONER} or its place in the manifest is missing")
    conditioner = check_conditioner(content, f"plan {path}")
    facts = conditioner.channels, conditioner.side, conditioner.length
    if facts != (manifest.network.channels, said.side, said.length):
        raise damaged(path, f"conditioner does not fit {CONDITIONER}")
    return said.length


def _check_codec(members: Mapping[str, bytes], manifest: Manifest, path: Path) -> None:
    """Encoder and decoder fit each other, the manifest and the network; or there is none of them."""
    said, present = manifest.latent, [name for name in (ENCODER, DECODER) if name in members]
    if said is None and not present:
        return
    if said is None or len(present) != 2:
        raise damaged(path, f"{ENCODER}, {DECODER} or their place in the manifest is missing")
    if CONDITIONER in members:
        raise damaged(path, f"{CONDITIONER} stands beside {ENCODER}")
    encoder, decoder = check_encoder(members[ENCODER], f"plan {path}"), check_decoder(members[DECODER], f"plan {path}")
    wrong = (
        DECODER if decoder[:-1] != encoder[:-1]
        else "latent.channels" if said.channels != encoder.channels
        else "network.channels" if manifest.network.channels != encoder.latent
        else "latent.scale" if said.scale != encoder.scale
        # The published one mirrors up to twice what its halvings need.
        else "latent.multiple" if said.multiple not in (encoder.scale, 2 * encoder.scale)
        else "latent.bytes_per_pixel" if said.bytes_per_pixel < max(encoder.bytes_per_pixel, decoder.bytes_per_pixel)
        else None
    )  # fmt: skip
    if wrong is not None:
        raise damaged(path, f"{wrong} does not fit {ENCODER}")


def _further(manifest: Manifest, members: Mapping[str, bytes], path: Path) -> dict[Size, bytes]:
    """The engines for further shapes."""
    engines = {}
    for shape in manifest.further_shapes:
        name = FURTHER_ENGINE.format(*shape)
        if name not in members:
            raise PlanError(f"plan {path} lacks {name}", hint="build it again")
        engines[shape] = members[name]
    return engines


def is_plan(path: str | Path) -> bool:
    """Whether a file looks like a plan, sound or damaged; checkpoints may be zip archives too."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return "manifest.json" in archive.namelist()
    except DAMAGE:
        return False


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
                raise damaged(path, f"{entry.filename} is not stored as it is")
        if sum(entry.file_size for entry in entries) > size:
            raise damaged(path, "its members lie upon each other")
        if len(set(archive.namelist())) < len(entries):
            raise damaged(path, "it holds two members of one name")
        yield archive


def _manifest(archive: zipfile.ZipFile, path: Path) -> Manifest:
    try:
        info = archive.getinfo("manifest.json")
        if info.file_size > MANIFEST_LIMIT:
            raise ValueError("the manifest is too large")
        values = json.loads(archive.read(info))
    except DAMAGE as error:
        raise PlanError(f"{path} is no plan or is damaged: {error}", hint="build it again") from None
    return Manifest.read(values, path)


def _member(archive: zipfile.ZipFile, path: Path, name: str, digest: str) -> bytes:
    try:
        content = archive.read(name)
    except (KeyError, *DAMAGE) as error:
        raise damaged(path, f"{name}: {error}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise damaged(path, f"{name} does not have the digest in its manifest")
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
        raise damaged(path, f"{name}: {' '.join(str(error).split())}") from None
    values = content[stream.tell() :]
    if dtype != np.dtype("<f4") or fortran or len(shape) != 2 or len(values) != 4 * shape[0] * shape[1]:
        raise damaged(path, f"{name} is not a table of float32")
    # A copy, because what is made of bytes is read-only, and engines want writeable memory.
    vectors = np.frombuffer(values, np.float32).reshape(shape).copy()
    if not np.isfinite(vectors).all():
        raise damaged(path, f"{name} holds infinities or NaN")
    return vectors
