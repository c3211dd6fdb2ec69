"""How often `mrs-trt bench --compare` is right: two runs of one plan, and a run with a slowdown planted.

    python -m benchmarks.experiments.compare_check PLAN [--pairs 20] [--planted 10] [--seconds 10] [--processes 5]

For each pair two runs, one after the other, are compared, which should be equal in 19 of 20. For each planted slowdown
a run whose restores take a tenth longer is compared with the pair's second run, and should be found in 9 of 10. It is
planted by this script in the processes that are measured, by waiting after each restore: busily, as more work would, or
asleep (`--how sleep`). The machine should do nothing else; `--keep FOLDER` keeps each run's file. A quarter of an hour.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from mrs.benchmarking import fresh
from mrs.benchmarking.bench import bench
from mrs.benchmarking.comparing import EQUAL, SLOWER, UNCLEAR, Change, compare
from mrs.benchmarking.results import Results
from mrs.benchmarking.settings import Running, Wanted
from mrs.commands.arguments import size
from mrs.runtime.session import Restorer

CHILD = "--child"
OWN = fresh.COMMAND


def main() -> None:
    """Measure, compare, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--planted", type=int, default=10, help="at most as many as pairs")
    parser.add_argument("--slowdown", type=float, default=0.1)
    parser.add_argument("--how", choices=("busy", "sleep"), default="busy")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--size", type=size, help="of the picture, HxW, default the plan's")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    same: list[Change] = []
    slowed: list[Change] = []
    for number in range(options.pairs):
        old, new = measured(options, f"{number}-old"), measured(options, f"{number}-new")
        same.append(compare(old, new).restore)
        print(f"same    {line(same[-1])}", flush=True)
        if number < options.planted:
            slow = measured(options, f"{number}-slow", slow=True)
            slowed.append(compare(new, slow).restore)
            print(f"planted {line(slowed[-1])}", flush=True)
    found, missed = Counter(each.verdict for each in same), Counter(each.verdict for each in slowed)
    alike = found[EQUAL] + found[UNCLEAR]
    print(f"same plan: {alike} of {len(same)} without a difference ({found[UNCLEAR]} of them too noisy to tell)")
    print(f"slower by {100 * options.slowdown:.0f} %: {missed[SLOWER]} of {len(slowed)} found")


def measured(options: argparse.Namespace, name: str, slow: bool = False) -> Results:
    """One run of `mrs-trt bench`."""
    planting = (sys.executable, "-m", "benchmarks.experiments.compare_check", CHILD)
    fresh.COMMAND = (*planting, options.how, str(options.slowdown)) if slow else OWN
    wanted = Wanted(size=options.size, seconds=options.seconds, processes=options.processes)
    found = bench(options.plan, Running(), wanted, "")
    if options.keep is not None:
        options.keep.mkdir(exist_ok=True)
        found.save(options.keep / f"{name}.json")
    return found


def line(change: Change) -> str:
    """A comparison's figures."""
    return (
        f"{change.verdict:<15} {change.ratio:.3f} ({change.low:.3f}-{change.high:.3f}), "
        f"{change.plain:.3f} without the yardstick"
    )


def child(how: str, slowdown: float, job: str) -> None:
    """What a process does whose restores are slower than they are."""
    real = Restorer.restore_into

    def slower(self: Restorer, *arguments: Any, **options: Any) -> None:
        begin = time.perf_counter()
        real(self, *arguments, **options)
        end = time.perf_counter()
        until = end + slowdown * (end - begin)
        if how == "sleep":
            time.sleep(max(0.0, until - time.perf_counter()))
        while time.perf_counter() < until:
            pass

    Restorer.restore_into = slower  # type: ignore[method-assign]
    sys.exit(fresh.main([job]))


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        child(sys.argv[2], float(sys.argv[3]), sys.argv[4])
    else:
        main()
