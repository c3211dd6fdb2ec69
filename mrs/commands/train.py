"""`mrs-trt train`: weights from a folder of clean pictures."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from mrs.commands import arguments
from mrs.kernels.terminal import note

DESCRIPTION = """\
Train a ConditionalNAFNet on clean pictures that are degraded on the fly, with
IR-SDE's objective or one for few evaluations (--predict velocity). Every 1000
iterations (--save-every) OUT gets the averaged weights, OUT.state everything that
--resume needs."""


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "train", help="train weights on a folder of clean pictures", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="clean pictures, searched recursively")
    arguments.add_output(parser, "OUT", "the .safetensors file to write")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from OUT.state; --iterations, --no-bf16 and --compile may be others",
    )
    parser.add_argument(
        "--degradation", metavar="NAME",
        help="name of a synthetic degradation (docs/tasks.md), default rain; mixed draws one of the ten each time",
    )  # fmt: skip
    parser.add_argument(
        "--predict", choices=("noise", "velocity"), dest="predict",
        help="what the network learns: noise (default), as published checkpoints do, or velocity, for few evaluations",
    )  # fmt: skip
    parser.add_argument("--iterations", type=arguments.positive, metavar="N", help="default 20000")
    parser.add_argument("--batch", type=arguments.positive, metavar="N", help="patches per iteration, default 8")
    parser.add_argument("--patch", type=arguments.positive, metavar="N", help="side of a patch, default 64")
    parser.add_argument("--learning-rate", type=float, metavar="R", help="peak rate, default 6e-4")
    parser.add_argument("--ema", type=float, metavar="D", help="decay of the averaged weights, default 0.999")
    parser.add_argument("--seed", type=arguments.seed, metavar="N", help="default 0")
    parser.add_argument("--no-bf16", dest="bf16", action="store_false", default=None, help="compute in float32")
    parser.add_argument("--compile", action="store_true", default=None, help="fuse with torch.compile")
    parser.add_argument(
        "--save-every", type=arguments.positive, metavar="N", help="write OUT and OUT.state so often, default 1000"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")
    network = parser.add_argument_group("network")
    network.add_argument("--width", type=arguments.positive, default=16, metavar="N", help="channels, default 16")
    network.add_argument(
        "--enc", type=arguments.counts, default=(1, 1, 1, 4), metavar="N,N,...", help="default 1,1,1,4"
    )
    network.add_argument("--mid", type=arguments.positive, default=1, metavar="N", help="default 1")
    network.add_argument(
        "--dec", type=arguments.counts, default=(1, 1, 1, 1), metavar="N,N,...", help="default 1,1,1,1"
    )
    arguments.add_schedule(parser, "by default cosine, max_sigma 10, eps 0.005, T 100, ir-sde")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, with a line of progress on stderr every hundred iterations."""
    from mrs.numerics.schedule import Schedule
    from mrs.runtime.errors import InputError

    if len(options.enc) != len(options.dec):
        raise InputError(f"--enc has {len(options.enc)} levels, --dec {len(options.dec)}", hint="give equally many")
    replace = options.overwrite or options.resume
    for path in (options.output, options.output.with_name(options.output.name + ".state")):
        arguments.check_output(path, replace, hint="pass --resume to go on, or --overwrite to start again")
    schedule = Schedule(**{"max_sigma": 10.0, "convention": "ir-sde", **arguments.schedule_options(options)})
    arguments.require("train", "torch", "safetensors")
    from mrs.export.architectures.nafnet import NAFNet
    from mrs.training.train import Progress, Recipe, train

    names = ("degradation", "iterations", "batch", "patch", "learning_rate", "ema", "seed", "bf16", "compile")
    arch = NAFNet(options.width, options.enc, options.mid, options.dec)
    chosen = arguments.given(options, *names)
    if options.predict is not None:
        chosen["output"] = options.predict
    recipe = Recipe(arch=arch, schedule=schedule, **chosen)
    begin = time.monotonic()

    def report(row: Progress) -> None:
        note(
            f"{row['iteration']}/{recipe.iterations}  loss {row['loss']:.6f}  rate {row['rate']:.2e}"
            f"  {time.monotonic() - begin:.0f} s"
        )
        if "tasks" in row:
            note("  ".join(["loss by task", *(f"{name} {loss:.6f}" for name, loss in row["tasks"].items())]))

    train(
        options.folder, options.output, recipe, resume=options.resume, overwrite=replace, device=options.device,
        report=report, **arguments.given(options, "save_every"),
    )  # fmt: skip
    note(f"wrote {options.output}")
    return 0
