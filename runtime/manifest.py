"""What a restore reads of a plan's manifest, checked before anything else of the plan is used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from mrs.kernels.scaling import CLIP, STRETCH
from mrs.kernels.table import CLAMPS, Row, Table
from mrs.runtime.backends.settings import EngineOptions
from mrs.runtime.errors import PlanError

FORMAT = "mrs-trt plan"
FORMAT_VERSION = 3
# A warning is one line, and a plan of somebody's has not hundreds.
LONGEST_WARNING, MOST_WARNINGS = 500, 8
BUILD = "make one with: mrs-trt build CHECKPOINT -o PLAN"
# By what a picture may be enlarged before it is restored; published networks are for 4.
MOST_UPSCALE = 16
LARGEST_NUMBER = float(np.finfo(np.float32).max)
Size = tuple[int, int, int]
# An object of JSON: what its values are is known to whoever has looked.
JsonObject: TypeAlias = dict[str, Any]
# What a network takes around a picture.
PADDINGS = ("zero", "reflect")
# Engines that keep activations in the precision's own type: in these they take half.
TYPED, HALF = "torch", ("bf16", "fp16")
# Numbers of `LatentFacts`.
LATENT = ("channels", "multiple", "bytes_per_pixel", "scale")


@dataclass(frozen=True)
class NetworkFacts:
    """Of the network: channels of pictures, the multiple that heights and widths are padded to, how they are padded,
    the most bytes of activations that a pixel takes, of an engine that writes down how each pixel attends to each how
    many a pair of pixels takes, and by their names the engines on which a pixel takes more, in float32."""

    channels: int
    multiple: int
    bytes_per_pixel: int
    padding: str
    bytes_per_pair: float = 0.0
    bytes_per_pixel_on: Mapping[str, int] = field(default_factory=dict)

    def bytes_on(self, backend: str, precision: str) -> int:
        """Bytes of activations that a pixel takes on a backend: `onnxruntime-cuda` is one of the engine
        `onnxruntime`."""
        engine = backend.partition("-")[0]
        more = self.bytes_per_pixel_on.get(engine, 0)
        # What a plan says for all engines is held against its graph; of an engine alone it cannot say less.
        return max(self.bytes_per_pixel, more // 2 if engine == TYPED and precision in HALF else more)


@dataclass(frozen=True)
class LatentFacts:
    """Of pictures whose latents are restored: their channels, the multiple that their sides are mirrored up to, the
    most bytes that a pixel of them takes in all, and by which the sides of a latent are smaller."""

    channels: int
    multiple: int
    bytes_per_pixel: int
    scale: int


@dataclass(frozen=True)
class ConditionerFacts:
    """Of what tells the network of the whole picture: the side to which pictures are scaled, the numbers that it gives,
    and how pictures are scaled."""

    side: int
    length: int
    resize: str


@dataclass(frozen=True)
class Manifest:
    """A manifest's fields of which a restore makes use; `docs/plan.md` describes every one.

    Attributes:
        raw: all of it as JSON values, for whoever describes a plan.
        network: the network's sizes.
        conditioner: what tells it of the whole picture; None where nothing does.
        latent: of the pictures, where the network restores their latents; None where it restores pictures.
        table: the solver.
        shape: (N, H, W), padded, that the plan was measured and compiled for: of what the network restores.
        further_shapes: for which it has engines too.
        backend, precision: chosen for it.
        fingerprint: of the machine that its engines are for.
        upscale: by what pictures are enlarged before they are restored; 1 for not at all.
        pace: sides of square pictures, ascending, and the microseconds of a pixel of them in one evaluation, as its
            build measured them; none where it did not.
        warnings: why the plan does not restore, as its own build saw it; none where it does, or nobody looked.
        members: SHA-256 of the plan's other files by name; empty for a plan that was not saved yet.
    """

    raw: JsonObject
    network: NetworkFacts
    conditioner: ConditionerFacts | None
    latent: LatentFacts | None
    table: Table
    shape: Size
    further_shapes: tuple[Size, ...]
    backend: str
    precision: str
    fingerprint: Mapping[str, str]
    upscale: int
    pace: tuple[tuple[int, float], ...]
    warnings: tuple[str, ...]
    members: Mapping[str, str]

    @property
    def pictures(self) -> NetworkFacts | LatentFacts:
        """Channels, multiple and memory of pictures: the network's, where it restores these themselves."""
        return self.latent or self.network

    def bytes_on(self, backend: str, precision: str) -> int:
        """Bytes of activations that a pixel of a picture takes on a backend, of the network and all around it."""
        network = self.network.bytes_on(backend, precision)
        if self.latent is None:
            return network
        more = network - self.network.bytes_per_pixel
        return self.latent.bytes_per_pixel + math.ceil(more / self.latent.scale**2)

    @property
    def picture_shape(self) -> Size:
        """(N, H, W) of the pictures that `shape` stands for."""
        count, height, width = self.shape
        scale = 1 if self.latent is None else self.latent.scale
        return count, scale * height, scale * width

    @property
    def engine_options(self) -> EngineOptions:
        """Of the builder, so that a rebuild elsewhere has them too.

        Raises:
            InputError: where they are not understood.
        """
        return EngineOptions.from_dict(self.raw.get("engine_options", {}))

    @staticmethod
    def of(values: JsonObject) -> Manifest:
        """From JSON values that are known to be sound."""
        network, table, conditioner = values["network"], values["table"], values.get("conditioner")
        latent = values.get("latent")
        return Manifest(
            raw=values,
            network=NetworkFacts(
                network["channels"],
                network["multiple"],
                network["bytes_per_pixel"],
                network.get("padding", "zero"),
                float(network.get("bytes_per_pair", 0)),
                network.get("bytes_per_pixel_on", {}),
            ),
            conditioner=None
            if conditioner is None
            else ConditionerFacts(conditioner["side"], conditioner["length"], conditioner.get("resize", STRETCH)),
            latent=None if latent is None else LatentFacts(*(latent[name] for name in LATENT)),
            table=Table(
                tuple(table["times"]), tuple(Row(*row) for row in table["rows"]), float(table["start"]), table["clamp"]
            ),
            shape=_size(values["shape"]),
            further_shapes=tuple(map(_size, values.get("further_shapes", []))),
            backend=values["backend"],
            precision=values["precision"],
            fingerprint=values["fingerprint"],
            upscale=values.get("upscale", 1),
            pace=tuple((side, float(each)) for side, each in values.get("pace", [])),
            warnings=tuple(values.get("verdict", {}).get("warnings", [])),
            members=values.get("members", {}),
        )

    @staticmethod
    def read(values: object, path: Path) -> Manifest:
        """From what a plan's file holds.

        Raises:
            PlanError: for what is no manifest, of another format, or damaged.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise PlanError(f"{path} is a zip file, but no plan", hint=BUILD)
        if values.get("format_version") != FORMAT_VERSION:
            raise PlanError(
                f"plan {path} has format version {values.get('format_version')}, this program reads {FORMAT_VERSION}",
                hint="build it again with this version",
            )
        wrong = next(_wrong_fields(values), None)
        if wrong is not None:
            raise damaged(path, f"{wrong} in its manifest is missing or wrong")
        return Manifest.of(values)


def damaged(path: Path, what: str) -> PlanError:
    """What to raise for a plan that is not as it was written."""
    return PlanError(f"plan {path} is damaged: {what}", hint="build it again")


def _size(shape: list[int]) -> Size:
    count, height, width = shape
    return count, height, width


def _wrong_fields(manifest: JsonObject) -> Iterator[str]:
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
    if not _is_number(table.get("start")) or table["start"] < 0:
        yield "table.start"
    if table.get("clamp") not in CLAMPS:
        yield "table.clamp"
    yield from _wrong_of_network(network)
    conditioner = manifest.get("conditioner", {"side": 1, "length": 1})
    if not isinstance(conditioner, dict) or not all(_is_count(conditioner.get(name)) for name in ("side", "length")):
        yield "conditioner"
    elif conditioner.get("resize", STRETCH) not in (STRETCH, CLIP):
        yield "conditioner.resize"
    latent = manifest.get("latent", dict.fromkeys(LATENT, 1))
    if not isinstance(latent, dict) or not all(_is_count(latent.get(name)) for name in LATENT):
        yield "latent"
    if not _is_list(manifest.get("shape"), _is_count, 3) or math.prod(manifest["shape"]) >= 1 << 31:
        yield "shape"
    if not _is_count(manifest.get("upscale", 1)) or manifest.get("upscale", 1) > MOST_UPSCALE:
        yield "upscale"
    if not _is_pace(manifest.get("pace", [])):
        yield "pace"
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


def _wrong_of_network(network: JsonObject) -> Iterator[str]:
    yield from (
        f"network.{name}" for name in ("channels", "multiple", "bytes_per_pixel") if not _is_count(network.get(name))
    )
    if not _is_number(network.get("bytes_per_pair", 0)) or network.get("bytes_per_pair", 0) < 0:
        yield "network.bytes_per_pair"
    on = network.get("bytes_per_pixel_on", {})
    if not isinstance(on, dict) or not all(map(_is_count, on.values())):
        yield "network.bytes_per_pixel_on"
    if network.get("padding", "zero") not in PADDINGS:
        yield "network.padding"


def _are_further_shapes(manifest: JsonObject) -> bool:
    """None of them twice, and none that is the plan's own."""
    shapes = manifest.get("further_shapes", [])
    if not _is_list(shapes, lambda shape: _is_list(shape, _is_count, 3)):
        return False
    distinct = {tuple(shape) for shape in shapes}
    return len(distinct) == len(shapes) and manifest.get("shape") not in shapes


def _is_pace(points: object) -> bool:
    """Sides that ascend, with times."""
    if not _is_list(points, lambda point: isinstance(point, list) and len(point) == 2 and _is_count(point[0])):
        return False
    sides, times = [point[0] for point in points], [point[1] for point in points]  # type: ignore[attr-defined]
    return sorted(set(sides)) == sides and _is_list(times, lambda each: _is_number(each) and each > 0)  # type: ignore[operator]


def _is_list(value: object, fits: Callable[[object], bool], length: int | None = None) -> bool:
    return isinstance(value, list) and length in (None, len(value)) and all(map(fits, value))


def _is_number(value: object) -> bool:
    # By type, because a bool is an int too; false for NaN. The kernels compute in float32.
    return type(value) in (int, float) and abs(value) <= LARGEST_NUMBER  # type: ignore[arg-type]


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 31
