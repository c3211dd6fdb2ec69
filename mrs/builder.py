"""From a checkpoint to a plan: table, graph, the choice of an engine, one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrs import _version, degradations
from mrs.calibration import calibration_pairs
from mrs.export import selection_cache
from mrs.export.checkpoint import Checkpoint, read_checkpoint
from mrs.export.forms import first, shapes_of
from mrs.export.graph import GraphShape, build_graph
from mrs.export.latency import LADDER, Fit, fitting, within
from mrs.export.modulation import modulation_table
from mrs.export.nafnet import LIVE_CHANNELS, Architecture, ConditionalNAFNet
from mrs.export.quantisation import CalibratedGraphs, graph_of
from mrs.export.selection import Pair, check_choice, float32_backend, select
from mrs.export.selection_cache import Measured
from mrs.runtime import backends, machine
from mrs.runtime.backends import Network, engine_options, mixed
from mrs.runtime.backends.engine_options import EngineOptions
from mrs.runtime.backends.protocol import QUANTISED
from mrs.runtime.chains import Loop
from mrs.runtime.errors import BackendError, CheckpointError, InputError
from mrs.runtime.libraries import installed_version
from mrs.runtime.plan import Plan
from mrs.schedule import Schedule
from mrs.solver import OUTPUTS, RECOMMENDED, Solver
from mrs.table import Table, tableau

WEIGHTS = Path(__file__).parent / "weights"
REFERENCE_STEPS = 100
# A tenth of a network's own size at the published 100 steps.
LONGEST_TIMETABLE = 200
# Of a schedule, what belongs to the training. Its convention and its interpolation are a sampler's own habits: on the
# shipped weights both conventions restore equally well.
PROCESS = ("kind", "max_sigma", "eps", "T")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8", "fp8")
DEVICES = ("auto", "cpu", "cuda")
# Largest error of a float32 engine beside torch, relative to the largest output: far above round-off, far below
# what a wrong graph would give.
GRAPH_TOLERANCE = 1e-3


@engine_options.building(EngineOptions())
def build(
    checkpoint: str | Path,
    plan: str | Path,
    *,
    size: tuple[int, int] = (256, 256),
    batch: int = 1,
    solver: Solver | None = None,
    schedule: Schedule | None = None,
    output: str | None = None,
    override_checkpoint: bool = False,
    backend: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    max_latency: float | None = None,
    calibration: str | Path | None = None,
    threads: int | None = None,
    measure_again: bool = False,
    overwrite: bool = True,
    builder_options: Sequence[str] = (),
    size_range: tuple[tuple[int, int], tuple[int, int]] | None = None,
    further_sizes: Sequence[tuple[int, int]] = (),
    report: Callable[[str], None] = lambda line: None,
) -> Plan:
    """Compile a checkpoint and a solver for this machine.

    Args:
        checkpoint: `.pth` or `.safetensors`, or the name of shipped weights, such as `rain`.
        plan: the file to write.
        size: (H, W) to compile ahead for. Other sizes are compiled when they are first met.
        batch: pictures per restore to compile ahead for.
        solver: by default `mrs.solver.RECOMMENDED`.
        schedule: the process the network was trained on; by default what the checkpoint says, else Refusion's.
        output: what the network predicts; by default what the checkpoint says, else `noise`.
        override_checkpoint: whether `schedule` and `output` may contradict what the checkpoint says.
        backend: `openvino`, `onnxruntime`, `tensorrt`, `torch`, `torch-eager`, or `auto` to measure all that run here.
        precision: `fp32`, `bf16`, `fp16`, with TensorRT and NVIDIA ModelOpt also `int8` and `fp8`, or `auto` to measure
            all that the device has; `bf16-after-2` is float32 for the first two evaluations and bfloat16 after.
        device: `cpu`, `cuda` for an NVIDIA GPU, or `auto` for both.
        max_latency: milliseconds that a restore of this size may take: the number of evaluations within it that
            restores the calibration pictures best is used instead of the solver's.
        calibration: a folder of degraded pictures on which to measure parity; by default the bundled ones.
        threads: most threads to use; all processors of this process by default.
        measure_again: measure even what an equal build on this machine measured before.
        overwrite: whether `plan` may be replaced where it exists, or appears meanwhile.
        builder_options: settings of TensorRT's builder, such as `optimization-level=5`; see `EngineOptions`.
        size_range: smallest and largest (H, W) that the plan's engine shall serve, of TensorRT.
        further_sizes: (H, W) for which the plan shall hold engines, too; nothing is measured at these.
        report: called with lines of progress.

    Returns:
        The plan that was written.

    Raises:
        CheckpointError: for a checkpoint that cannot be read, does not fit, or is contradicted.
        BackendError: where no backend can run here, or one does not give the network's function.
        InputError: for any other argument that is wrong.
    """
    solver = solver or RECOMMENDED
    if mixed.split(precision)[0] not in PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown", hint=f"use one of {', '.join(PRECISIONS)}")
    if device not in DEVICES:
        raise InputError(f"device {device!r} is unknown", hint=f"use one of {', '.join(DEVICES)}")
    # The comparison is false for NaN.
    if max_latency is not None and not 0 < max_latency < float("inf"):
        raise InputError(f"max_latency {max_latency} is not a positive number of milliseconds")
    for each in (size, *further_sizes):
        if len(tuple(each)) != 2 or min(each) < 1 or batch < 1:
            raise InputError(f"size {each} or batch {batch} is not positive", hint="size is (height, width) in pixels")
    if backend != "auto":
        backends.get(backend)
    options = engine_options.parse_options(builder_options)
    if backend not in ("auto", "tensorrt") and (builder_options or size_range):
        raise InputError(
            f"backend {backend} has no options and no range of sizes", hint="these are tensorrt's: leave them out"
        )
    check_choice(backend, precision, device)
    threads = threads or machine.threads()
    plan = Path(plan)
    if not plan.parent.is_dir():
        raise InputError(f"folder {plan.parent} of the plan does not exist", hint="make it first")
    source, path, schedule, output = read_source(checkpoint, schedule, output, override_checkpoint)
    net = source.network()
    for each in (size, *further_sizes):
        _check_memory(source.arch, each, batch)
    table = tableau(schedule, solver, output)
    reference = _reference(schedule, solver, output)
    arch = source.arch
    pairs = calibration_pairs(calibration, _degradation(source), arch.multiple)
    padded, *further = (_padded(each, arch.multiple) for each in (size, *further_sizes))
    if size_range is not None:
        options = engine_options.with_range(options, size_range, (batch, *padded), arch.multiple)
    # From here on nothing is wrong with the arguments.
    engine_options.choose(options, report)
    report(f"read {path}")

    graphs = _graphs(net)
    given, many = loop_of(net, table), loop_of(net, reference)
    check_graphs(net, graphs, given, table.times[0], pairs[0], threads, backend, device)
    shape = (batch, *padded)
    loops = {solver.steps: given} if max_latency is None else _loops(net, schedule, solver, output)
    # The most evaluations see the most times.
    exact = float32_backend(backend, device)
    calibrated = CalibratedGraphs(graphs, exact, first(exact), loops[max(loops)], pairs, threads, report)
    question = selection_cache.key(
        graphs, [*loops.values(), many], pairs, shape, threads, backend, precision, device,
        max_latency, str(options), installed_version("nvidia-modelopt"),
    )  # fmt: skip
    measured = None if measure_again else selection_cache.recall(question)
    if measured is None:
        choose = partial(
            select, calibrated, reference=many, pairs=pairs, shape=shape, threads=threads,
            backend=backend, precision=precision, report=report, device=device,
        )  # fmt: skip
        fits: list[Fit] = []
        if max_latency is None:
            steps, selection = solver.steps, choose(loop=loops[solver.steps])
        else:
            fits = fitting(
                loops, many, calibrated, pairs, shape, threads, max_latency, backend=backend,
                precision=precision, device=device, report=report,
            )  # fmt: skip
            steps, selection = within(max_latency, fits, lambda steps: choose(loop=loops[steps]), report)
        measured = Measured(selection, steps, tuple(fits), datetime.now(UTC).isoformat(timespec="seconds"))
        lost = selection_cache.keep(question, measured)
        if lost is not None:
            report(lost)
    else:
        report(f"measured here before, at {measured.measured_at}")
    selection, loop = measured.selection, loops[measured.steps]
    if max_latency is not None:
        solver = replace(solver, steps=measured.steps)
        table = tableau(schedule, solver, output)
    chosen = backends.get(selection.chosen.backend)
    report(f"compiling for {chosen.name} {selection.chosen.precision}")
    form = GraphShape.parse(selection.chosen.form)
    graph = graph_of(calibrated, form, selection.chosen.precision)

    def compiled(sides: tuple[int, int]) -> bytes | None:
        shape = (batch, 2 * arch.channels, *sides)
        return mixed.compile_network(
            chosen, graph, loop.modulation, shape, selection.chosen.precision, threads
        ).export()

    engine = compiled(padded)
    others: dict[tuple[int, int, int], bytes] = {}
    for sides in dict.fromkeys(further):
        known = sides == padded or (chosen.name == "tensorrt" and options.covers((batch, *sides)))
        made_for = None if known or engine is None else compiled(sides)
        if made_for is not None:
            report(f"compiled for {sides[0]}x{sides[1]} too")
            others[batch, *sides] = made_for
    if further and engine is None:
        report(f"{chosen.name} has no engines to keep: every size is compiled when it is first met")
    manifest = _manifest(path, source, schedule, solver, output, table, shape, measured, len(pairs), threads)
    claims = _claims(source, path, schedule, output)
    said = len(claims) == len(PROCESS) + 1 and all(own == used for own, used in claims.values())
    lines = selection.verdict.warnings(selection.discretisation_db, measured.steps, said)
    manifest["verdict"] = {**selection.verdict.to_dict(), "warnings": lines}
    if chosen.name == "tensorrt":
        manifest["engine_options"] = options.to_dict()
        if options.hardware != "same":
            manifest["fingerprint"]["compatible"] = options.hardware
    if others:
        manifest["further_shapes"] = [list(each) for each in others]
    if max_latency is not None:
        manifest["latency"] = {"max_ms": max_latency, "evaluations": [fit.to_dict() for fit in measured.evaluations]}
    made = Plan(
        manifest, graphs[form], loop.modulation, engine, _timetable(net, schedule.T),
        graph if selection.chosen.precision in QUANTISED else None, others,
    )  # fmt: skip
    for line in made.warnings:
        report(f"warning: {line}")
    made.save(plan, overwrite)
    report(f"wrote {plan}")
    return made


def read_source(
    checkpoint: str | Path, schedule: Schedule | None = None, output: str | None = None, override: bool = False
) -> tuple[Checkpoint, Path, Schedule, str]:
    """A checkpoint for colour pictures, its path, and the schedule and network output that hold for it.

    Args:
        checkpoint: a path, or the name of shipped weights.
        schedule, output: what the caller says; else what the checkpoint says, else Refusion's and `noise`.
        override: whether the caller may contradict the checkpoint.

    Raises:
        CheckpointError: for a checkpoint that cannot be read, is for other pictures, or is contradicted.
    """
    path = _find(checkpoint)
    source = read_checkpoint(path)
    if source.arch.channels != 3:
        raise CheckpointError(f"{path} is for pictures of {source.arch.channels} channels", hint="3 are supported")
    own = _schedule(source, path)
    schedule, output = schedule or own or Schedule(), output or str(source.metadata.get("output", "noise"))
    if not override:
        check_process(source, path, schedule, output)
    return source, path, schedule, output


def check_process(source: Checkpoint, path: Path, schedule: Schedule, output: str) -> None:
    """Refuse a process that contradicts what a checkpoint says of its training: it would restore nothing.

    Raises:
        CheckpointError: naming what is said and what was given.
    """
    claims = _claims(source, path, schedule, output)
    wrong = {name: pair for name, pair in claims.items() if pair[0] != pair[1]}
    if wrong:
        raise CheckpointError(
            f"{path} says {', '.join(f'{name} {pair[0]}' for name, pair in wrong.items())}; "
            f"given {'is' if len(wrong) == 1 else 'are'} {', '.join(str(pair[1]) for pair in wrong.values())}",
            hint="leave that out, or pass --override-checkpoint (override_checkpoint=True) where it says wrong",
        )


def _claims(source: Checkpoint, path: Path, schedule: Schedule, output: str) -> dict[str, tuple[Any, Any]]:
    """What a checkpoint says of its training, each beside what is used instead; empty for those of others."""
    own = _schedule(source, path)
    claims = {} if own is None else {name: (getattr(own, name), getattr(schedule, name)) for name in PROCESS}
    # An unknown output is refused as such, later.
    if "output" in source.metadata and output in OUTPUTS:
        claims["network output"] = str(source.metadata["output"]), output
    return claims


def _find(checkpoint: str | Path) -> Path:
    path = Path(checkpoint)
    shipped = WEIGHTS / f"{checkpoint}.safetensors"
    return shipped if not os.path.exists(path) and path.name == str(checkpoint) and shipped.is_file() else path


def _padded(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    height, width = (-(-side // multiple) * multiple for side in size)
    return height, width


def _check_memory(arch: Architecture, size: tuple[int, int], batch: int) -> None:
    machine.check_memory(
        f"size {size[0]}x{size[1]} at batch {batch}", _bytes_per_pixel(arch) * size[0] * size[1] * batch,
        hint="build for a smaller size: larger pictures are restored in tiles",
    )  # fmt: skip


def _bytes_per_pixel(arch: Architecture) -> int:
    return 4 * LIVE_CHANNELS * arch.width


def _schedule(source: Checkpoint, path: Path) -> Schedule | None:
    """What a checkpoint says of its training; None where it says nothing."""
    given = source.metadata.get("schedule")
    if given is None:
        return None
    try:
        return Schedule(**given)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} carries a schedule that is not understood: {error}") from None


def _timetable(net: ConditionalNAFNet, T: int) -> NDArray[np.float32] | None:
    """The modulation at every whole time, where that is not out of proportion."""
    return modulation_table(net, np.arange(T + 1.0).tolist()) if T <= LONGEST_TIMETABLE else None


def _reference(schedule: Schedule, solver: Solver, output: str) -> Table:
    """The same solver at many steps; in equal steps of t where its own grid has not that many different times."""
    spacing = "linspace" if solver.times else solver.spacing
    many = replace(solver, steps=min(REFERENCE_STEPS, schedule.T), spacing=spacing, times=(), weights=())
    try:
        return tableau(schedule, many, output)
    except InputError:
        return tableau(schedule, replace(many, spacing="linspace"), output)


def _degradation(source: Checkpoint) -> str | None:
    recipe = source.metadata.get("recipe")
    name = recipe.get("degradation") if isinstance(recipe, dict) else None
    return name if isinstance(name, str) and name in degradations.DEGRADATIONS else None


def _graphs(net: ConditionalNAFNet) -> dict[GraphShape, bytes]:
    """The network in each shape that an engine of this machine asks for, any size and batch."""
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    shapes = shapes_of(backends.available())
    return {shape: build_graph(state, net.arch, shape=shape).SerializeToString() for shape in shapes}


def loop_of(net: ConditionalNAFNet, table: Table) -> Loop:
    """A table with the network's modulation at its times."""
    return Loop(table.rows, table.start, table.clamp, modulation_table(net, table.times[:-1]))


