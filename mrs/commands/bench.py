"""`mrs-trt bench`: how long restores with a plan take on this machine, and how much of it is the network."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mrs.commands import arguments
from mrs.kernels.terminal import emit
from mrs.runtime.errors import InputError
from mrs.runtime.system import machine

if TYPE_CHECKING:
    from mrs.runtime.session import Restorer

DESCRIPTION = """\
Time whole restores with a plan, from a picture in memory to its result, and the
network's evaluations alone, by turns. The machine should do nothing else."""
FEWEST = 5
Spread = tuple[float, float, float, float]


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "bench", help="time restores with a plan", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    arguments.add_plan(parser)
    parser.add_argument("--size", type=arguments.size, metavar="HxW", help="of the picture, default the plan's")
    parser.add_argument("--batch", type=arguments.positive, metavar="N", help="pictures at once, default the plan's")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="to measure for, default 5")
    arguments.add_running(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print medians, quartiles and the slowest hundredth."""
    import numpy as np

    from mrs.runtime.session import load

    # The comparison is false for NaN.
    if not 0 < options.seconds < float("inf"):
        raise InputError(f"--seconds {options.seconds:g} is not a positive number")
    with load(
        options.plan, backend=options.backend, precision=options.precision, threads=options.threads,
        graphs=not options.no_graphs, engine=not options.no_engine, cache=not options.no_cache,
    ) as restorer:  # fmt: skip
        count, height, width = restorer.plan.manifest["shape"]
        height, width = options.size or (height, width)
        size = (options.batch or count, height, width)
        _check_memory(restorer, size)
        random = np.random.default_rng(0)
        picture = random.integers(0, 256, (*size, restorer.channels), np.uint8)
        with restorer.chain(size) as chain:
            out = np.empty_like(picture)
            times = _by_turns(options.seconds, lambda: chain.restore_into(picture, out, 0), chain.evaluate_all)
        restore, network = (_spread(each) for each in times)
        steps = len(restorer.plan.table.rows)
        on = machine.gpu() if restorer.device == "cuda" else f"{machine.processor()}, {restorer.threads} threads"
        how = "one CUDA graph" if getattr(chain, "captured", False) else "a loop"
        emit(f"machine   {on}")
        emit(f"plan      {options.plan}, {steps} evaluations at {height}x{width}, batch {size[0]}")
        emit(f"engine    {restorer.backend} {restorer.precision}, {how}")
        emit(f"\n{'ms':<10}{'median':>10}{'quartiles':>20}{'p99':>10}   of {len(times[0])}")
        for name, spread in (("restore", restore), ("network", network)):
            low, median, high, last = spread
            emit(f"{name:<10}{median:>10.2f}{f'{low:.2f}-{high:.2f}':>20}{last:>10.2f}")
        outside = restore[1] - network[1]
        emit(f"{'outside':<10}{outside:>10.2f}   {100 * outside / restore[1]:.1f} % of a restore")
    return 0


def _check_memory(restorer: Restorer, size: tuple[int, int, int]) -> None:
    """Refuse a size that is never cut into tiles here, and fits in one piece neither."""
    network = restorer.plan.manifest["network"]
    pixels = size[0] * math.prod(-(-side // restorer.multiple) * restorer.multiple for side in size[1:])
    # Picture and result, as bytes; a GPU has memory of its own for the rest, and tells when that is too little.
    each = 2 * restorer.channels + (network["bytes_per_pixel"] if restorer.device == "cpu" else 0)
    machine.check_memory(
        f"size {size[1]}x{size[2]} at batch {size[0]}", pixels * each, hint="give a smaller --size or --batch"
    )


def _by_turns(seconds: float, *works: Callable[[], Any]) -> list[list[float]]:
    """Milliseconds of each, measured in turn so that a drifting machine hits all alike; the first turn is warm-up."""
    times: list[list[float]] = [[] for _ in works]
    for work in works:
        work()
    end = time.perf_counter() + seconds
    while len(times[0]) < FEWEST or time.perf_counter() < end:
        for each, work in zip(times, works, strict=True):
            begin = time.perf_counter()
            work()
            each.append(1e3 * (time.perf_counter() - begin))
    return times


def _spread(times: list[float]) -> Spread:
    """Lower quartile, median, upper quartile, 99th percentile."""
    import numpy as np

    low, median, high, last = np.percentile(times, (25, 50, 75, 99)).tolist()
    return low, median, high, last
