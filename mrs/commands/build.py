"""`mrs-trt build`: a checkpoint becomes a plan."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrs.commands import arguments
from mrs.kernels.terminal import emit, note
from mrs.runtime.errors import InputError

if TYPE_CHECKING:
    from mrs.numerics.schedule import Schedule
    from mrs.numerics.solver import Solver

SETTINGS = (
    "steps", "prediction", "spacing", "lambda_min", "last_step", "clamp", "stochasticity", "momentum", "start_time",
    "denoise_last",
)  # fmt: skip
DESCRIPTION = """\
Compile a checkpoint and a solver into one plan file for this machine: every
backend and precision that runs here is measured in the whole restore, and the
fastest whose rounding stays below the solver's own error is kept.

With --target onnx-sampler, one ONNX file instead, that restores pictures with
nothing but ONNX Runtime or OpenVINO (docs/export.md). With --target
triton-repository, a model for NVIDIA Triton Inference Server, from a checkpoint
or a plan (docs/serving.md)."""
EPILOG = """\
examples:
  mrs-trt build rain -o rain.mrsplan                      shipped weights
  mrs-trt build lastest_EMA.pth -o derain.mrsplan --size 512x512 --steps 10
  mrs-trt build rain -o many.mrsplan --size 256x256 --size 512x768
  mrs-trt build net.pth -o net.mrsplan --published --solver sde-2 --steps 20
  mrs-trt build net.pth -o net.mrsplan --solver tuned.json          see mrs-trt tune
  mrs-trt build rain -o rain.onnx --target onnx-sampler   one file for any ONNX engine
  mrs-trt build rain.mrsplan -o models --target triton-repository   models/rain"""

TARGETS = ("plan", "onnx-sampler", "triton-repository")
SUFFIX = ".onnx"
# What a plan is compiled and measured for, with the values that say nothing.
OF_PLANS = {
    "size": None, "batch": 1, "backend": "auto", "precision": "auto", "device": "auto", "max_latency": None,
    "calibration": None, "threads": None, "measure_again": False,
    "size_range": None, "engine_option": None,
}  # fmt: skip
# What a plan's network and solver are made of, and with which a plan that is there cannot be changed.
OF_CHECKPOINTS = {
    "published": False, "override_checkpoint": False,
    **dict.fromkeys((
        *SETTINGS, "solver", "network_output", "schedule", "max_sigma", "eps", "T", "convention", "interpolation",
    )),
}  # fmt: skip


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "build", help="compile a checkpoint into a plan", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "checkpoint", metavar="CKPT",
        help=".pth or .safetensors of a ConditionalNAFNet, or `rain` for shipped weights; for a repository a plan, too",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PLAN", help="the plan file to write")
    parser.add_argument(
        "--target", default="plan", metavar="WHAT",
        help="plan (default), or onnx-sampler: one .onnx file, float32, any size, all evaluations inside, or "
        "triton-repository: PLAN is a model repository's folder, to which a version of a model is added",
    )  # fmt: skip
    parser.add_argument(
        "--name", metavar="NAME", help="of the model in a repository, by default that of the file it is made from"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace PLAN where it exists; in a repository, config.pbtxt alone"
    )
    parser.add_argument(
        "--size", type=arguments.size, action="append", metavar="HxW",
        help="size to compile ahead for, default 256x256; may be repeated, everything is measured at the first; every "
        "other size works too and is compiled when first met",
    )  # fmt: skip
    parser.add_argument("--batch", type=arguments.positive, default=1, metavar="N", help="pictures at once, default 1")
    parser.add_argument(
        "--backend", default="auto", metavar="NAME",
        help="auto (default), openvino, onnxruntime, tensorrt, onnxruntime-cuda, onnxruntime-tensorrt, torch, "
        "torch-eager",
    )  # fmt: skip
    parser.add_argument(
        "--precision", default="auto", metavar="P", help="auto (default), fp32, bf16, fp16, int8, fp8, bf16-after-2"
    )
    parser.add_argument("--device", default="auto", metavar="D", help="auto (default), cpu, cuda (an NVIDIA GPU)")
    parser.add_argument(
        "--max-latency", type=float, metavar="MS",
        help="milliseconds for a restore of this size: the number of evaluations within it that restores best",
    )  # fmt: skip
    parser.add_argument("--network-output", metavar="Q", help="what the network predicts: noise, data, velocity")
    parser.add_argument(
        "--override-checkpoint", action="store_true",
        help="let --network-output and the schedule's options contradict what the checkpoint says of its training",
    )  # fmt: skip
    parser.add_argument("--calibration", metavar="FOLDER", help="degraded pictures to measure rounding on")
    parser.add_argument(
        "--size-range", nargs=2, type=arguments.size, metavar=("MIN", "MAX"),
        help="tensorrt: let one engine serve every size between these; fastest at --size, slower than one for it alone",
    )  # fmt: skip
    parser.add_argument(
        "--engine-option", action="append", metavar="NAME=VALUE",
        help="tensorrt: optimization-level=0..5, workspace-mib=N, hardware=same, capability or ampere, "
        "auxiliary-streams=N (docs/engines.md); may be repeated",
    )  # fmt: skip
    parser.add_argument("--threads", type=arguments.threads, metavar="N", help="at most, default all processors")
    parser.add_argument(
        "--measure-again", action="store_true", help="measure even what an equal build measured here before"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    solver = parser.add_argument_group("solver", "by default the recommended few-step solver, see docs/solvers.md")
    solver.add_argument("--published", action="store_true", help="start from MR Sampler's published settings instead")
    solver.add_argument(
        "--solver", metavar="NAME",
        help="method and order, such as ode-2, dpm++-3, unipc-b2-2, posterior (docs/solvers.md has all); or a .json "
        "file of `mrs-trt tune`",
    )  # fmt: skip
    solver.add_argument("--steps", type=arguments.positive, metavar="N", help="network evaluations")
    solver.add_argument("--prediction", metavar="Q", help="what is extrapolated: data, noise")
    solver.add_argument(
        "--spacing", metavar="GRID", help="linspace, leading, trailing, karras-n, karras-t, linear-lambda"
    )
    solver.add_argument("--lambda-min", type=float, metavar="L", help="drop start times of lower half log-SNR")
    solver.add_argument("--last-step", metavar="HOW", help="order of the last steps: published, lower-order, full")
    solver.add_argument(
        "--clamp", metavar="HOW", help="of data predictions: none, unit ([0, 1]), threshold (published)"
    )
    solver.add_argument("--stochasticity", type=float, metavar="T", help="of sa: 0 is the ODE, 1 the SDE")
    solver.add_argument("--momentum", type=float, metavar="M", help="of ghvb, between 0 and 1")
    solver.add_argument("--start-time", type=float, metavar="T", help="start later, at this time of the process")
    solver.add_argument("--denoise-last", action="store_true", default=None, help="end with the prediction itself")
    arguments.add_schedule(parser, "by default what the checkpoint says, else Refusion's")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Build and print what was chosen."""
    _check_target(options)
    if options.target != "triton-repository":
        arguments.check_output(options.output, options.overwrite)
    elif _is_plan(options):
        return _add_to_repository(options, None)
    if options.max_latency is not None and options.steps is not None:
        raise InputError("--max-latency chooses the number of evaluations", hint="leave out --steps or --max-latency")
    solver, made_for = _solver(options)
    arguments.require("build", "torch", "onnx", "safetensors")
    # Torch is loaded from here on, once the arguments are known to be right.
    from mrs.building.build import build
    from mrs.building.source import read_source

    changes = arguments.schedule_options(options)
    schedule = None
    if changes or made_for is not None:
        schedule = replace(read_source(options.checkpoint).schedule, **changes)
    if made_for is not None and schedule != made_for:
        raise InputError(
            f"{options.solver} was found for another schedule than {options.checkpoint} has",
            hint="tune for this checkpoint, or give the schedule's options",
        )
    report = (lambda line: None) if options.quiet else _report
    if options.target == "onnx-sampler":
        from mrs.building.onnx_sampler import export_sampler

        made = export_sampler(
            options.checkpoint, options.output, solver=solver, schedule=schedule, output=options.network_output,
            override_checkpoint=options.override_checkpoint, overwrite=options.overwrite, report=report,
        )  # fmt: skip
        emit(made.summary())
        return 0
    size, *further_sizes = options.size or [(256, 256)]
    make = partial(
        build,
        options.checkpoint,
        size=size,
        further_sizes=further_sizes,
        batch=options.batch,
        solver=solver,
        schedule=schedule,
        output=options.network_output,
        override_checkpoint=options.override_checkpoint,
        overwrite=options.overwrite,
        backend=options.backend,
        precision=options.precision,
        device=options.device,
        max_latency=options.max_latency,
        calibration=options.calibration,
        threads=options.threads,
        measure_again=options.measure_again,
        builder_options=options.engine_option or (),
        size_range=options.size_range and tuple(options.size_range),
        report=report,
    )
    if options.target == "triton-repository":
        # The plan is renamed afterwards.
        make.keywords["report"] = lambda line: line.startswith("wrote ") or report(line)
        return _add_to_repository(options, make)
    from mrs.commands.inspect import summary

    emit(summary(make(options.output).manifest))
    return 0


