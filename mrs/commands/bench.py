"""`mrs-trt bench`: how long restores with a plan take on this machine, and whether that has changed."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mrs.benchmarking.rivals import NAMES
from mrs.commands import arguments, quality_options
from mrs.commands.terminal import progress
from mrs.kernels.terminal import emit
from mrs.runtime.errors import InputError

if TYPE_CHECKING:
    from mrs.benchmarking.results import Machine, PlanFacts, Results
    from mrs.benchmarking.settings import Running

DESCRIPTION = """\
Time whole restores with a plan, from a picture in memory to its result, and the
network's evaluations alone, interleaved; the first result of new processes;
further sizes and batches, several workers; and how good restores are, where clean
pictures are given. The machine should do nothing else."""
EPILOG = """\
examples:
  mrs-trt bench rain.mrsplan
  mrs-trt bench rain.mrsplan --sizes 512x512,1024x1024 --workers 1,2 --json rain.json
  mrs-trt bench rain.mrsplan --seconds 30 --processes 6 --compare old.json
  mrs-trt bench rain.mrsplan --workers 2 --trace trace.json
  mrs-trt bench rain.mrsplan --against eager,compile,openvino --checkpoint rain.safetensors
  mrs-trt bench rain.mrsplan --data clean_pictures/ --solvers ode-2:5,10

