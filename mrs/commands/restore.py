"""`mrs-trt restore`: pictures and folders of pictures through a plan."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mrs.commands import arguments, in_flight
from mrs.commands.jobs import Job, check_inputs_stay, find_jobs, make_room, summary
from mrs.commands.terminal import print_error
from mrs.kernels.terminal import Notes, interactive, note
from mrs.runtime.errors import InputError
from mrs.runtime.system import machine

if TYPE_CHECKING:
    from mrs.runtime.pictures.writing import PictureLimits
    from mrs.runtime.plan import Plan
    from mrs.runtime.request import Cancellation
    from mrs.runtime.session import Restorer

# Pictures restored at a time on a CPU, where nobody says how many; more were not measured (docs/benchmarks.md).
WORKERS = 2
# Fewer pictures than this are restored one at a time: each takes longer beside another, and an odd one has no other.
FEWEST = 8
# Most pictures in flight besides those that a GPU restores, which takes less time than to encode them.
BESIDE_GPU = 8

DESCRIPTION = """\
Restore pictures with a plan. One picture goes to the file OUT, or into OUT where
that is a folder or ends with a slash; several pictures, or a folder (searched
recursively for what can be read), go into the folder OUT under their own names.
EXIF, colour space and alpha are kept (docs/pictures.md). Plans that enlarge write
pictures so many times as large."""
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
    arguments.add_plan(parser)
    parser.add_argument("inputs", type=Path, nargs="+", metavar="IN", help="pictures or folders")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="picture or folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--seed", type=arguments.seed, default=0, metavar="N", help="of the noise, default 0")
    parser.add_argument(
        "--tile", type=arguments.natural, metavar="N",
        help="side of square tiles; 0 never tiles; by default memory decides, and what the build measured",
    )  # fmt: skip
    parser.add_argument(
        "--overlap",
        type=arguments.natural,
        metavar="N",
        help="pixels shared by the tiles of --tile, default tile/8, at most 64",
    )
    arguments.add_running(parser)
    parser.add_argument(
        "--workers", type=arguments.positive, metavar="N",
        help="restore so many pictures at a time, at most; they share threads and memory; "
             "default 2 for 8 pictures or more on a CPU with several processors, else 1",
    )  # fmt: skip
    parser.add_argument("--memory", type=arguments.megabytes, metavar="MIB", help="for activations, default 2048")
    parser.add_argument(
        "--max-pixels", type=arguments.pixels, metavar="N",
        help="refuse larger pictures, default 268435456 (16384x16384)",
    )  # fmt: skip
    parser.add_argument(
        "--max-picture-memory", type=arguments.megabytes, metavar="MIB",
        help="refuse pictures that take more memory to read, default 2048, and 512 for very small files",
    )  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary on stderr")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Restore everything that was named."""
    from mrs.runtime.pictures.writing import picture_size
    from mrs.runtime.plan import read_plan

    if options.overlap is not None and not options.tile:
        raise InputError("--overlap is of no use without tiles", hint="leave it out, or give --tile N, such as 512")
    jobs, single, found = find_jobs(options.inputs, options.output, options.overwrite)
    check_inputs_stay(jobs, options.plan)
    begin = time.perf_counter()
    plan = read_plan(options.plan)
    # A single picture needs no choice.
    sizes = {source: picture_size(source) or (0, 0) for source, _ in jobs} if len(jobs) > 1 else {}
    with _restorer(plan, list(sizes.values()), options) as restorer:
        if options.tile:
            from mrs.runtime.pace import default_overlap
            from mrs.runtime.tiling import check_tiles, check_whole_picture

            if plan.facts.latent is not None:
                check_whole_picture(options.tile)
            overlap = default_overlap(options.tile) if options.overlap is None else options.overlap
            check_tiles(options.tile, overlap, restorer.multiple)
        failed = _restore_all(restorer, jobs, sizes, single, options)
    for path, error in found.unreadable:
        print_error(error, prefix=f"failed: {path}")
    if not options.quiet:
        if found.skipped:
            note(found.told())
        seconds = time.perf_counter() - begin
        note(summary("restored", found, len(jobs), failed, seconds, options.output))
    return 1 if failed or found.unreadable else 0


