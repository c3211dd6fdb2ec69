"""`mrs-trt build`: a checkpoint becomes a plan."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from mrs.commands import arguments

DESCRIPTION = """\
Compile a checkpoint and a solver into one plan file for this machine: every
backend and precision that runs here is measured in the whole restore, and the
fastest whose rounding stays below the solver's own error is kept."""
EPILOG = """\
examples:
  mrs-trt build rain -o rain.mrsplan                      shipped weights
  mrs-trt build lastest_EMA.pth -o derain.mrsplan --size 512x512 --steps 10
  mrs-trt build net.pth -o net.mrsplan --published --solver sde-2 --steps 20"""


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
    parser.add_argument("--overwrite", action="store_true", help="replace PLAN where it exists")
    parser.add_argument(
        "--size", type=arguments.size, default=(256, 256), metavar="HxW",
        help="size to compile ahead for, default 256x256; every other size works too and is compiled when first met",
    )  # fmt: skip
    parser.add_argument("--batch", type=arguments.positive, default=1, metavar="N", help="pictures at once, default 1")
    parser.add_argument("--backend", default="auto", metavar="NAME", help="auto (default), openvino, onnxruntime")
    parser.add_argument("--precision", default="auto", metavar="P", help="auto (default), fp32, bf16")
    parser.add_argument("--network-output", metavar="Q", help="what the network predicts: noise, data, velocity")
    parser.add_argument("--calibration", metavar="FOLDER", help="degraded pictures to measure rounding on")
    parser.add_argument("--threads", type=arguments.threads, metavar="N", help="at most, default all processors")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    solver = parser.add_argument_group("solver", "by default the recommended few-step solver, see docs/solvers.md")
    solver.add_argument("--published", action="store_true", help="start from MR Sampler's published settings instead")
    solver.add_argument("--solver", metavar="NAME", help="ode-1, ode-2, ode-3, sde-1, sde-2, posterior")
    solver.add_argument("--steps", type=arguments.positive, metavar="N", help="network evaluations")
    solver.add_argument("--prediction", metavar="Q", help="what is extrapolated: data, noise")
    solver.add_argument(
        "--spacing", metavar="GRID", help="linspace, leading, trailing, karras-n, karras-t, linear-lambda"
    )
    solver.add_argument("--lambda-min", type=float, metavar="L", help="drop start times of lower half log-SNR")
    solver.add_argument("--last-step", metavar="HOW", help="published, lower-order")
    solver.add_argument("--clamp", metavar="HOW", help="none, unit: clamp data predictions to [0, 1]")
    solver.add_argument("--denoise-last", action="store_true", default=None, help="end with the prediction itself")
    arguments.add_schedule(parser, "by default what the checkpoint says, else Refusion's")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Build and print what was chosen."""
    from mrs.solver import RECOMMENDED, Solver, parse_name

    arguments.check_output(options.output, options.overwrite)
    changes = arguments.given(
        options, "steps", "prediction", "spacing", "lambda_min", "last_step", "clamp", "denoise_last"
    )
    if options.prediction == "noise":
        # Only predictions of pictures have a range to be clamped to.
        changes.setdefault("clamp", "none")
    if options.solver is not None:
        changes["method"], changes["order"] = parse_name(options.solver)
    solver = replace(Solver() if options.published else RECOMMENDED, **changes)
    arguments.require("build", "torch", "onnx", "safetensors")
    # Torch is loaded from here on, once the arguments are known to be right.
    from mrs.builder import build, default_schedule

    schedule = arguments.schedule_options(options)
    plan = build(
        options.checkpoint,
        options.output,
        size=options.size,
        batch=options.batch,
        solver=solver,
        schedule=replace(default_schedule(options.checkpoint), **schedule) if schedule else None,
        output=options.network_output,
        backend=options.backend,
        precision=options.precision,
        calibration=options.calibration,
        threads=options.threads,
        report=(lambda line: None) if options.quiet else _report,
    )
    from mrs.commands.inspect import summary

    print(summary(plan.manifest))
    return 0


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
