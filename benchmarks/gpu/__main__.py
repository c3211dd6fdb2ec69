"""Tests and measurements on this machine's NVIDIA GPU: `make gpu`, or `python -m benchmarks.gpu [PART ...]`.

`tests` runs the kernels' tests on the device, `kernels` times every kernel, `restores` checks and times whole restores.
Rows are appended to benchmarks/results/gpu.jsonl. Without a name, all. docs/benchmarks.md says what the rows hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu import device, suite
from benchmarks.gpu.budget import Budget
from mrs.cli import Parser, guarded
from mrs.runtime.errors import InputError

# Seconds of each part, in their order.
PARTS = {"tests": 120.0, "kernels": 100.0, "restores": 300.0}
ROWS = Path(__file__).resolve().parents[1] / "results" / "gpu.jsonl"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; returns 0, 1 where a result is wrong, 2 where nothing can be measured."""
    parser = Parser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    shown = ", ".join(f"{name} {seconds:g}" for name, seconds in PARTS.items())
    parser.add_argument("--seconds", type=float, help=f"to end within, default {shown}")
    parser.add_argument("--rows", type=Path, default=ROWS, help="file that the rows are appended to")
    parser.add_argument("--commit", default="", help="what the rows call the checkout, where git cannot tell")
    options = parser.parse_args(arguments)
    return guarded(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """The parts, one after the other, within the seconds there are."""
    begin = time.monotonic()
    for part in options.parts:
        if part not in PARTS:
            raise InputError(f"part {part!r} is unknown", hint=f"use {', '.join(PARTS)}")
    asked = [part for part in PARTS if part in options.parts or not options.parts]
    planned = sum(PARTS[part] for part in asked)
    end = begin + (planned if options.seconds is None else options.seconds)
    device.need()
    from benchmarks import rows

    about = device.about(options.commit)
    keep = partial(rows.append, options.rows, where=about)
    wrong = False
    for part in asked:
        # Each gets its share of what is left.
        seconds = (end - time.monotonic()) * PARTS[part] / planned
        planned -= PARTS[part]
        wrong |= globals()[f"run_{part}"](seconds, keep, about)
    return int(wrong)


def run_tests(seconds: float, keep: Any, about: dict[str, Any]) -> bool:
    """Whether something failed."""
    begin = time.monotonic()
    outcomes = suite.run(seconds)
    print("\n".join(suite.shown(outcomes)), flush=True)
    totals = {name: sum(getattr(outcome, name) for outcome in outcomes) for name in ("passed", "failed", "skipped")}
    trouble = [outcome.file for outcome in outcomes if outcome.trouble]
    figures = {**totals, "trouble": trouble, "seconds": time.monotonic() - begin}
    keep("gpu tests", {"files": [outcome.file for outcome in outcomes]}, figures)
    return bool(trouble) or not outcomes


def run_kernels(seconds: float, keep: Any, about: dict[str, Any]) -> bool:
    """Whether a result was wrong."""
    from benchmarks.gpu import cases, kernels, report

    # The first compilation by torch loads half of torch.
    budget = Budget(seconds, {"rivals": 20.0})
    bench = kernels.Bench(kernels.clock_of(), budget, keep)
    # What the bars are about first: on a slow machine the time may be over before the end.
    found = bench.run(cases.bar_cases(), cases.rival_cases(), cases.other_cases())
    print("\n".join(report.lines(found, about)), flush=True)
    return bool(found.wrong)


def run_restores(seconds: float, keep: Any, about: dict[str, Any]) -> bool:
    """Whether a result was wrong."""
    from benchmarks.gpu import restores

    found = restores.Bench(Budget(seconds, restores.EXPECTED), keep).run()
    print("\n".join(restores.lines(found, about)), flush=True)
    return bool(found.wrong)


if __name__ == "__main__":
    sys.exit(main())