def _restorer(plan: Plan, sizes: Sequence[tuple[int, int]], options: argparse.Namespace) -> Restorer:
    """With as many workers as are asked for, as pictures of these sizes need, and as the memory lets."""
    from mrs.runtime.chain import device_of
    from mrs.runtime.placement import choose, default_memory, pixels_that_fit
    from mrs.runtime.session import Restorer

    choice = choose(plan, options.backend, options.precision)
    device = device_of(choice.backend)
    memory = options.memory or default_memory(device)
    sizes = [(plan.facts.upscale * height, plan.facts.upscale * width) for height, width in sizes]
    default = 1
    if device is None and len(sizes) >= FEWEST:
        default = min(WORKERS, options.threads or machine.threads())
    workers = in_flight.workers_that_fit(
        min(options.workers or default, len(sizes)), pixels_that_fit(plan, choice, memory, 1), sizes,
        plan.facts.pictures.multiple, options.tile,
    )  # fmt: skip
    return Restorer(
        plan, choice=choice, threads=options.threads, memory=memory, workers=workers, graphs=not options.no_graphs,
        engine=not options.no_engine, cache=not options.no_cache, device=device,
    )  # fmt: skip


def _most_in_flight(restorer: Restorer, pictures: int) -> int:
    """How many pictures to read, restore or write at a time."""
    if pictures == 1:
        return 1
    return restorer.workers + (1 if restorer.device == "cpu" else min(BESIDE_GPU, machine.threads()))


def _restore_all(
    restorer: Restorer,
    jobs: Sequence[Job],
    sizes: Mapping[Path, tuple[int, int]],
    single: bool,
    options: argparse.Namespace,
) -> int:
    """Number of pictures that failed."""
    from tqdm import tqdm

    failed = 0
    hidden = options.quiet or len(jobs) < 2 or not interactive()
    results = in_flight.in_order(
        jobs,
        lambda job, cancellation: _restore_one(restorer, *job, options, cancellation),
        _most_in_flight(restorer, len(jobs)),
        cost=lambda job: restorer.upscale**2 * math.prod(sizes.get(job[0], ())),
    )
    stream, total = Notes(), len(jobs)
    bars = tqdm(results, total=total, unit="picture", dynamic_ncols=True, disable=hidden, file=stream)
    with closing(results), bars as bar:
        for (source, _), error in bar:
            if error is None:
                continue
            if single:
                raise error
            # The bar steps aside for the line.
            with tqdm.external_write_mode(file=stream):
                print_error(error, prefix=f"failed: {source}")
            failed += 1
    return failed


def _limits(options: argparse.Namespace) -> PictureLimits:
    from mrs.runtime.pictures.writing import PictureLimits

    given = arguments.given(options, "max_pixels", "max_picture_memory")
    limits = PictureLimits()
    if "max_pixels" in given:
        limits = replace(limits, pixels=given["max_pixels"])
    if "max_picture_memory" in given:
        # Who names an amount means it for small files too.
        memory = given["max_picture_memory"]
        limits = replace(limits, memory=memory, allowance=memory)
    return limits


def _restore_one(
    restorer: Restorer, source: Path, target: Path, options: argparse.Namespace, cancellation: Cancellation
) -> None:
    from mrs.runtime.pictures.writing import check_target, enlarged, read_picture, write_picture

    picture = read_picture(source, _limits(options))
    like = enlarged(picture, restorer.upscale)
    make_room(target)
    # Before time is spent on restoring.
    check_target(target, options.overwrite, like=like)
    try:
        restored = restorer.restore(
            picture.rgb, options.seed, tile=options.tile, overlap=options.overlap, cancellation=cancellation
        )
    except MemoryError:
        raise InputError(f"{source} does not fit into memory", hint="restore it in tiles: --tile 512") from None
    write_picture(target, restored, like=like, overwrite=options.overwrite)
