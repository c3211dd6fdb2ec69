"""The plan: the chosen engine compiled for every size that was asked for, with all that is known of how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from mrs import _version
from mrs.building.source import Source
from mrs.export.autotune.autotune import Measured
from mrs.export.autotune.calibrated import graph_of
from mrs.export.autotune.candidates import Candidate
from mrs.export.autotune.workload import Target, Workload
from mrs.export.graph_variant import GraphVariant
from mrs.kernels.table import Table
from mrs.numerics.growth import runs_away
from mrs.numerics.solver import Solver
from mrs.runtime import backends
from mrs.runtime.backends import mixed
from mrs.runtime.backends.protocol import F32, QUANTISED, Shape
from mrs.runtime.chain import Loop
from mrs.runtime.manifest import JsonObject
from mrs.runtime.plan import Plan
from mrs.runtime.system import machine

# A tenth of a network's own size at the published 100 steps.
LONGEST_TIMETABLE = 200

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Engines:
    """Compiled engines.

    Attributes:
        first: for the size that was measured; None where the engine has no form to keep.
        further: for other sizes, by (N, H, W).
    """

    first: bytes | None
    further: dict[Size, bytes]


def assemble(
    source: Source,
    solver: Solver,
    loop: Loop,
    workload: Workload,
    target: Target,
    measured: Measured,
    sizes: Sequence[Size],
) -> Plan:
    """Compile what was chosen and put it into a plan.

    Args:
        source: the network and its process.
        solver: what was measured; its number of evaluations is `measured.steps`.
        loop: the same with that number, as a table with its modulation.
        workload, target: what was measured, and for what.
        measured: the choice.
        sizes: (N, H, W), padded, for which the plan shall hold engines, that of the workload first.

    Raises:
        BackendError: where the engine cannot be compiled any more.
    """
    chosen, backend = measured.selection.chosen, backends.get(measured.selection.chosen.backend)
    solver = replace(solver, steps=measured.steps)
    target.report(f"compiling for {chosen.backend} {chosen.precision}")
    graph = graph_of(workload.graphs, GraphVariant.parse(chosen.variant), chosen.precision)
    shapes = [loop.packed((count, source.channels, height, width)) for count, height, width in sizes]
    engines = _compile_all(chosen, graph, loop.modulation, target, shapes)
    manifest: JsonObject = {
        **_origin(source, solver, loop.table),
        "shape": _size(shapes[0]),
        "backend": chosen.backend,
        "precision": chosen.precision,
        "threads": target.settings.threads,
        "fingerprint": machine.fingerprint(backend.name, backend.version(), backend.device),
        **_measurements(source, solver, measured, len(workload.pairs)),
    }
    options = target.settings.options
    if backend.name == "tensorrt":
        manifest["engine_options"] = options.to_dict()
        if options.hardware != "same":
            manifest["fingerprint"]["compatible"] = options.hardware
    if source.conditioner is not None:
        made = source.conditioner
        manifest["conditioner"] = {"side": made.side, "length": made.length, "resize": made.resize}
    if source.upscale > 1:
        manifest["upscale"] = source.upscale
    if source.autoencoder is not None:
        coder = source.autoencoder.arch
        manifest["latent"] = {
            "summary": coder.summary, "channels": coder.channels, "multiple": coder.multiple, "scale": coder.scale,
            "bytes_per_pixel": source.bytes_per_pixel,
        }  # fmt: skip
    if engines.further:
        manifest["further_shapes"] = [list(size) for size in engines.further]
    return Plan(
        manifest,
        workload.graphs[GraphVariant.parse(chosen.variant)],
        loop.modulation,
        engines.first,
        timetable(source),
        graph if chosen.precision in QUANTISED else None,
        engines.further,
        source.conditioner_graph,
        None if source.codec is None else source.codec.encoder,
        None if source.codec is None else source.codec.decoder,
    )


def _compile_all(chosen: Candidate, graph: bytes, modulation: F32, target: Target, shapes: Sequence[Shape]) -> Engines:
    """For these shapes of the network's input."""
    backend = backends.get(chosen.backend)

    def compiled(shape: Shape) -> bytes | None:
        return mixed.compile_network(backend, graph, modulation, shape, chosen.precision, target.settings).export()

    first = compiled(shapes[0])
    further: dict[Size, bytes] = {}
    for shape in dict.fromkeys(shapes[1:]):
        size = (shape[0], *shape[2:])
        known = shape == shapes[0] or (backend.name == "tensorrt" and target.settings.options.covers(size))
        engine = None if known or first is None else compiled(shape)
        if engine is not None:
            target.report(f"compiled for {size[1]}x{size[2]} too")
            further[size] = engine
    if len(shapes) > 1 and first is None:
        target.report(f"{backend.name} has no engines to keep: every size is compiled when it is first met")
    return Engines(first, further)


