"""`mrs-trt bench`: how long restores with a plan take on this machine, and how much of it is the network."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from mrs.commands import arguments
from mrs.kernels.terminal import emit
from mrs.runtime.errors import InputError
from mrs.runtime.padding import padded_size
from mrs.runtime.system import machine

if TYPE_CHECKING:
    from mrs.runtime.session import Restorer

DESCRIPTION = """\
Time whole restores with a plan, from a picture in memory to its result, and the
network's evaluations alone, interleaved. The machine should do nothing else."""
FEWEST = 5


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

    from mrs.runtime.measure import Spread, interleaved
    from mrs.runtime.session import load

    # The comparison is false for NaN.
    if not 0 < options.seconds < float("inf"):
        raise InputError(f"--seconds {options.seconds:g} is not a positive number")
    with load(
        options.plan, backend=options.backend, precision=options.precision, threads=options.threads,
        graphs=not options.no_graphs, engine=not options.no_engine, cache=not options.no_cache,
    ) as restorer:  # fmt: skip
        count, height, width = restorer.plan.facts.picture_shape
        height, width = options.size or (height, width)
        size = (options.batch or count, height, width)
        _check_memory(restorer, size)
        random = np.random.default_rng(0)
        picture = random.integers(0, 256, (*size, restorer.channels), np.uint8)
        with restorer.chain(size) as chain:
            out = np.empty_like(picture)
            works = {"restore": lambda: chain.restore_into(picture, out, 0), "network": chain.evaluate_all}
            # The first time warms up.
            for work in works.values():
                work()
            samples = interleaved(works, least=FEWEST, seconds=options.seconds)
        spreads = {name: Spread.of(times) for name, times in samples.items()}
        steps = len(restorer.plan.table.rows)
        on = machine.gpu() if restorer.device == "cuda" else f"{machine.processor()}, {restorer.threads} threads"
        how = "one CUDA graph" if getattr(chain, "captured", False) else "a loop"
        emit(f"machine   {on}")
        emit(f"plan      {options.plan}, {steps} evaluations at {height}x{width}, batch {size[0]}")
        emit(f"engine    {restorer.backend} {restorer.precision}, {how}")
        emit(f"\n{'ms':<10}{'median':>10}{'quartiles':>20}{'p99':>10}   of {len(samples['restore'])}")
        for name, spread in spreads.items():
            emit(f"{name:<10}{spread.median:>10.2f}{f'{spread.q1:.2f}-{spread.q3:.2f}':>20}{spread.p99:>10.2f}")
        whole = spreads["restore"].median
        outside = whole - spreads["network"].median
        emit(f"{'outside':<10}{outside:>10.2f}   {100 * outside / whole:.1f} % of a restore")
    return 0


def _check_memory(restorer: Restorer, size: tuple[int, int, int]) -> None:
    """Refuse a size that is never cut into tiles here, and fits in one piece neither."""
    pixels = size[0] * math.prod(padded_size(*size[1:], restorer.multiple))
    # Picture and result, as bytes; a GPU has memory of its own for the rest, and tells when that is too little.
    each = 2 * restorer.channels + (restorer.plan.facts.pictures.bytes_per_pixel if restorer.device == "cpu" else 0)
    machine.check_memory(
        f"size {size[1]}x{size[2]} at batch {size[0]}", pixels * each, hint="give a smaller --size or --batch"
    )
