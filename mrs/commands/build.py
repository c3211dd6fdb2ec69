"""`mrs-trt build`: a checkpoint becomes a plan."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mrs.commands import arguments
from mrs.runtime.errors import InputError

if TYPE_CHECKING:
    from mrs.schedule import Schedule
    from mrs.solver import Solver

SETTINGS = (
    "steps", "prediction", "spacing", "lambda_min", "last_step", "clamp", "stochasticity", "momentum", "start_time",
    "denoise_last",
)  # fmt: skip
DESCRIPTION = """\
Compile a checkpoint and a solver into one plan file for this machine: every
backend and precision that runs here is measured in the whole restore, and the
fastest whose rounding stays below the solver's own error is kept.

With --target onnx-sampler, one ONNX file instead, that restores pictures with
nothing but ONNX Runtime or OpenVINO (docs/export.md)."""
EPILOG = """\
examples:
  mrs-trt build rain -o rain.mrsplan                      shipped weights
  mrs-trt build lastest_EMA.pth -o derain.mrsplan --size 512x512 --steps 10
  mrs-trt build net.pth -o net.mrsplan --published --solver sde-2 --steps 20
  mrs-trt build net.pth -o net.mrsplan --solver tuned.json          see mrs-trt tune
  mrs-trt build rain -o rain.onnx --target onnx-sampler   one file for any ONNX engine"""

TARGETS = ("plan", "onnx-sampler")
SUFFIX = ".onnx"
# What a plan is compiled and measured for, with the values that say nothing.
OF_PLANS = {
    "size": (256, 256), "batch": 1, "backend": "auto", "precision": "auto", "device": "auto", "max_latency": None,
    "calibration": None, "threads": None, "measure_again": False,
}  # fmt: skip


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "build", help="compile a checkpoint into a plan", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "checkpoint", metavar="CKPT", help=".pth or .safetensors of a ConditionalNAFNet, or `rain` for shipped weights"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PLAN", help="the plan file to write")
    parser.add_argument(
        "--target", default="plan", metavar="WHAT",
        help="plan (default), or onnx-sampler: one .onnx file, float32, any size, all evaluations inside",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace PLAN where it exists")
    parser.add_argument(
        "--size", type=arguments.size, default=(256, 256), metavar="HxW",
        help="size to compile ahead for, default 256x256; every other size works too and is compiled when first met",
    )  # fmt: skip
    parser.add_argument("--batch", type=arguments.positive, default=1, metavar="N", help="pictures at once, default 1")
    parser.add_argument(
        "--backend", default="auto", metavar="NAME", help="auto (default), openvino, onnxruntime, torch, torch-eager"
    )
    parser.add_argument(
        "--precision", default="auto", metavar="P", help="auto (default), fp32, bf16, fp16, bf16-after-2"
    )
    parser.add_argument("--device", default="auto", metavar="D", help="auto (default), cpu, cuda (an NVIDIA GPU)")
    parser.add_argument(
        "--max-latency", type=float, metavar="MS",
        help="milliseconds for a restore of this size: the number of evaluations within it that restores best",
    )  # fmt: skip
    parser.add_argument("--network-output", metavar="Q", help="what the network predicts: noise, data, velocity")
    parser.add_argument("--calibration", metavar="FOLDER", help="degraded pictures to measure rounding on")
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
    arguments.check_output(options.output, options.overwrite)
    if options.max_latency is not None and options.steps is not None:
        raise InputError("--max-latency chooses the number of evaluations", hint="leave out --steps or --max-latency")
    solver, made_for = _solver(options)
    arguments.require("build", "torch", "onnx", "safetensors")
    # Torch is loaded from here on, once the arguments are known to be right.
    from mrs.builder import build, read_source

    changes = arguments.schedule_options(options)
    schedule = None
    if changes or made_for is not None:
        schedule = replace(read_source(options.checkpoint)[2], **changes)
    if made_for is not None and schedule != made_for:
        raise InputError(
            f"{options.solver} was found for another schedule than {options.checkpoint} has",
            hint="tune for this checkpoint, or give the schedule's options",
        )
    report = (lambda line: None) if options.quiet else _report
    if options.target == "onnx-sampler":
        from mrs.sampler_file import export_sampler

        made = export_sampler(
            options.checkpoint, options.output, solver=solver, schedule=schedule, output=options.network_output,
            report=report,
        )  # fmt: skip
        print(made.summary())
        return 0
    plan = build(
        options.checkpoint,
        options.output,
        size=options.size,
        batch=options.batch,
        solver=solver,
        schedule=schedule,
        output=options.network_output,
        backend=options.backend,
        precision=options.precision,
        device=options.device,
        max_latency=options.max_latency,
        calibration=options.calibration,
        threads=options.threads,
        measure_again=options.measure_again,
        report=report,
    )
    from mrs.commands.inspect import summary

    print(summary(plan.manifest))
    return 0


def _check_target(options: argparse.Namespace) -> None:
    """Refuse what the target does not know, and a file that its name would take for the other target's."""
    if options.target not in TARGETS:
        raise InputError(f"target {options.target!r} is unknown", hint=f"use one of {', '.join(TARGETS)}")
    whole = options.target == "onnx-sampler"
    given = [f"--{name.replace('_', '-')}" for name, default in OF_PLANS.items() if getattr(options, name) != default]
    if whole and given:
        raise InputError(
            f"--target onnx-sampler takes no {given[0]}",
            hint="its file is float32, for any size and engine: leave it out, or build a plan",
        )
    if whole != (options.output.suffix.lower() == SUFFIX):
        what, hint = (
            ("is no name for an ONNX file", f"name it {options.output.stem}{SUFFIX}")
            if whole
            else ("would be a plan", "pass --target onnx-sampler, or name it .mrsplan")
        )
        raise InputError(f"{options.output} {what}", hint=hint)


def _solver(options: argparse.Namespace) -> tuple[Solver, Schedule | None]:
    """The solver that the options describe, and the schedule that it was found for, if it comes from a file."""
    from mrs.solver import RECOMMENDED, Solver, parse_name
    from mrs.solver_file import read_solver

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
    print(line, file=sys.stderr, flush=True)