def _loops(net: ConditionalNAFNet, schedule: Schedule, solver: Solver, output: str) -> dict[int, Loop]:
    """The solver at every number of evaluations that it can have.

    Raises:
        InputError: for a solver that has its number for good, or less than two of them.
    """
    if solver.times:
        raise InputError(
            "a solver with a time grid of its own has a fixed number of evaluations",
            hint="leave out max_latency, or name another solver",
        )
    found = {}
    for steps in LADDER:
        # Some need more steps than others.
        with suppress(InputError):
            found[steps] = loop_of(net, tableau(schedule, replace(solver, steps=steps), output))
    if len(found) < 2:
        raise InputError("this solver has no two numbers of evaluations to choose from", hint="leave out max_latency")
    return found


def check_graphs(
    net: ConditionalNAFNet,
    graphs: Mapping[GraphShape, bytes],
    loop: Loop,
    time: float,
    pair: Pair,
    threads: int,
    backend: str,
    device: str,
) -> None:
    """Compare one float32 evaluation of every engine, in every shape that it may run, with torch's."""
    mu = np.ascontiguousarray(pair.degraded[None].transpose(0, 3, 1, 2)).astype(np.float32) / 255
    x = mu + np.float32(loop.start) * np.random.default_rng(0).standard_normal(mu.shape, dtype=np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x), torch.from_numpy(mu), time).numpy()
    if not np.isfinite(expected).all():
        raise CheckpointError("the network gives infinities or NaN in float32", hint="check its weights")
    packed = np.concatenate([x - mu, mu], axis=1)
    for engine in backends.available():
        if backend not in ("auto", engine.name) or device not in ("auto", engine.device):
            continue
        for shape in shapes_of([engine]) & graphs.keys():
            network = engine.compile(graphs[shape], loop.modulation, packed.shape, "fp32", threads)
            difference = float(np.abs(_evaluated(network, packed) - expected).max())
            error = difference / max(float(np.abs(expected).max()), 1e-12)
            if not error <= GRAPH_TOLERANCE:
                raise BackendError(f"{engine.name} ({shape}) differs from torch by {error:.1e} of the largest output")


