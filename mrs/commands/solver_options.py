"""The options of a solver, and of the process that it solves, for commands that take a checkpoint."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from mrs.commands import arguments
from mrs.runtime.errors import InputError
from mrs.runtime.system.inputs import path_of

if TYPE_CHECKING:
    from mrs.numerics.schedule import Schedule
    from mrs.numerics.solver import Solver

# The names of `mrs.numerics.intents.INTENTS`, which a command line that asks for help does not load.
INTENTS = ("faithful", "balanced", "vivid")
SETTINGS = (
    "steps", "prediction", "spacing", "lambda_min", "last_step", "clamp", "stochasticity", "momentum", "start_time",
    "denoise_last", "noise_scale", "start_noise",
)  # fmt: skip


def add_solver(parser: argparse.ArgumentParser) -> None:
    """The options of a `Solver`, of a `Schedule`, and of what the checkpoint was trained for."""
    solver = parser.add_argument_group("solver", "by default the recommended few-step solver, see docs/solvers.md")
    solver.add_argument(
        "--quality", choices=INTENTS, metavar="INTENT",
        help="what pictures should be: faithful (nearest to the truth), balanced (default), vivid (with the grain of a "
        "sample); docs/solvers.md has what each costs",
    )  # fmt: skip
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
    solver.add_argument("--stochasticity", type=float, metavar="T", help="of sa and sa-2m: 0 is the ODE, 1 the SDE")
    solver.add_argument("--momentum", type=float, metavar="M", help="of ghvb, between 0 and 1")
    solver.add_argument("--start-time", type=float, metavar="T", help="start later, at this time of the process")
    solver.add_argument(
        "--noise-scale",
        type=float,
        metavar="C",
        help="factor of the noise that steps draw: 0 (none) to 2, by default 1",
    )
    solver.add_argument("--start-noise", type=float, metavar="C", help="factor of the noise at the start, 0 to 2")
    solver.add_argument("--denoise-last", action="store_true", default=None, help="end with the prediction itself")
    arguments.add_process(parser, "by default what the preset or the checkpoint says, else Refusion's")
    arguments.add_network(parser)


def read_by_solver(checkpoint: str, options: argparse.Namespace) -> list[object]:
    """The paths of all that a checkpoint's solver and process are read from, None among them."""
    solver = options.solver if options.solver is not None and options.solver.endswith(".json") else None
    return [checkpoint, options.encoder, options.autoencoder, solver]


def solver_and_schedule(checkpoint: str, options: argparse.Namespace) -> tuple[Solver, Schedule | None]:
    """What the options say; no schedule where it is the checkpoint's to say.

    Raises:
        InputError: for a solver that is none, that was found for another schedule, or where torch is not installed.
        CheckpointError: for a checkpoint that cannot be read.
    """
    path_of("checkpoint", checkpoint)
    solver, found_for = _solver(options)
    for what, path in (("encoder", options.encoder), ("autoencoder", options.autoencoder)):
        # A checkpoint of gigabytes may be read before it.
        if path is not None and not path.is_file():
            raise InputError(
                f"{what} {path} {'is no file' if path.exists() else 'does not exist'}", hint="name its file"
            )
    # Torch is loaded from here on, once the options are known to be right.
    arguments.require("build", "torch", "onnx", "safetensors")
    changes = arguments.schedule_options(options)
    if not changes and found_for is None:
        return solver, None
    from mrs.building.made_for import MadeFor
    from mrs.building.source import read_source

    said = MadeFor(**arguments.given(options, *arguments.NETWORK))
    schedule = replace(read_source(checkpoint, made_for=said).schedule, **changes)
    if found_for not in (None, schedule):
        raise InputError(
            f"{options.solver} was found for another schedule than {checkpoint} has",
            hint="tune for this checkpoint, or give the schedule's options",
        )
    return solver, schedule


def _solver(options: argparse.Namespace) -> tuple[Solver, Schedule | None]:
    """The solver that the options describe, and the schedule that it was found for, if it comes from a file."""
    from mrs.numerics.intents import INTENTS as RECORDS
    from mrs.numerics.solver import RECOMMENDED, Solver, renamed
    from mrs.numerics.solver_file import read_solver

    changes = arguments.given(options, *SETTINGS)
    if options.quality is not None and (options.solver is not None or options.published):
        raise InputError(
            f"--quality {options.quality} names a solver of its own",
            hint="leave --solver and --published out, or --quality; --steps and others change the one that it names",
        )
    if options.solver is not None and options.solver.endswith(".json"):
        if changes or options.published:
            raise InputError(
                f"{options.solver} settles the whole solver", hint="leave the other options of the solver out"
            )
        return read_solver(options.solver)
    if options.prediction == "noise":
        # Only predictions of pictures have a range to be clamped to.
        changes.setdefault("clamp", "none")
    base = Solver() if options.published else RECOMMENDED
    if options.quality is not None:
        base = RECORDS[options.quality].solver
    if options.solver is not None:
        changes = {**renamed(options.solver), **changes}
    return replace(base, **changes), None