def _is_plan(options: argparse.Namespace) -> bool:
    """Whether a repository's model is made from a plan; one that could not be added is refused."""
    from mrs.building.inference_server import check_place
    from mrs.runtime.plan import is_plan

    check_place(options.output, _name(options))
    found = is_plan(options.checkpoint)
    given = _given(options, {**OF_PLANS, **OF_CHECKPOINTS})
    if found and given:
        raise InputError(
            f"{options.checkpoint} is a plan and takes no {given[0]}", hint="leave it out, or give a checkpoint"
        )
    return found


def _add_to_repository(options: argparse.Namespace, make: Any) -> int:
    """Add what `make` writes, or a plan that is there, to a repository, and print where it is."""
    from mrs.building.inference_server import add_version, copied

    make = make or copied(Path(options.checkpoint))
    emit(add_version(make, options.output, _name(options), overwrite=options.overwrite).summary())
    return 0


def _name(options: argparse.Namespace) -> str:
    return Path(options.checkpoint).stem if options.name is None else str(options.name)


def _given(options: argparse.Namespace, defaults: dict[str, Any]) -> list[str]:
    """Flags of the options that say something."""
    return [f"--{name.replace('_', '-')}" for name, default in defaults.items() if getattr(options, name) != default]


def _check_target(options: argparse.Namespace) -> None:
    """Refuse what the target does not know, and a file that its name would take for the other target's."""
    if options.target not in TARGETS:
        raise InputError(f"target {options.target!r} is unknown", hint=f"use one of {', '.join(TARGETS)}")
    whole = options.target == "onnx-sampler"
    given = _given(options, OF_PLANS)
    if whole and given:
        raise InputError(
            f"--target onnx-sampler takes no {given[0]}",
            hint="its file is float32, for any size and engine: leave it out, or build a plan",
        )
    if options.name is not None and options.target != "triton-repository":
        raise InputError("--name is for models in a repository", hint="pass --target triton-repository or leave it out")
    if options.target != "triton-repository" and whole != (options.output.suffix.lower() == SUFFIX):
        what, hint = (
            ("is no name for an ONNX file", f"name it {options.output.stem}{SUFFIX}")
            if whole
            else ("would be a plan", "pass --target onnx-sampler, or name it .mrsplan")
        )
        raise InputError(f"{options.output} {what}", hint=hint)


def _solver(options: argparse.Namespace) -> tuple[Solver, Schedule | None]:
    """The solver that the options describe, and the schedule that it was found for, if it comes from a file."""
    from mrs.numerics.solver import RECOMMENDED, Solver, parse_name
    from mrs.numerics.solver_file import read_solver

    changes = arguments.given(options, *SETTINGS)
    if options.solver is not None and options.solver.endswith(".json"):
        if changes or options.published:
            raise InputError(
                f"{options.solver} settles the whole solver", hint="leave the other options of the solver out"
            )
        return read_solver(options.solver)
    if options.prediction == "noise":
        # Only predictions of pictures have a range to be clamped to.
        changes.setdefault("clamp", "none")
    if options.solver is not None:
        changes["method"], changes["order"] = parse_name(options.solver)
    return replace(Solver() if options.published else RECOMMENDED, **changes), None


def _report(line: str) -> None:
    note(line)
