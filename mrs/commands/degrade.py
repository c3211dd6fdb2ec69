"""`mrs-trt degrade`: clean pictures to degraded ones."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from mrs.commands import arguments
from mrs.commands.jobs import check_inputs_stay, find_jobs, make_room, summary
from mrs.commands.terminal import print_error, progress
from mrs.runtime.errors import InputError, MrsError

DESCRIPTION = """\
Degrade pictures as networks are trained on it (docs/tasks.md). A picture goes to
the file OUT, or into OUT where that is a folder or ends with a slash; a folder
(searched recursively for what can be read) goes into the folder OUT. Results are
PNG, under the pictures' own names."""
EPILOG = """\
examples:
  mrs-trt degrade kodak/ -o hazy/ --task haze --severity 0.5
  mrs-trt degrade clean.jpg -o noisy.png --task noise --seed 7

What is random depends on the seed, the task and the picture's name in its folder,
and on no other picture. One bad file does not stop the rest; the exit code is then
1. Wrong arguments, and a single picture that cannot be degraded, give 2."""


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "degrade", help="degrade clean pictures", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("input", type=Path, metavar="IN", help="a picture or a folder")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="picture or folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument(
        "--task", required=True, metavar="NAME",
        help="motion-blur, haze, jpeg, low-light, noise, raindrop, rain, shadow, snow, inpainting, or mixed: one of "
        "them for each picture",
    )  # fmt: skip
    parser.add_argument(
        "--severity", type=float, metavar="S",
        help="0, the lightest that networks are trained on, to 1, the heaviest; by default drawn for each picture",
    )  # fmt: skip
    parser.add_argument("--seed", type=arguments.seed, default=0, metavar="N", help="of all that is random, default 0")
    arguments.add_quiet(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Degrade everything that was named."""
    from mrs import degradations
    from mrs.degradations.severity import checked

    degradations.get(options.task)
    if options.severity is not None:
        checked(options.severity)
    jobs, single, found = find_jobs([options.input], options.output, options.overwrite, _as_png)
    check_inputs_stay(jobs)
    begin = time.perf_counter()
    failed = 0
    for source, target in jobs:
        name = source.name if single else source.relative_to(options.input).as_posix()
        try:
            _degrade_one(source, target, name, options)
        except MrsError as error:
            if single:
                raise
            print_error(error, prefix=f"failed: {source}")
            failed += 1
    for path, problem in found.unreadable:
        print_error(problem, prefix=f"failed: {path}")
    tell = progress(options.quiet)
    if found.skipped:
        tell(found.told())
    tell(summary("degraded", found, len(jobs), failed, time.perf_counter() - begin, options.output))
    return 1 if failed or found.unreadable else 0


def _as_png(relative: Path) -> Path:
    return relative.with_suffix(".png")


def _degrade_one(source: Path, target: Path, name: str, options: argparse.Namespace) -> None:
    import numpy as np

    from mrs import degradations
    from mrs.runtime.pictures.writing import check_target, read_picture, write_picture

    if target.suffix.lower() != ".png":
        # Another format would degrade it once more.
        raise InputError(f"cannot write {target}: degraded pictures are PNG", hint="give a name that ends with .png")
    picture = read_picture(source)
    make_room(target)
    # What is done to a grey picture may have colour.
    like = replace(picture, grey=False, bits=8, icc=None if picture.grey else picture.icc)
    check_target(target, options.overwrite, like=like)
    clean = picture.rgb if picture.rgb.dtype != np.uint8 else picture.rgb.astype(np.float32) / np.float32(255)
    rng = degradations.generator(options.seed, options.task, name)
    degraded = degradations.get(options.task)(clean, rng, options.severity)
    write_picture(target, degraded, like=like, overwrite=options.overwrite)
