"""`mrs-trt tune`: with few evaluations nearest to the 100-step solution, or to clean pictures."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mrs.commands import arguments, truth
from mrs.commands.terminal import progress
from mrs.kernels.terminal import emit
from mrs.runtime.errors import InputError
from mrs.runtime.system.inputs import path_of

if TYPE_CHECKING:
    from mrs.numerics.schedule import Schedule
    from mrs.tuning.search import Attempt, Tuned
    from mrs.tuning.trial import TimedNetwork

DESCRIPTION = """\
Search the solver and the times that, with few network evaluations, come nearest
to the solution of the probability-flow ODE at 100 evaluations, on a few
pictures (--target ode); or times, noise and weights that restore best where
clean pictures are known (--target truth): a third of the pictures is kept back,
and what is told was measured on these. `mrs-trt build --solver OUT.json` uses
what was found."""
EPILOG = """\
examples:
  mrs-trt tune rain --target truth --data clean_pictures/ --degradation rain --evaluations 3 -o rain-3.json
  mrs-trt tune net.mrsplan --target truth --data pairs/ --metric psnr+haarpsi --evaluations 5 -o net-5.json
  mrs-trt tune rain --data clean_pictures/ --degradation rain --evaluations 5 -o tuned.json
  mrs-trt tune net.mrsplan --data degraded_pictures/ --evaluations 10 -o tuned.json
  mrs-trt build rain -o rain.mrsplan --solver tuned.json"""


PICTURES = 10


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "tune", help="search solver and time grid for few evaluations", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    arguments.add_plan_or_checkpoint(parser)
    arguments.add_output(parser, "OUT", "the .json file to write")
    parser.add_argument(
        "--evaluations", type=arguments.positive, required=True, metavar="N", help="network evaluations of the solver"
    )
    parser.add_argument(
        "--target", choices=("ode", "truth"), default="ode",
        help="what to come near to: the many-step solution, or clean pictures; default ode",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER",
        help="degraded pictures; for truth clean ones, or pairs as bench knows them; by default bundled ones",
    )  # fmt: skip
    parser.add_argument("--degradation", metavar="NAME", help="the pictures in FOLDER are clean: degrade them so first")
    parser.add_argument("--pictures", type=arguments.positive, metavar="N", help="at most, default 10, for truth 48")
    parser.add_argument(
        "--crop", type=arguments.positive, default=128, metavar="N", help="side of what is used of each, default 128"
    )
    parser.add_argument(
        "--seconds", type=arguments.positive, default=300, metavar="S",
        help="time after which the search ends, default 300",
    )  # fmt: skip
    parser.add_argument(
        "--no-fit", dest="fit", action="store_false", help="search times only; methods keep their own weights"
    )
    group = parser.add_argument_group("for the truth")
    group.add_argument("--clean", type=Path, metavar="FOLDER", help="the clean pictures, where --data is degraded")
    group.add_argument(
        "--metric", metavar="NAME", help="psnr (default), haarpsi, fsim, gmsd, or a mix such as psnr+haarpsi"
    )
    group.add_argument(
        "--seeds", type=arguments.positive, metavar="N", help="noises to judge a solver by that draws any, default 2"
    )
    group.add_argument(
        "--resume", action="store_true", help="go on from OUT, found on the same pictures before, and replace it"
    )
    arguments.add_threads(parser)
    arguments.add_quiet(parser)
    arguments.add_process(parser, "of a checkpoint; by default what it says, else Refusion's")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Search, write the file, print the table."""
    if not options.output.name.endswith(".json"):
        # By its ending `mrs-trt build --solver` tells a file from a name.
        raise InputError(f"{options.output} does not end with .json", hint=f"use {options.output.name}.json")
    arguments.check_output(
        options.output, options.overwrite or options.resume, inputs=(options.plan_or_checkpoint, options.data)
    )
    _check_early(options)
    arguments.require("build", "torch", "onnx", "safetensors")
    from mrs.tuning.search import check_evaluations

    network, schedule, output, about, degradation = _network(options)
    check_evaluations(options.evaluations, schedule)
    if options.target == "truth":
        return truth.run(options, network, schedule, output, about, degradation)
    return _run_ode(options, network, schedule, output, about)