def _size(shape: Shape) -> list[int]:
    """[N, H, W] of (N, 2C, H, W)."""
    return [shape[0], *shape[2:]]


def _said(source: Source) -> dict[str, object]:
    """What the caller said of the checkpoint, and what it says of the pictures that it restores."""
    said: dict[str, object] = {
        "preset": source.preset, "noise_sigma": source.noise_sigma, "degradation": source.degradation,
    }  # fmt: skip
    if source.encoder is not None:
        said["encoder"] = {"name": source.encoder.path.name, "sha256": source.encoder.sha256}
    if source.autoencoder is not None:
        said["autoencoder"] = {"name": source.autoencoder.path.name, "sha256": source.autoencoder.sha256}
    return {name: value for name, value in said.items() if value is not None}


def _origin(source: Source, solver: Solver, table: Table) -> dict[str, object]:
    """What the plan was made of."""
    return {
        "made_by": f"mrs-trt {_version.__version__}",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": {"name": source.path.name, "sha256": source.checkpoint.sha256},
        "network": {
            "architecture": source.arch.name,
            "summary": source.arch.summary,
            **source.arch.to_dict(),
            "channels": source.arch.channels,
            "multiple": source.arch.multiple,
            "padding": source.arch.padding,
            "bytes_per_pixel": source.arch.bytes_per_pixel,
            **({"bytes_per_pair": source.arch.bytes_per_pair} if source.arch.bytes_per_pair else {}),
            **({"bytes_per_pixel_on": source.arch.bytes_per_pixel_on} if source.arch.bytes_per_pixel_on else {}),
        },
        **_said(source),
        "schedule": source.schedule.to_dict(),
        "solver": solver.to_dict(),
        "output": source.output,
        "table": {
            "times": list(table.times),
            "rows": [list(row) for row in table.rows],
            "start": table.start,
            "clamp": table.clamp,
        },
    }


def _measurements(source: Source, solver: Solver, measured: Measured, pictures: int) -> dict[str, object]:
    """What was measured, and what it says of the plan."""
    selection = measured.selection
    verdict = selection.verdict
    lines = verdict.warnings(selection.discretisation_db, measured.steps, source.says_its_process)
    fault = runs_away(source.schedule, solver)
    lines += [] if fault is None else [fault]
    found: dict[str, object] = {
        "selection": {"calibration_pictures": pictures, "measured_at": measured.measured_at, **selection.to_dict()},
        "verdict": {**verdict.to_dict(), "warnings": lines},
    }
    if measured.pace:
        found["pace"] = [list(point) for point in measured.pace]
    if measured.max_ms is not None:
        evaluations = [fit.to_dict() for fit in measured.evaluations]
        found["latency"] = {"max_ms": measured.max_ms, "evaluations": evaluations}
    return found


def timetable(source: Source) -> F32 | None:
    """The modulation at every whole time, where that is not out of proportion."""
    T = source.schedule.T
    return source.modulation(np.arange(T + 1.0).tolist()) if T <= LONGEST_TIMETABLE else None
