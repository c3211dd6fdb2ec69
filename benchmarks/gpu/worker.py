"""What the processes of a run do: `python -m benchmarks.gpu.worker WORK JSON`. Only the run itself starts them."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.gpu.kept import Kept
from benchmarks.gpu.processes import WRONG
from mrs.runtime.errors import InputError
from mrs.runtime.manifest import JsonObject

if TYPE_CHECKING:
    from benchmarks.gpu.kernels import Bench as KernelBench
    from benchmarks.gpu.restores import Bench as RestoreBench
    from benchmarks.gpu.restores import Case as RestoreCase

Given = JsonObject
Now = Callable[[], float]
PRECISION = "bf16"


def main(arguments: Sequence[str]) -> int:
    """Do a work; the exit code is 0, WRONG where a result is wrong, or pytest's."""
    work, given = arguments
    # A reader sees each row when it is known.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    tell_where()
    end_with_parent()
    return WORK[work](json.loads(given), time.monotonic)


def tell_where() -> None:
    """Let this process say where it is, in all threads, when it is asked to end."""
    # Not to descriptor 2 itself, which pytest turns elsewhere.
    faulthandler.register(signal.SIGTERM, file=os.dup(2), all_threads=True, chain=True)


def end_with_parent() -> None:
    """End this process and what it starts as soon as nobody can write to standard input any more."""
    if os.getpgid(0) != os.getpid():
        # Others share the group.
        return
    source = os.dup(0)

    def watch() -> None:
        while os.read(source, 1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def probe(given: Given, now: Now) -> int:
    """Print what this machine has as a line of JSON: a row's words for it, and engines; or what is missing."""
    from benchmarks.gpu import device

    try:
        device.need()
        found: dict[str, object] = {"about": device.about(given["commit"]), "engines": device.engines(PRECISION)}
    except InputError as error:
        found = {"error": error.message, "hint": error.hint}
    print(json.dumps(found))
    return 0


def tests(given: Given, now: Now) -> int:
    """Run pytest."""
    import pytest

    return int(pytest.main(given["arguments"]))


def kernels(given: Given, now: Now) -> int:
    """Time every kernel. What the bars are about first: the time may be over before the end."""
    from benchmarks.gpu import cases, report

    bench = _kernels(given, now)
    found = bench.run(cases.bar_cases(), cases.rival_cases(), cases.other_cases())
    print("\n".join(report.lines(found, given["about"])))
    return WRONG * bool(found.wrong)


def prepare_kernels(given: Given, now: Now) -> int:
    """Compile a part of what `kernels` will time."""
    from benchmarks.gpu import cases

    part = slice(given["part"], None, given["of"])
    names = list({case.name: case for case in (*cases.bar_cases(), *cases.other_cases())}.values())
    return _told(_kernels(given, now).prepare(names[part], cases.rival_cases()[part]).wrong)


def _kernels(given: Given, now: Now) -> KernelBench:
    from benchmarks.gpu import kernels
    from benchmarks.gpu.budget import Budget

    # The first compilation by torch loads half of torch.
    budget = Budget(given["end"] - now(), {"rivals": 10.0}, now)
    return kernels.Bench(kernels.clock_of(), budget, _kept(given))


def restores(given: Given, now: Now) -> int:
    """Time whole restores."""
    from benchmarks.gpu import restores_report

    bench, cases = _restores(given, now)
    found = bench.run(cases, given["rivals"], given["whole"])
    print("\n".join(restores_report.lines(found)))
    return WRONG * bool(found.wrong)


def prepare_restore(given: Given, now: Now) -> int:
    """Compile an engine, or a form of the published loop, for what `restores` will time."""
    bench, cases = _restores(given, now)
    if not any(bench.missing(case, given["rivals"]) for case in cases):
        return 0
    return _told(bench.prepare(cases[0].side, given["name"]).wrong)


def _restores(given: Given, now: Now) -> tuple[RestoreBench, list[RestoreCase]]:
    from benchmarks.gpu import restores
    from benchmarks.gpu.budget import Budget

    cases = [restores.Case(*case) for case in given["cases"]]
    names = [*given["rivals"], *(case.engine for case in cases)] if given["prepared"] else []
    compiled = {(case.side, name) for case in cases for name in names}
    budget = Budget(given["end"] - now(), restores.EXPECTED, now)
    return restores.Bench(budget, _kept(given), precision=PRECISION, compiled=compiled), cases


def _kept(given: Given) -> Kept:
    return Kept(Path(given["rows"]), given["about"], given["skip"])


def _told(wrong: Sequence[str]) -> int:
    for line in wrong:
        print(f"WRONG: {line}")
    return WRONG * bool(wrong)


WORK: dict[str, Callable[[Given, Now], int]] = {
    work.__name__: work for work in (probe, tests, kernels, prepare_kernels, restores, prepare_restore)
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
