"""What a program may give to a build: numbers and records, each refused in one line where it is something else."""

from __future__ import annotations

from collections.abc import Sequence

from mrs.numerics.solver import Solver
from mrs.runtime.errors import InputError
from mrs.runtime.whole_numbers import check_whole, is_number, is_whole, shown

# What the command line takes, and more than any picture has.
LARGEST_SIDE = 99_999


def check_numbers(sizes: Sequence[object], batch: object, max_latency: object, threads: object) -> None:
    """Refuse numbers that a build cannot be for.

    Args:
        sizes: (H, W) each.
        batch: pictures at once.
        max_latency: milliseconds; None for any.
        threads: None for all.

    Raises:
        InputError: naming the one that is wrong.
    """
    for each in sizes:
        # Not a text, whose letters are no numbers.
        if not isinstance(each, Sequence) or len(each) != 2 or not all(is_whole(side, 1) for side in each):
            raise InputError(
                f"size {shown(each)} is not two whole numbers from 1 on",
                hint="size is (height, width) in pixels, such as (256, 384)",
            )
        if max(each) > LARGEST_SIDE:
            raise InputError(f"size {shown(each)} is too large", hint=f"sides are at most {LARGEST_SIDE}")
    check_whole("batch", batch, 1)
    if threads is not None:
        check_whole("threads", threads, 1, hint="leave it out for all processors")
    # The comparison is false for NaN.
    if max_latency is not None and not (is_number(max_latency) and 0 < max_latency < float("inf")):
        raise InputError(
            f"max_latency {shown(max_latency)} is not a positive number of milliseconds", hint="give such as 500"
        )


def check_solver(solver: object) -> None:
    """Refuse what is no solver, such as its name on the command line.

    Raises:
        InputError: saying how one is written.
    """
    if solver is not None and not isinstance(solver, Solver):
        raise InputError(
            f"solver {shown(solver)} is no mrs.Solver", hint='write such as mrs.Solver("ode", order=2, steps=10)'
        )