def _run_ode(
    options: argparse.Namespace, network: TimedNetwork, schedule: Schedule, output: str, about: dict[str, object]
) -> int:
    from mrs.building.calibration import tuning_pictures
    from mrs.numerics.solver_file import write_solver
    from mrs.runtime.system import machine
    from mrs.tuning.search import tune
    from mrs.tuning.trial import Trial

    pictures = tuning_pictures(
        options.data, options.degradation, options.crop, options.pictures or PICTURES, network.multiple
    )
    # Distances reach 60 dB, far below the rounding of bfloat16.
    trial = Trial(network, pictures, "fp32", options.threads or machine.threads(), batch=4)
    found = tune(
        trial, schedule, options.evaluations, output, fitted=options.fit,
        seconds=options.seconds, report=progress(options.quiet),
    )  # fmt: skip
    about |= {
        "evaluations": options.evaluations,
        "pictures": list(pictures.shape),
        "solvers_tried": found.tried,
        "to_reference_db": _rounded(found.best),
        "published_ode_2_db": _rounded(found.published),
        "table": [
            {"to_reference_db": _rounded(attempt), "solver": attempt.solver.to_dict()} for attempt in found.attempts
        ],
    }
    write_solver(options.output, found.best.solver, schedule, about, options.overwrite)
    emit(table(found))
    return 0


def _check_early(options: argparse.Namespace) -> None:
    """Refuse what needs no network to be seen, before libraries and the checkpoint are read."""
    from mrs.numerics.solver import MOST_STEPS

    path_of("plan or checkpoint", options.plan_or_checkpoint)
    if options.data is not None and not options.data.is_dir():
        raise InputError(f"folder {options.data} does not exist", hint="give a folder of pictures")
    if options.target == "truth":
        truth.check(options)
    else:
        given = [f"--{name}" for name in ("clean", "metric", "seeds", "resume") if getattr(options, name)]
        if given:
            raise InputError(f"{given[0]} is for the truth", hint="give --target truth, or leave it out")
        if options.data is None and options.degradation is not None:
            raise InputError("the bundled pictures are degraded already", hint="give a folder with the degradation")
    # How many forward steps there are, a checkpoint may say; that no solver takes more holds for all.
    most = MOST_STEPS if options.T is None else options.T // 2
    if not 2 <= options.evaluations <= most:
        raise InputError(
            f"{options.evaluations} evaluations are outside 2 to {most}",
            hint="give few, such as 5: that is what is sought",
        )


def table(found: Tuned) -> str:
    """The nearest of each candidate, with the published solver last."""
    text = [f"{'solver':<18}{'prediction':<12}{'last step':<13}{'to 100 steps':>12}  times"]
    text += [_line(attempt) for attempt in found.attempts]
    text.append(f"{_line(found.published)}  (as published)")
    text.append(f"{found.tried} solvers tried; nearer than the published one by {_gain(found):.1f} dB")
    return "\n".join(text)


def _line(attempt: Attempt) -> str:
    solver = attempt.solver
    name = solver.name + (" fitted" if solver.weights else "")
    times = " ".join(f"{time:g}" for time in solver.times) or solver.spacing
    return f"{name:<18}{solver.prediction:<12}{solver.last_step:<13}{attempt.distance_db:9.2f} dB  {times}"


def _rounded(attempt: Attempt) -> float | None:
    """JSON has no infinities: None where the pictures are not finite."""
    return round(attempt.distance_db, 3) if math.isfinite(attempt.distance_db) else None


def _gain(found: Tuned) -> float:
    return found.best.distance_db - found.published.distance_db


def _network(options: argparse.Namespace) -> tuple[TimedNetwork, Schedule, str, dict[str, object], str | None]:
    """The network, its schedule, what it predicts, where it comes from, and what it was trained against."""
    from mrs.numerics.schedule import Schedule
    from mrs.runtime.plan import is_plan, read_plan
    from mrs.tuning.trial import of_network, of_plan

    changes = arguments.schedule_options(options)
    if is_plan(options.plan_or_checkpoint):
        if changes or options.network_output or options.override_checkpoint:
            raise InputError("a plan has its own schedule and network output", hint="leave these options out")
        plan = read_plan(options.plan_or_checkpoint)
        manifest = plan.manifest
        try:
            schedule, output = Schedule(**manifest["schedule"]), str(manifest["output"])
            about = {"checkpoint": manifest["checkpoint"]}
        except (KeyError, TypeError) as error:
            raise InputError(
                f"plan {options.plan_or_checkpoint} does not say its schedule: {error}", hint="build it again"
            ) from None
        said = manifest.get("degradation")
        return of_plan(plan), schedule, output, about, said if isinstance(said, str) else None
    from mrs.building.source import read_source

    override = options.override_checkpoint
    source = read_source(options.plan_or_checkpoint, None, options.network_output, override)
    source = replace(source, schedule=replace(source.schedule, **changes))
    if not override:
        source.check_process()
    about = {"checkpoint": {"name": source.path.name, "sha256": source.checkpoint.sha256}}
    network = of_network(source.arch, source.network, source.condition)
    return network, source.schedule, source.output, about, source.degradation
