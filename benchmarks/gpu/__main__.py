"""Tests and measurements on this machine's NVIDIA GPU: `make gpu`, or `python -m benchmarks.gpu [PART ...]`.

The parts, the most important first: `restores` times whole restores at 256x256 beside torch's own ways, `tests` runs
the tests on the device, `kernels` times every kernel, `sizes` larger pictures, `engines` every other engine. Each runs
in processes of its own. Rows are appended to benchmarks/results/gpu.jsonl as they come. Without a name, all.
docs/benchmarks.md says what the rows hold.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.gpu import device
from benchmarks.gpu.parts import PARTS, SECONDS, Machine, planned, run_parts
from benchmarks.gpu.processes import Clock, Job, Process, Running, SystemClock, run
from mrs.cli import Parser, guarded
from mrs.runtime.errors import InputError
from mrs.runtime.system import machine

if TYPE_CHECKING:
    from mrs.runtime.manifest import JsonObject

ROWS = Path(__file__).resolve().parents[1] / "results" / "gpu.jsonl"
# Seconds until a machine has told what it has, and what a job keeps of its own for its end.
PROBE, MARGIN = 60.0, 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; returns 0, 1 where something is wrong or did not end, 2 where nothing can be measured."""
    parser = Parser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--seconds", type=float, help=f"to end within, default {SECONDS:g}, or a part's share of it")
    parser.add_argument("--rows", type=Path, default=ROWS, help="file that the rows are appended to")
    parser.add_argument("--commit", default="", help="what the rows call the checkout, where git cannot tell")
    parser.add_argument(
        "--skip-measured", action="store_true",
        help="leave out what the file has rows of, of the same commit, device, driver and versions",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    return guarded(lambda: measure(options))


def measure(options: argparse.Namespace) -> int:
    """The parts, one after the other, within the seconds there are."""
    clock = SystemClock()
    begin = clock.now()
    for part in options.parts:
        if part not in PARTS:
            raise InputError(f"part {part!r} is unknown", hint=f"use {', '.join(PARTS)}")
    asked = sum(PARTS[part] for part in dict.fromkeys(options.parts)) or SECONDS
    end = begin + (min(SECONDS, asked) if options.seconds is None else options.seconds)
    device.need_packages()
    given = {"rows": str(options.rows.resolve()), "skip": options.skip_measured, "commit": options.commit}
    found = probed(begin + PROBE, starting(given), clock)
    # Loads NumPy, which was not known to be there.
    from benchmarks.gpu.kept import Kept, known

    about = found["about"]
    print(f"{about['device']}, driver {about['driver'] or 'unknown'}, commit {about['commit'] or 'unknown'}")
    if options.skip_measured and not known(about["commit"]):
        print("note: all is measured again: the files belong to no commit; --commit names one", file=sys.stderr)
    for name, reason in found["engines"].items():
        if reason is not None:
            print(f"skipped: {name}: {reason}")
    here = Machine(
        machine.threads(), about["memory_mib"], machine.free_memory(),
        [name for name, reason in found["engines"].items() if reason is None],
    )  # fmt: skip
    kept = Kept(options.rows, about, options.skip_measured)
    parts = planned(options.parts, end - clock.now(), here)
    wrong = run_parts(parts, end, kept, starting({**given, "about": about}), clock, say)
    say(f"--- {clock.now() - begin:.0f} s")
    for line in wrong:
        say(f"WRONG: {line}")
    return int(bool(wrong))


def say(line: str) -> None:
    """A line, at once."""
    print(line, flush=True)


def starting(given: Mapping[str, object]) -> Callable[[Job, float], Running]:
    """Starts workers, which are told their job and what is `given` to all."""

    def start(job: Job, limit: float) -> Running:
        told = json.dumps({**given, **job.given, "end": limit - MARGIN})
        command = [sys.executable, "-m", "benchmarks.gpu.worker", job.work, told]
        return Process(command, job.environment, job.shown)

    return start


def probed(end: float, start: Callable[[Job, float], Running], clock: Clock) -> JsonObject:
    """What the machine has: `about`, words of a row, and `engines`, each with the reason why it cannot run, or None.

    Found out by another process, so that this one holds nothing of the device.

    Raises:
        InputError: where there is nothing to measure on.
    """
    (ended,) = run([Job("looking for a GPU", "probe", shown=False)], end, 1, start, clock)
    said = ended.output.splitlines()
    answers = [line for line in said if line.startswith("{")]
    if ended.trouble or not answers:
        why = ": ".join([ended.trouble or "it said nothing", *said[-1:]])
        raise InputError(
            f"torch could not be asked for a GPU: {why}",
            hint="run nvidia-smi, and python -c 'import torch; torch.cuda.init()'",
        )
    found: JsonObject = json.loads(answers[-1])
    if "error" in found:
        raise InputError(found["error"], hint=found["hint"])
    return found


if __name__ == "__main__":
    # As Ctrl-C: everything that was started is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
