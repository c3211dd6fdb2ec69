"""`mrs-trt restore`: pictures and folders of pictures through a plan."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mrs.commands import arguments
from mrs.runtime.errors import InputError, MrsError

if TYPE_CHECKING:
    from mrs.runtime.session import Restorer

# A picture and where its result goes.
Job = tuple[Path, Path]

DESCRIPTION = """\
Restore pictures with a plan. One picture goes to the file OUT, or into OUT where
that is a folder or ends with a slash; several pictures, or a folder (searched
recursively), go into the folder OUT under their own names. EXIF, ICC profile and
alpha are kept."""
EPILOG = """\
examples:
  mrs-trt restore rain.mrsplan rainy.jpg -o clean.jpg
  mrs-trt restore rain.mrsplan holiday/ extra.png -o restored/ --tile 512

One bad file does not stop the rest; the exit code is then 1. Wrong arguments, and
a single picture that cannot be restored, give 2."""


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "restore", help="restore pictures with a plan", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("plan", type=Path, metavar="PLAN", help="made by `mrs-trt build`")
    parser.add_argument("inputs", type=Path, nargs="+", metavar="IN", help="pictures or folders")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="picture or folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--seed", type=arguments.seed, default=0, metavar="N", help="of the noise, default 0")
    parser.add_argument(
        "--tile", type=arguments.natural, metavar="N",
        help="side of square tiles; 0 never tiles; by default memory decides",
    )  # fmt: skip
    parser.add_argument(
        "--overlap", type=arguments.natural, metavar="N", help="pixels shared by tiles, default tile/8, at most 64"
    )
    parser.add_argument("--backend", metavar="NAME", help="run on this backend instead of the plan's")
    parser.add_argument("--precision", metavar="P", help="fp32, bf16 or fp16 instead of the plan's")
    parser.add_argument("--no-graphs", action="store_true", help="on a GPU: launch by launch, without a CUDA graph")
    parser.add_argument("--threads", type=arguments.threads, metavar="N", help="at most, default all processors")
    parser.add_argument("--memory", type=arguments.megabytes, metavar="MIB", help="for activations, default 2048")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary on stderr")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Restore everything that was named."""
    from mrs.runtime.session import load

    if options.tile == 0 and options.overlap is not None:
        raise InputError("--overlap is of no use without tiles", hint="leave out --overlap, or --tile 0")
    jobs, single = _jobs(options.inputs, options.output, options.overwrite)
    begin = time.perf_counter()
    with load(
        options.plan, backend=options.backend, precision=options.precision, threads=options.threads,
        memory=options.memory, graphs=not options.no_graphs,
    ) as restorer:  # fmt: skip
        if options.tile:
            from mrs.runtime.tiling import check_tiles, default_overlap

            overlap = default_overlap(options.tile) if options.overlap is None else options.overlap
            check_tiles(options.tile, overlap, restorer.multiple)
        failed = _restore_all(restorer, jobs, single, options)
    if not options.quiet:
        seconds = time.perf_counter() - begin
        pictures = "1 picture" if len(jobs) == 1 else f"{len(jobs)} pictures"
        print(
            f"restored {len(jobs) - failed} of {pictures} in {seconds:.1f} s, {failed} failed -> {options.output}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _jobs(inputs: Sequence[Path], output: str, overwrite: bool) -> tuple[list[Job], bool]:
    """What to do, and whether it is a single picture."""
    from mrs.runtime.pictures import check_target, find_pictures

    target = Path(output)
    found = find_pictures(inputs, exclude=target)
    single = len(inputs) == 1 and inputs[0].is_file()
    # Path drops the slash.
    is_folder = output.endswith(("/", os.sep)) or os.path.isdir(target)
    if single and not is_folder:
        check_target(target, overwrite)
        return [(inputs[0], target)], single
    _check_folder(target, is_folder)
    jobs = [(source, target / relative) for source, relative in found]
    for source, result in jobs:
        if not overwrite and os.path.exists(result) and result.samefile(source):
            raise InputError(
                f"{source} would be replaced by its own result", hint="name another folder, or pass --overwrite"
            )
    return jobs, single


def _check_folder(folder: Path, is_folder: bool) -> None:
    """Refuse a folder for results that cannot be made."""
    from mrs.runtime.pictures import SUFFIXES

    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not os.path.isdir(nearest):
        raise InputError(f"cannot write into {folder}: {nearest} is a file", hint="name a folder for the results")
    if not is_folder and folder.suffix.lower() in SUFFIXES:
        raise InputError(f"{folder} is the name of one picture", hint="several pictures need a folder to go to")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"cannot write into {folder}: {nearest} is read-only", hint="name another folder")


def _restore_all(restorer: Restorer, jobs: Sequence[Job], single: bool, options: argparse.Namespace) -> int:
    """Number of pictures that failed."""
    from tqdm import tqdm

    from mrs.cli import print_error

    failed = 0
    hidden = options.quiet or len(jobs) < 2 or not sys.stderr.isatty()
    with tqdm(jobs, unit="picture", dynamic_ncols=True, disable=hidden) as progress:
        for source, target in progress:
            try:
                _restore_one(restorer, source, target, options)
            except MrsError as error:
                if single:
                    raise
                # The bar steps aside for the line.
                with tqdm.external_write_mode(file=sys.stderr):
                    print_error(error, prefix=f"failed: {source}")
                failed += 1
    return failed


def _restore_one(restorer: Restorer, source: Path, target: Path, options: argparse.Namespace) -> None:
    from mrs.runtime.pictures import check_target, read_picture, write_picture

    picture = read_picture(source)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make folder {target.parent}: {error.strerror}") from None
    # Before time is spent on restoring.
    check_target(target, options.overwrite, like=picture)
    try:
        restored = restorer.restore(picture.rgb, options.seed, tile=options.tile, overlap=options.overlap)
    except MemoryError:
        raise InputError(f"{source} does not fit into memory", hint="restore it in tiles: --tile 512") from None
    write_picture(target, restored, like=picture, overwrite=options.overwrite)
