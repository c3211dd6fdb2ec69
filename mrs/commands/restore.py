"""`mrs-trt restore`: pictures and folders of pictures through a plan."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from mrs.commands import arguments

DESCRIPTION = """\
Restore pictures with a plan. One picture goes to the file OUT, or into OUT where
that is a folder; several pictures, or a folder (searched recursively), go into
the folder OUT under their own names. EXIF, ICC profile and alpha are kept."""
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
    parser.add_argument("plan", type=Path, metavar="PLAN")
    parser.add_argument("inputs", type=Path, nargs="+", metavar="IN", help="pictures or folders")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="picture or folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--seed", type=arguments.seed, default=0, metavar="N", help="of the noise, default 0")
    parser.add_argument(
        "--tile", type=int, metavar="N", help="side of square tiles; 0 never tiles; by default memory decides"
    )
    parser.add_argument("--overlap", type=int, metavar="N", help="pixels shared by tiles, default tile/8, at most 64")
    parser.add_argument("--backend", help="run on this backend instead of the plan's")
    parser.add_argument("--threads", type=arguments.positive, metavar="N", help="default: all processors")
    parser.add_argument("--memory", type=arguments.megabytes, metavar="MIB", help="for activations, default 2048")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary on stderr")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Restore everything that was named."""
    from mrs.cli import print_error
    from mrs.runtime.errors import InputError, MrsError
    from mrs.runtime.pictures import check_target, find_pictures
    from mrs.runtime.session import load

    found = find_pictures(options.inputs)
    single = len(options.inputs) == 1 and options.inputs[0].is_file()
    if single and not options.output.is_dir():
        jobs = [(found[0][0], options.output)]
        check_target(options.output, options.overwrite)
    else:
        if options.output.exists() and not options.output.is_dir():
            raise InputError(f"{options.output} is a file", hint="several pictures need a folder to go to")
        jobs = [(source, options.output / relative) for source, relative in found]
        _refuse_collisions(jobs)
    failed = 0
    begin = time.perf_counter()
    with load(options.plan, backend=options.backend, threads=options.threads, memory=options.memory) as restorer:
        if options.tile:
            from mrs.runtime.tiling import check_tiles, default_overlap

            overlap = default_overlap(options.tile) if options.overlap is None else options.overlap
            check_tiles(options.tile, overlap, restorer.multiple)
        for source, target in _with_progress(jobs, options.quiet):
            try:
                _restore_one(restorer, source, target, options)
            except MrsError as error:
                if single:
                    raise
                print_error(error, prefix=f"failed: {source}")
                failed += 1
    if not options.quiet:
        seconds = time.perf_counter() - begin
        restored = len(jobs) - failed
        print(
            f"restored {restored} of {len(jobs)} pictures in {seconds:.1f} s, {failed} failed -> {options.output}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _restore_one(restorer: object, source: Path, target: Path, options: argparse.Namespace) -> None:
    from mrs.runtime.pictures import check_target, read_picture, write_picture
    from mrs.runtime.session import Restorer

    assert isinstance(restorer, Restorer)
    target.parent.mkdir(parents=True, exist_ok=True)
    check_target(target, options.overwrite)
    picture = read_picture(source)
    restored = restorer.restore(picture.rgb, options.seed, tile=options.tile, overlap=options.overlap)
    write_picture(target, restored, like=picture, overwrite=options.overwrite)


def _refuse_collisions(jobs: list[tuple[Path, Path]]) -> None:
    from mrs.runtime.errors import InputError

    seen: dict[Path, Path] = {}
    for source, target in jobs:
        if target in seen:
            raise InputError(
                f"{seen[target]} and {source} would both become {target}", hint="restore them into different folders"
            )
        seen[target] = source


def _with_progress(jobs: list[tuple[Path, Path]], quiet: bool) -> list[tuple[Path, Path]]:
    if quiet or len(jobs) < 2 or not sys.stderr.isatty():
        return jobs
    from tqdm import tqdm

    return tqdm(jobs, unit="picture", dynamic_ncols=True)  # type: ignore[no-any-return]
