"""From a checkpoint to a plan: the network's graphs, the solver's loops, the choice of an engine, one file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mrs.building.arguments import check_numbers, check_solver
from mrs.building.assemble import assemble
from mrs.building.calibration import calibration_pairs
from mrs.building.graph_check import check_graphs
from mrs.building.loops import loops_of, reference_loop
from mrs.building.made_for import MadeFor
from mrs.building.source import Source, read_source
from mrs.export.autotune import cache
from mrs.export.autotune.autotune import Measured, autotune
from mrs.export.autotune.calibrated import CalibratedGraphs
from mrs.export.autotune.candidates import check_runnable
from mrs.export.autotune.pace import measure_pace
from mrs.export.autotune.workload import Target, Workload
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import RECOMMENDED, Solver
from mrs.runtime.backends.settings import CompileSettings, EngineOptions, parse_options, with_range
from mrs.runtime.chain import Loop
from mrs.runtime.errors import InputError
from mrs.runtime.plan import Plan
from mrs.runtime.system import machine
from mrs.runtime.system.inputs import check_not_read, path_of


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
    preset: str | None = None,
    architecture: str | None = None,
    encoder: str | Path | None = None,
    encoder_heads: int | None = None,
    noise_sigma: float | None = None,
    upscale: int | None = None,
    autoencoder: str | Path | None = None,
    lenses: tuple[float, float, float] | None = None,
    backend: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    max_latency: float | None = None,
    calibration: str | Path | None = None,
    threads: int | None = None,
    measure_again: bool = False,
    overwrite: bool = False,
    builder_options: Sequence[str] = (),
    size_range: tuple[tuple[int, int], tuple[int, int]] | None = None,
    further_sizes: Sequence[tuple[int, int]] = (),
    report: Callable[[str], None] = lambda line: None,
) -> Plan:
    """Compile a checkpoint and a solver for this machine.

    Args:
        checkpoint: `.pth` or `.safetensors`, or the name of shipped weights, such as `rain`.
        plan: the file to write.
        size: (H, W) to compile ahead for; with `upscale`, of the large picture. Other sizes are compiled when they are
            first met.
        batch: pictures per restore to compile ahead for.
        solver: by default `mrs.numerics.solver.RECOMMENDED`.
        schedule: the process the network was trained on; by default what the checkpoint says, else Refusion's.
        output: what the network predicts; by default what the checkpoint says, else `noise`.
        override_checkpoint: whether `schedule` and `output` may contradict what the checkpoint says.
        preset: a published setting by its name, such as `irsde-derain`: the process, where the checkpoint does not say
            it. `mrs.presets.PRESETS` has them.
        architecture: name of the network, where the weights of several look alike.
        encoder: checkpoint of DA-CLIP's image encoder, for networks that are told its features.
        encoder_heads: of its attention; by default its width by 64, as CLIP has it.
        noise_sigma: how noisy the pictures are, in 0..255 units, for networks that take noise away.
        upscale: by what pictures are enlarged, bicubically, before they are restored, for networks of super-resolution;
            by default what the preset says, else 1.
        autoencoder: checkpoint of the UNet that makes latents of pictures and back, for networks that restore latents.
        lenses: the source lens and the wanted one, as ten times their f-number, negative for Canon's, and the
            disparity, for networks that are told of them.
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
        CheckpointError: for a checkpoint that cannot be read, does not fit its preset, or is contradicted.
        BackendError: where no backend can run here, or one does not give the network's function.
        InputError: for any other argument that is wrong.
    """
    begin = time.monotonic()
    plan = path_of("plan", plan)
    check_solver(solver)
    solver = solver or RECOMMENDED
    check_numbers([size, *further_sizes, *(size_range or ())], batch, max_latency, threads)
    options = parse_options(builder_options)
    target = Target(backend, precision, device, CompileSettings(threads or machine.threads(), options, report))
    _check_options(target, bool(builder_options or size_range))
    check_runnable(target)
    if not plan.parent.is_dir():
        raise InputError(f"folder {plan.parent} of the plan does not exist", hint="make it first")
    made_for = MadeFor(
        preset, architecture, encoder, encoder_heads, noise_sigma, upscale, autoencoder, lenses,
    )  # fmt: skip
    check_not_read(plan, checkpoint, encoder, autoencoder, calibration)
    source = read_source(checkpoint, schedule, output, override_checkpoint, made_for)
    check_not_read(plan, source.path)
    if source.codec is not None and solver.clamp != "none":
        raise InputError(f"a latent has no range for clamp {solver.clamp}", hint="use a solver without a clamp")
    solver = source.started(solver)
    sizes = [(batch, *source.padded(each, batch)) for each in (size, *further_sizes)]
    if size_range is not None:
        target = target.with_options(_with_range(options, source, size_range, sizes[0]))
    pairs = calibration_pairs(
        calibration, source.degradation, source.multiple, source.noise_sigma, source.arch.calibration_side,
        source.upscale,
    )  # fmt: skip
    loops = loops_of(source, solver, any_number=max_latency is not None)
    # From here on nothing is wrong with the arguments.
    report(f"read {source.path}")
    graphs = source.graphs()
    check_graphs(source, graphs, pairs[0], target)
    # The most evaluations see the most times.
    calibrated = CalibratedGraphs(graphs, pairs, loops[max(loops)], target)
    workload = Workload(calibrated, pairs, sizes[0], reference_loop(source, solver), source.conditioner_graph)
    key = cache.key(workload, target, loops, max_latency)
    measured = None if measure_again else cache.load(key, report)
    if measured is None:
        measured = cache.store(key, _measure(source, workload, target, loops, max_latency), report)
    made = assemble(source, solver, loops[measured.steps], workload, target, measured, sizes)
    for line in made.facts.warnings:
        report(f"warning: {line}")
    made.manifest["build_seconds"] = round(time.monotonic() - begin, 3)
    made.save(plan, overwrite)
    report(f"wrote {plan}")
    return made


def _measure(
    source: Source, workload: Workload, target: Target, loops: Mapping[int, Loop], max_latency: float | None
) -> Measured:
    """Choose, and see what larger pictures take with what was chosen."""
    measured = autotune(workload, target, loops, max_latency)
    loop, chosen = loops[measured.steps], measured.selection.chosen
    return replace(measured, pace=measure_pace(workload, target, loop, chosen, source.bytes_per_pixel))


def _with_range(
    options: EngineOptions,
    source: Source,
    size_range: tuple[tuple[int, int], tuple[int, int]],
    size: tuple[int, int, int],
) -> EngineOptions:
    """The options with a range of what the network takes: of pictures, or of their latents."""
    count, *sides = size
    pairs = [_network_size(source, *pair) for pair in (size_range[0], sides, size_range[1])]
    return with_range(options, (pairs[0], pairs[2]), (count, *pairs[1]), source.arch.multiple)


def _network_size(source: Source, height: int, width: int) -> tuple[int, int]:
    if source.codec is None:
        return height, width
    _, _, *sides = source.codec.packed((1, source.channels, height, width))
    return sides[0], sides[1]


def _check_options(target: Target, given: bool) -> None:
    if given and target.backend not in ("auto", "tensorrt"):
        raise InputError(
            f"backend {target.backend} has no options and no range of sizes",
            hint="these are tensorrt's: leave them out",
        )
