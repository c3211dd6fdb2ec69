"""`mrs-trt build`: a checkpoint becomes a plan."""

from __future__ import annotations

import argparse

from mrs.commands import arguments
from mrs.commands.plan_options import add_plan_options, inputs_of, plan_builder
from mrs.commands.solver_options import add_solver
from mrs.commands.terminal import progress
from mrs.kernels.terminal import emit
from mrs.runtime.errors import InputError

DESCRIPTION = """\
Compile a checkpoint and a solver into one plan file for this machine: every
backend and precision that runs here is measured in the whole restore, and the
fastest whose rounding stays below the solver's own error is kept."""
EPILOG = """\
examples:
  mrs-trt build rain -o rain.mrsplan                      shipped weights
  mrs-trt build lastest_EMA.pth -o derain.mrsplan --size 512x512 --steps 10
  mrs-trt build rain -o many.mrsplan --size 256x256 --size 512x768
  mrs-trt build net.pth -o net.mrsplan --published --solver sde-2 --steps 20
  mrs-trt build net.pth -o net.mrsplan --solver tuned.json          see mrs-trt tune"""
# What --target once named, and the commands that make it.
TARGETS = {
    "onnx-sampler": "mrs-trt export CKPT -o FILE.onnx",
    "triton-repository": "mrs-trt deploy PLAN_OR_CKPT -o FOLDER",
}


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "build", help="compile a checkpoint into a plan", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    arguments.add_checkpoint(parser)
    arguments.add_output(parser, "PLAN", "the plan file to write")
    arguments.add_quiet(parser)
    add_plan_options(parser)
    add_solver(parser)
    parser.add_argument("--target", action=arguments.Elsewhere, refusal=_target)
    parser.add_argument("--name", action=arguments.Elsewhere, refusal=_name)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Build and print what was chosen."""
    if options.output.suffix.lower() == ".onnx":
        raise InputError(
            f"{options.output} would be a plan", hint=f"use {TARGETS['onnx-sampler']}, or name the plan .mrsplan"
        )
    arguments.check_output(options.output, options.overwrite, inputs=inputs_of(options.checkpoint, options))
    build = plan_builder(options.checkpoint, options, progress(options.quiet))
    from mrs.commands.inspect import summary

    emit(summary(build(options.output, overwrite=options.overwrite).manifest))
    return 0


def _target(flag: str, value: str | None) -> InputError:
    if value in TARGETS:
        return InputError(f"{flag} {value} is a command of its own now", hint=f"use {TARGETS[value]}")
    others = " and ".join(TARGETS.values())
    return InputError(f"build makes plans and takes no {flag}", hint=f"leave it out; other files are made by {others}")


def _name(flag: str, value: str | None) -> InputError:
    return InputError(f"{flag} is for models in a repository", hint=f"use {TARGETS['triton-repository']}")
