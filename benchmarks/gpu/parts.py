"""The parts of a run in their order, the most important first, and how they share the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.gpu import suite
from benchmarks.gpu.processes import NOT_STARTED, ROOT, Clock, Ended, Job, Running, run

if TYPE_CHECKING:
    # Loads NumPy, which must not be needed to say that it is missing.
    from benchmarks.gpu.kept import Kept

# Seconds of each part, which gives what it leaves to those after it.
PARTS = {"restores": 205.0, "tests": 95.0, "kernels": 50.0, "sizes": 95.0, "engines": 35.0}
SECONDS = 480.0
SIDES, EVALUATIONS, ENGINE = (256, 512, 1024), (10, 5), "torch"
# The published loop: operation by operation, or through torch.compile with graphs of torch's own.
FORMS = ("eager fp32", "eager bf16", "compile bf16")
COMPILED = "compile bf16"
# A test may take as long, or half of its part's time where that is more.
LONGEST = 90.0
MANY = 8
GATES = 4  # processes that compile the kernels that will be timed
# A test with its libraries takes as much of the device's memory and the host's.
DEVICE_MIB, HOST_BYTES = 2048, 3 << 30


@dataclass(frozen=True)
class Part:
    """Jobs that belong together, of which several may run at a time where nothing is timed."""

    name: str
    seconds: float
    jobs: Sequence[Job]
    at_once: int = 1


@dataclass(frozen=True)
class Machine:
    """What a plan of parts depends on: processors, MiB of the device, bytes of free memory, engines that run."""

    cores: int
    device_mib: int
    free_bytes: int | None
    engines: Sequence[str]

    @property
    def at_once(self) -> int:
        """Tests that fit side by side."""
        host = self.cores if self.free_bytes is None else self.free_bytes // HOST_BYTES
        return max(1, min(self.cores, self.device_mib // DEVICE_MIB, host))


def planned(
    asked: Sequence[str], seconds: float, here: Machine, sides: Sequence[int] = SIDES, root: Path = ROOT
) -> list[Part]:
    """The parts that are asked for.

    Args:
        asked: of PARTS; none for all.
        seconds: there are for all of them.
        here: the machine.
        sides: of the square pictures, the first one's the most important.
        root: of the checkout whose tests are run.
    """
    names = [name for name in PARTS if name in asked or not asked]
    share = seconds / sum(PARTS[name] for name in names)
    jobs: dict[str, list[Job]] = {
        "restores": [_restores(f"restores {sides[0]}", sides[0], ENGINE, whole=True)],
        "tests": _tests(names, share * PARTS["tests"], here, sides, root),
        "kernels": [Job("kernels", "kernels")],
        "sizes": [_restores(f"size {side}", side, ENGINE, prepared="tests" in names) for side in sides[1:]],
        "engines": [
            replace(_restores(f"engine {name}", sides[0], name, prepared="restores" in names), given={
                "cases": [[sides[0], EVALUATIONS[0], name]], "rivals": [ENGINE], "whole": True,
                "prepared": "restores" in names,
            })
            for name in here.engines if name != ENGINE
        ],
    }  # fmt: skip
    return [Part(name, PARTS[name], jobs[name], here.at_once if name == "tests" else 1) for name in names]


def _restores(name: str, side: int, engine: str, whole: bool = False, prepared: bool = False) -> Job:
    cases = [[side, evaluations, engine] for evaluations in EVALUATIONS]
    return Job(name, "restores", {"cases": cases, "rivals": list(FORMS), "whole": whole, "prepared": prepared})


def _tests(names: Sequence[str], seconds: float, here: Machine, sides: Sequence[int], root: Path) -> list[Job]:
    """The tests; and while these run, other processors compile what is timed afterwards."""
    threads = {"TORCHINDUCTOR_COMPILE_THREADS": str(max(1, here.cores // here.at_once))}
    found = suite.jobs(max(LONGEST, seconds / 2), threads, root)
    if here.at_once == 1:
        return found
    threads = {"TORCHINDUCTOR_COMPILE_THREADS": str(max(1, here.cores // 4))}
    compiled: list[Job] = []
    if "kernels" in names:
        compiled += [
            Job(f"compiling kernels, {part + 1} of {GATES}", "prepare_kernels", {"part": part, "of": GATES}, threads,
                shown=False, longest=seconds)
            for part in range(GATES)
        ]  # fmt: skip
    if "sizes" in names:
        compiled += [
            Job(f"compiling {each} at {job.given['cases'][0][0]}", "prepare_restore", {**job.given, "name": each},
                threads, shown=False, longest=seconds)
            for job in (_restores("", side, ENGINE) for side in sides[1:]) for each in (ENGINE, COMPILED)
        ]  # fmt: skip
    # With many processors what takes longest begins early, and ends with the tests.
    first = sum(job.name.startswith(suite.FIRST) for job in found) if here.at_once >= MANY else len(found)
    return [*found[:first], *compiled[::-1], *found[first:]]


def run_parts(
    parts: Sequence[Part],
    end: float,
    kept: Kept,
    start: Callable[[Job, float], Running],
    clock: Clock,
    say: Callable[[str], object],
) -> list[str]:
    """Run parts until a time of the clock; what went wrong, a line for each.

    Each part has its share of what is left, and a part that hangs is ended there.
    """
    wrong: list[str] = []
    left = sum(part.seconds for part in parts)
    for part in parts:
        begin = clock.now()
        seconds = max(0.0, (end - begin) * part.seconds / left)
        left -= part.seconds
        jobs = [job for job in part.jobs if kept.find("gpu tests", _settings(job)) is None]
        say(f"--- {part.name}: at most {seconds:.0f} s" + (f", {part.at_once} at a time" if part.at_once > 1 else ""))
        if len(jobs) < len(part.jobs):
            say(f"measured before: {len(part.jobs) - len(jobs)} of {len(part.jobs)}")
        # Closed at once, with all that runs, where something fails here.
        with closing(run(jobs, begin + seconds, part.at_once, start, clock)) as several:
            for ended in several:
                wrong += _tested(ended, kept, say) if ended.job.work == "tests" else _worked(ended, say)
    return wrong


def _settings(job: Job) -> Mapping[str, object]:
    return {"tests": job.name}


def _tested(ended: Ended, kept: Kept, say: Callable[[str], object]) -> list[str]:
    found = suite.outcome(ended)
    figures = {"passed": found.passed, "failed": found.failed, "skipped": found.skipped, "trouble": found.trouble,
               "seconds": found.seconds}  # fmt: skip
    if found.trouble != NOT_STARTED:
        kept.add("gpu tests", _settings(ended.job), figures)
    for line in found.lines():
        say(line)
    return [str(found)] * bool(found.trouble)


def _worked(ended: Ended, say: Callable[[str], object]) -> list[str]:
    if ended.trouble:
        for line in (*ended.output.splitlines()[-suite.SHOWN :], f"{ended.job.name}: {ended.trouble}"):
            say(line)
    # What was compiled in vain, or had no time left, is no wrong result.
    harmless = ended.trouble == NOT_STARTED or (ended.code is None and ended.job.work.startswith("prepare"))
    return [f"{ended.job.name}: {ended.trouble}"] * bool(ended.trouble and not harmless)
