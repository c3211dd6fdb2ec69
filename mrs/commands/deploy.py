"""`mrs-trt deploy`: a plan, or a checkpoint that is built first, in a model repository of an inference server."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from mrs.commands import arguments
from mrs.commands.plan_options import add_plan_options, inputs_of, plan_builder
from mrs.commands.solver_options import add_solver
from mrs.commands.terminal import progress
from mrs.kernels.terminal import emit
from mrs.runtime.errors import InputError
from mrs.runtime.system.inputs import check_not_read, path_of

DESCRIPTION = """\
Add a plan to a model repository of NVIDIA Triton Inference Server, as the next
version of a model (docs/serving.md). A checkpoint is built first, with all
options of `mrs-trt build`; a plan is copied as it is."""
EPILOG = """\
examples:
  mrs-trt deploy rain.mrsplan -o models/                        models/rain/1
  mrs-trt deploy lastest_EMA.pth -o models/ --name derain --size 512x512"""
# What may be said of a plan, too: nothing of what it is made of.
OF_MODELS = {"plan_or_checkpoint", "output", "name", "overwrite", "quiet"}
# Endings of what is no folder of models.
FILES = {".onnx": "export", ".mrsplan": "build"}


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "deploy", help="add a plan to a repository of an inference server", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    arguments.add_plan_or_checkpoint(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER",
        help="the model repository, to which a version of the model is added",
    )  # fmt: skip
    parser.add_argument("--name", metavar="NAME", help="of the model, by default that of the file it is made from")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the model's config.pbtxt; its versions are never replaced"
    )
    arguments.add_quiet(parser)
    add_plan_options(parser)
    add_solver(parser)
    parser.set_defaults(run=partial(run, parser))


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Add a version, of a plan that is there or that is built, and print where it is."""
    from mrs.building.inference_server import CONFIG, add_version, check_place, copied
    from mrs.runtime.plan import is_plan

    if command := FILES.get(options.output.suffix.lower()):
        raise InputError(
            f"{options.output} would be a folder of models", hint=f"name it otherwise, or use mrs-trt {command}"
        )
    source = options.plan_or_checkpoint
    path_of("plan or checkpoint", source)
    name = Path(source).stem if options.name is None else str(options.name)
    check_place(options.output, name)
    check_not_read(options.output / name / CONFIG, *inputs_of(source, options))
    if options.autoencoder is not None:
        raise InputError("plans for latents are given to no server yet", hint="use mrs-trt build, and restore")
    if is_plan(source):
        if flag := _of_checkpoints(parser, options):
            raise InputError(f"{source} is a plan and takes no {flag}", hint="leave it out, or give a checkpoint")
        make = copied(Path(source))
    else:
        tell = progress(options.quiet)
        # The plan is renamed afterwards, so nobody is told where it was written first.
        make = plan_builder(source, options, lambda line: None if line.startswith("wrote ") else tell(line))
    emit(add_version(make, options.output, name, overwrite=options.overwrite).summary())
    return 0


def _of_checkpoints(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str | None:
    """The first option given that describes what a plan is made of."""
    given = (name for name, value in vars(options).items() if value != parser.get_default(name))
    return next((f"--{name.replace('_', '-')}" for name in given if name not in OF_MODELS), None)