exit code: 0, or 3 where --compare finds the plan slower; errors have 1 and 2"""
# Neither what errors have, nor what a shell has for signals.
SLOWER = 3


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "bench", help="time restores with a plan", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    arguments.add_plan(parser)
    parser.add_argument("--size", type=arguments.size, metavar="HxW", help="of the picture, default the plan's")
    parser.add_argument("--batch", type=arguments.positive, metavar="N", help="pictures at once, default the plan's")
    parser.add_argument(
        "--sizes", type=arguments.sizes, default=(), metavar="HxW,...", help="further sizes, one picture each"
    )
    parser.add_argument(
        "--batches", type=arguments.counts, default=(), metavar="N,...", help="further batches, of the first size"
    )
    parser.add_argument(
        "--workers", type=arguments.counts, default=(), metavar="N,...",
        help="pictures per second with so many workers, as many callers at a time",
    )  # fmt: skip
    parser.add_argument(
        "--processes", type=arguments.natural, default=5, metavar="N",
        help="new processes, for cold start, peak memory and --compare, default 5",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S",
        help="to measure for in all, default 10; each part takes five samples at least",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples, for `--compare` and reports")
    parser.add_argument(
        "--compare", type=Path, metavar="OLD",
        help="a file of --json, of this machine and size: tell whether restores are slower now (exit code 3)",
    )  # fmt: skip
    parser.add_argument(
        "--trace", type=Path, metavar="FILE",
        help="write when each thread did what in some restores, with the most of --workers, for ui.perfetto.dev",
    )  # fmt: skip
    _add_rivals(parser)
    quality_options.add_arguments(parser)
    arguments.add_running(parser)
    arguments.add_quiet(parser)
    parser.set_defaults(run=run)


def _add_rivals(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("rivals", "in the same rounds as the plan itself (docs/benchmarks.md)")
    group.add_argument(
        "--against", type=_names, default=(), metavar="NAME,...", help=f"some of {', '.join(NAMES)}"
    )  # fmt: skip
    group.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="that the plan was built from, for rivals in torch"
    )
    group.add_argument("--encoder", type=Path, metavar="FILE", help="DA-CLIP's image encoder, for its networks")
    group.add_argument("--encoder-heads", type=arguments.positive, metavar="N", help="heads of its attention")
    group.add_argument("--autoencoder", type=Path, metavar="FILE", help="Refusion's UNet for latents")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = next((name for name in names if name not in NAMES), None)
    if unknown is not None:
        raise argparse.ArgumentTypeError(f"{unknown!r} is none of {', '.join(NAMES)}")
    return names


def run(options: argparse.Namespace) -> int:
    """Measure, print, write what was asked for, and compare."""
    # The comparison is false for NaN.
    if not 0 < options.seconds < float("inf"):
        raise InputError(
            f"--seconds {options.seconds:g} is not a positive number", hint="give seconds, such as --seconds 30"
        )
    if 0 in (*options.batches, *options.workers):
        raise InputError("--batches and --workers are numbers from 1 on", hint="leave out what is not to be measured")
    _check_files(options)
    quality = quality_options.wanted(options)
    from mrs.benchmarking import comparing
    from mrs.benchmarking.bench import bench
    from mrs.benchmarking.results import read
    from mrs.benchmarking.rivals import Companions
    from mrs.benchmarking.settings import Running, Wanted
    from mrs.benchmarking.table import comparison_lines, lines

    old = None if options.compare is None else read(options.compare)
    if old is not None:
        comparing.check_processes(old, options.processes, options.compare)

    def check(machine: Machine, plan: PlanFacts) -> None:
        if old is not None:
            comparing.check_comparable(old, machine, plan, options.compare)

    running = Running(
        backend=options.backend, precision=options.precision, threads=options.threads, graphs=not options.no_graphs,
        engine=not options.no_engine, cache=not options.no_cache,
    )  # fmt: skip
    wanted = Wanted(
        size=options.size, batch=options.batch, sizes=options.sizes, batches=options.batches, workers=options.workers,
        processes=options.processes, seconds=options.seconds, quality=quality,
        against=options.against, checkpoint=options.checkpoint,
        companions=Companions(options.encoder, options.encoder_heads, options.autoencoder),
    )  # fmt: skip
    report = progress(options.quiet)
    results = bench(options.plan, running, wanted, _command(options), report, check)
    for line in lines(results):
        emit(line)
    if options.json is not None:
        results.save(options.json)
        report(f"wrote {options.json}")
    if options.trace is not None:
        _trace(options, running, results)
        report(f"wrote {options.trace}")
    if old is None:
        return 0
    found = comparing.compare(old, results)
    for line in comparison_lines(found, old):
        emit(line)
    return SLOWER if found.restore.verdict == comparing.SLOWER else 0


def _check_files(options: argparse.Namespace) -> None:
    """Refuse what could not be written in the end, or would take the place of what is read."""
    files = [path for path in (options.json, options.trace) if path is not None]
    for path in files:
        # Files of results are for this: the latest takes the place of the last.
        arguments.check_output(path, overwrite=True)
        if path.resolve() == options.plan.resolve():
            raise InputError(f"{path} is the plan", hint="give another name for what is written")
    if len({path.resolve() for path in files}) < len(files):
        raise InputError("--json and --trace name one file", hint="give two")


def _trace(options: argparse.Namespace, running: Running, results: Results) -> None:
    from mrs.benchmarking.timeline import save_trace, trace

    plan, workers = results.plan, max(options.workers, default=1)
    what = f"{plan.name}, {plan.height}x{plan.width}, batch {plan.batch}, {workers} workers"
    parts = trace(options.plan, running, (plan.batch, plan.height, plan.width), workers)
    save_trace(options.trace, parts, what)


def _command(options: argparse.Namespace) -> str:
    """What measures the same again."""
    return shlex.join(["mrs-trt", "bench", str(options.plan), *_flags(options)])


def _flags(options: argparse.Namespace) -> Iterator[str]:
    if options.size:
        yield from ("--size", _size(options.size))
    if options.sizes:
        yield from ("--sizes", ",".join(map(_size, options.sizes)))
    for name in ("batches", "workers"):
        if getattr(options, name):
            yield from (f"--{name}", ",".join(map(str, getattr(options, name))))
    if options.against:
        yield from ("--against", ",".join(options.against))
    for name in (
        "batch", "processes", "backend", "precision", "threads", "checkpoint", "encoder", "encoder_heads",
        "autoencoder",
    ):  # fmt: skip
        if getattr(options, name) is not None:
            yield from (f"--{name.replace('_', '-')}", str(getattr(options, name)))
    for name in ("data", *quality_options.DEPENDENT):
        value = getattr(options, name)
        if value is not None:
            yield from (f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value]))
    yield from ("--seconds", f"{options.seconds:g}")
    yield from (
        f"--{name.replace('_', '-')}" for name in ("no_graphs", "no_engine", "no_cache") if getattr(options, name)
    )


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
