"""`mrs-trt export`: a checkpoint becomes one ONNX file that restores by itself."""

from __future__ import annotations

import argparse

from mrs.commands import arguments
from mrs.commands.plan_options import OPTIONS
from mrs.commands.solver_options import add_solver, read_by_solver, solver_and_schedule
from mrs.commands.terminal import progress
from mrs.kernels.terminal import emit
from mrs.runtime.errors import InputError

DESCRIPTION = """\
Write a checkpoint and a solver as one ONNX file, with all evaluations inside,
that restores pictures of any size with nothing but ONNX Runtime or OpenVINO, in
float32 (docs/export.md)."""
EPILOG = """\
examples:
  mrs-trt export rain -o rain.onnx
  mrs-trt export net.pth -o net.onnx --solver ode-2 --steps 10"""
SUFFIX = ".onnx"


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "export", help="write a checkpoint as one ONNX file for any engine", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    arguments.add_checkpoint(parser)
    arguments.add_output(parser, "ONNX", "the .onnx file to write")
    arguments.add_quiet(parser)
    add_solver(parser)
    for flag in OPTIONS:
        parser.add_argument(flag, action=arguments.Elsewhere, refusal=_plan_option)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the file and print what it takes and gives."""
    if options.output.suffix.lower() != SUFFIX:
        raise InputError(f"{options.output} is no name for an ONNX file", hint=f"name it {options.output.stem}{SUFFIX}")
    arguments.check_output(options.output, options.overwrite, inputs=read_by_solver(options.checkpoint, options))
    solver, schedule = solver_and_schedule(options.checkpoint, options)
    from mrs.building.made_for import MadeFor
    from mrs.building.onnx_sampler import export_sampler

    written = export_sampler(
        options.checkpoint, options.output, solver=solver, schedule=schedule, output=options.network_output,
        override_checkpoint=options.override_checkpoint,
        made_for=MadeFor(**arguments.given(options, *arguments.NETWORK)), overwrite=options.overwrite,
        report=progress(options.quiet),
    )  # fmt: skip
    emit(written.summary())
    return 0


def _plan_option(flag: str, value: str | None) -> InputError:
    return InputError(
        f"export takes no {flag}", hint="its file is float32, for any size and engine: leave it out, or build a plan"
    )