def _evaluated(network: Network, packed: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output of a network anywhere for an input on the host."""
    if isinstance(network.packed, torch.Tensor):
        network.packed.copy_(torch.from_numpy(packed))
        network.evaluate(0)
        return np.asarray(network.output.float().cpu().numpy())
    network.packed[:] = packed
    network.evaluate(0)
    return np.asarray(network.output)


def _manifest(
    path: Path,
    source: Checkpoint,
    schedule: Schedule,
    solver: Solver,
    output: str,
    table: Table,
    shape: tuple[int, int, int],
    measured: Measured,
    pictures: int,
    threads: int,
) -> dict[str, Any]:
    chosen = measured.selection.chosen
    engine = backends.get(chosen.backend)
    return {
        "made_by": f"mrs-trt {_version.__version__}",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": {"name": path.name, "sha256": source.sha256},
        "network": _describe(source.arch),
        "schedule": schedule.to_dict(),
        "solver": solver.to_dict(),
        "output": output,
        "table": {
            "times": list(table.times),
            "rows": [list(row) for row in table.rows],
            "start": table.start,
            "clamp": table.clamp,
        },
        "shape": list(shape),
        "backend": chosen.backend,
        "precision": chosen.precision,
        "threads": threads,
        "fingerprint": machine.fingerprint(engine.name, engine.version(), engine.device),
        "selection": {
            "calibration_pictures": pictures,
            "measured_at": measured.measured_at,
            **measured.selection.to_dict(),
        },
    }


def _describe(arch: Architecture) -> dict[str, Any]:
    return {
        "name": "ConditionalNAFNet",
        **asdict(arch),
        "multiple": arch.multiple,
        "bytes_per_pixel": _bytes_per_pixel(arch),
    }
