"""Processes of their own: how long the first result takes from their start, and the plan's times once more.

Run as `python -m mrs.benchmarking.fresh JSON`, which prints JSON; `measure` runs that.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from mrs.benchmarking.results import Repeat, Start
from mrs.benchmarking.settings import LEAST, Running, Size
from mrs.runtime.errors import BackendError, MrsError

# Seconds that a process may take besides its share, whatever it must compile.
PATIENCE = 900.0
# What is run with the job behind it; an experiment may put something slower in its place.
COMMAND = (sys.executable, "-m", "mrs.benchmarking.fresh")
# Rounds of each process: several processes have a sample each in a comparison, so each may have few.
ROUNDS = LEAST


class Found(msgspec.Struct):
    """What one process tells.

    Attributes:
        first_result: when it had its first result, on the clock that `measure` reads before it starts one.
        load_ms, first_restore_ms, peak_memory_bytes: see `results.Start`.
        repeat: see `results.Repeat`.
    """

    first_result: float
    load_ms: float
    first_restore_ms: float
    peak_memory_bytes: int
    repeat: Repeat


def measure(
    plan: Path, running: Running, size: Size, processes: int, seconds: float, report: Callable[[str], None]
) -> tuple[Start | None, tuple[Repeat, ...]]:
    """Start processes one after the other.

    Args:
        plan: the file.
        running: how it is run.
        size: of the pictures, as the plan restores them.
        processes: how many; none gives nothing.
        seconds: for which each repeats the measurement.
        report: called with lines of progress.

    Raises:
        BackendError: where one fails, or does not end in time.
    """
    job = json.dumps({"plan": str(plan), "running": running.to_dict(), "size": size, "seconds": seconds})
    found = []
    results_ms = []
    for number in range(processes):
        report(f"process {number + 1} of {processes}: its first result, and rounds of its own")
        begin = time.monotonic()
        found.append(_run(job, seconds + PATIENCE))
        results_ms.append(1e3 * (found[-1].first_result - begin))
    if not found:
        return None, ()
    start = Start(
        first_result_ms=tuple(results_ms),
        load_ms=tuple(each.load_ms for each in found),
        first_restore_ms=tuple(each.first_restore_ms for each in found),
        peak_memory_bytes=tuple(each.peak_memory_bytes for each in found),
    )
    return start, tuple(each.repeat for each in found)


def _run(job: str, limit: float) -> Found:
    try:
        done = subprocess.run((*COMMAND, job), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise BackendError(f"a process of its own had no end within {limit:.0f} s", hint="pass --processes 0") from None
    lines = done.stderr.strip().splitlines()
    why = lines[-1] if lines else f"exit code {done.returncode}"
    if done.returncode != 0:
        raise BackendError(f"a process of its own failed: {why}", hint="pass --processes 0")
    try:
        return msgspec.json.decode(done.stdout.strip().rsplit("\n", 1)[-1], type=Found)
    except msgspec.DecodeError as error:
        raise BackendError(f"a process of its own told nothing: {error}", hint="pass --processes 0") from None


def main(arguments: Sequence[str]) -> int:
    """What a process of its own does."""
    import numpy as np

    from mrs.benchmarking.works import evaluating, picture_of, restoring
    from mrs.benchmarking.yardstick import Waiting, Yardstick
    from mrs.runtime.measure import interleaved

    job = json.loads(arguments[0])
    count, height, width = job["size"]
    size: Size = (count, height, width)
    begin = time.perf_counter()
    with Running(**job["running"]).load(Path(job["plan"])) as restorer:
        loaded = time.perf_counter()
        picture = picture_of(restorer, size)
        out = np.empty((*size, restorer.channels), np.uint8)
        called = time.perf_counter()
        restorer.restore_into(picture, out)
        ended, first_result = time.perf_counter(), time.monotonic()
        peak = peak_memory()
        works = {"restore": restoring(restorer, size)}
        bare = evaluating(restorer, size)
        if bare is not None:
            works["network"] = bare
        if restorer.device == "cpu":
            works = {"yardstick": Yardstick(restorer.threads), **works}
        for work in works.values():
            work()
        waiting = Waiting(restorer.threads)
        samples = interleaved(works, least=ROUNDS, seconds=job["seconds"])
        waited = waiting.share()
    repeat = Repeat(waited=waited, **{f"{name}_ms": tuple(spent) for name, spent in samples.items()})
    found = Found(first_result, 1e3 * (loaded - begin), 1e3 * (ended - called), peak, repeat)
    print(msgspec.json.encode(found).decode())
    return 0


def peak_memory() -> int:
    """Bytes that this process had resident at most; 0 where the system does not tell."""
    try:
        # Not getrusage: on Linux it counts what the parent had when it started this process, too.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        import resource
    except (OSError, ImportError):
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MrsError as error:
        sys.exit(str(error))
