"""`mrs-trt train`: weights from a folder of clean pictures."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mrs.commands import arguments
from mrs.kernels.terminal import note
from mrs.runtime.errors import InputError

if TYPE_CHECKING:
    from mrs.export.architectures import Architecture

DESCRIPTION = """\
Train a ConditionalNAFNet or ConditionalUNet on clean pictures that are degraded on
the fly, with IR-SDE's objective or one for few evaluations (--predict velocity).
Every 1000 iterations (--save-every) OUT gets the averaged weights, OUT.state
everything that --resume needs."""
# The denoising process as published for IR-SDE's network, exact between whole times, where a picture's noise lies.
DENOISING = {"max_sigma": 75.0, "eps": 0.04, "interpolation": "exact", "process": "denoising"}
# Which options say the sizes of a network, besides its width.
SIZES = {"nafnet": ("enc", "mid", "dec"), "unet": ("depth",)}


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
    network.add_argument(
        "--network", choices=tuple(SIZES), default="nafnet", help="nafnet (default, Refusion's) or unet (IR-SDE's)"
    )
    network.add_argument(
        "--process", choices=("mean-reverting", "denoising"), default="mean-reverting",
        help="mean-reverting (default), or denoising: a network for noise of any strength, which sees nothing else",
    )  # fmt: skip
    network.add_argument(
        "--width", type=arguments.positive, default=16, metavar="N", help="channels at full resolution, default 16"
    )
    network.add_argument(
        "--enc", type=arguments.counts, metavar="N,N,...", help="nafnet: blocks of each level down, default 1,1,1,4"
    )
    network.add_argument("--mid", type=arguments.positive, metavar="N", help="nafnet: blocks between, default 1")
    network.add_argument(
        "--dec", type=arguments.counts, metavar="N,N,...", help="nafnet: blocks of each level up, default 1,1,1,1"
    )
    network.add_argument(
        "--depth", type=arguments.positive, metavar="N", help="unet: times that its width doubles, default 3"
    )
    arguments.add_schedule(
        parser, "by default cosine, max_sigma 10, eps 0.005, T 100, ir-sde; of denoising max_sigma 75, eps 0.04, exact"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, with a line of progress on stderr every hundred iterations."""
    from mrs.numerics.schedule import Schedule

    _check_sizes(options)
    replace = options.overwrite or options.resume
    for path in (options.output, options.output.with_name(options.output.name + ".state")):
        arguments.check_output(
            path, replace, hint="pass --resume to go on, or --overwrite to start again", inputs=[options.folder]
        )
    if not options.folder.is_dir():
        raise InputError(f"folder {options.folder} does not exist", hint="give a folder of clean pictures")
    if options.resume and not path.is_file():
        raise InputError(f"no state to resume from: {path} does not exist", hint="start without --resume")
    denoises = options.process == "denoising"
    process = DENOISING if denoises else {"max_sigma": 10.0}
    schedule = Schedule(**{"convention": "ir-sde", **process, **arguments.schedule_options(options)})
    arguments.require("train", "torch", "safetensors")
    from mrs.training.train import Progress, Recipe, train

    names = ("degradation", "iterations", "batch", "patch", "learning_rate", "ema", "seed", "bf16", "compile")
    arch = _network(options, condition=not denoises)
    chosen = {**({"degradation": "noise"} if denoises else {}), **arguments.given(options, *names)}
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


def _check_sizes(options: argparse.Namespace) -> None:
    """Refuse sizes that are of no network, or of another."""
    for network, names in SIZES.items():
        wrong = [f"--{name}" for name in names if getattr(options, name) is not None]
        if wrong and network != options.network:
            own = ", ".join(f"--{name}" for name in ("width", *SIZES[options.network]))
            raise InputError(f"{', '.join(wrong)}: a {options.network} has no such size", hint=f"give {own}")
    levels = [len(blocks) for blocks in _blocks(options)]
    if levels[0] != levels[1]:
        raise InputError(f"--enc has {levels[0]} levels, --dec {levels[1]}", hint="give equally many")


def _blocks(options: argparse.Namespace) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return options.enc or (1, 1, 1, 4), options.dec or (1, 1, 1, 1)


def _network(options: argparse.Namespace, condition: bool) -> Architecture:
    """The network that the options describe."""
    from mrs.export.architectures.nafnet import NAFNet, NAFNetDenoising
    from mrs.export.architectures.unet import ConditionalUNet
    from mrs.export.architectures.unet.config import MOST_LEVELS

    if options.network == "unet":
        depth = options.depth or 3
        if depth > MOST_LEVELS:
            raise InputError(f"--depth {depth} is more than {MOST_LEVELS}", hint="published networks have 4")
        return ConditionalUNet(
            options.width, tuple(options.width << level for level in range(depth + 1)), condition=condition
        )
    enc, dec = _blocks(options)
    return (NAFNet if condition else NAFNetDenoising)(options.width, enc, options.mid or 1, dec)
