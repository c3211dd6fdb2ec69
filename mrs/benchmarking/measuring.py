"""Times of the plan and of its rivals, in turn, and pictures per second with several workers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mrs.benchmarking.facts import parity_of
from mrs.benchmarking.results import OURS, Case, Throughput
from mrs.benchmarking.settings import LEAST, Running, Size
from mrs.benchmarking.works import Entrant, Work, evaluating, restoring
from mrs.kernels.threads import Task, Threads
from mrs.runtime.measure import interleaved
from mrs.runtime.session import Restorer

# Seconds that a round of a throughput lasts at least: what its threads have to do at its ends counts too.
ROUND = 0.2
# Restores of each worker in a round, at least.
FEWEST = 2


def own_cases(restorer: Restorer, size: Size, group: int) -> dict[str, Case]:
    """What is known of the plan's restore and network before they are timed, by the kind of work."""
    batch, height, width = size
    whole = Case(
        work="restore", by=OURS, label="this plan", backend=restorer.backend, precision=restorer.precision,
        height=height, width=width, batch=batch, evaluations=len(restorer.plan.table.rows), group=group,
        milliseconds=(), parity=parity_of(restorer.plan, restorer.backend, restorer.precision),
    )  # fmt: skip
    return {"restore": whole, "network": replace(whole, work="network", parity=None)}


def time_group(
    restorer: Restorer,
    size: Size,
    group: int,
    seconds: float,
    rivals: Sequence[Entrant] = (),
    setup_seconds: float | None = None,
) -> tuple[Case, ...]:
    """Restores of one size, bare evaluations where they are not tiled, and rivals, in turn in each round.

    Args:
        restorer: the plan's.
        size: of the pictures.
        group: number of the rounds.
        seconds: to measure for, beyond the least number of rounds.
        rivals: warm, and judged.
        setup_seconds: that loading the plan took; where it is None, what compiling for the size takes is measured.
    """
    known = own_cases(restorer, size, group)
    whole, bare = restoring(restorer, size), evaluating(restorer, size)
    begin = time.perf_counter()
    whole()
    first = time.perf_counter() - begin
    # The first time compiles.
    begin = time.perf_counter()
    whole()
    compiling = max(0.0, first - (time.perf_counter() - begin))
    entrants = [Entrant(known["restore"], whole)]
    if bare is not None:
        bare()
        entrants.append(Entrant(known["network"], bare))
    entrants.extend(rivals)
    limits = {index: each.rounds for index, each in enumerate(entrants) if each.rounds is not None}
    works = {index: each.work for index, each in enumerate(entrants)}
    samples = interleaved(works, least=LEAST, seconds=seconds, limits=limits)
    cases = [replace(each.case, milliseconds=tuple(samples[index])) for index, each in enumerate(entrants)]
    cases[0] = replace(cases[0], setup_seconds=(setup_seconds or 0.0) + compiling)
    return tuple(cases)


def throughputs(
    plan: Path, running: Running, size: Size, workers: Sequence[int], seconds: float
) -> tuple[Throughput, ...]:
    """Pictures per second with as many callers as workers, for each number of workers in turn.

    Args:
        plan: the file, loaded for each number.
        running: how.
        size: of the pictures.
        workers: numbers of them.
        seconds: to measure for all together, beyond the least number of rounds.
    """
    crews: dict[int, Crew] = {}
    try:
        for number in workers:
            crews[number] = Crew(running.load(plan, number), size)
        samples = interleaved(_rounds(crews), least=LEAST, seconds=seconds)
    finally:
        for crew in crews.values():
            crew.restorer.close()
    batch, height, width = size
    return tuple(
        Throughput(
            workers=number, batch=batch, height=height, width=width,
            pictures_per_second=tuple(1e3 * crew.pictures / milliseconds for milliseconds in samples[number]),
        )
        for number, crew in crews.items()
    )  # fmt: skip


def _rounds(crews: Mapping[int, Crew]) -> dict[int, Work]:
    return {number: crew.work for number, crew in crews.items()}


class Crew:
    """A restorer with as many threads that call it as it has workers.

    Attributes:
        restorer: with its workers.
        pictures: that are restored in each round.
    """

    def __init__(self, restorer: Restorer, size: Size) -> None:
        self.restorer = restorer
        self._works = [restoring(restorer, size) for _ in range(restorer.workers)]
        self._threads = Threads(restorer.workers)
        self._calls = 1
        # Every worker compiles and warms up.
        for _ in range(2):
            begin = time.perf_counter()
            self.work()
            once = time.perf_counter() - begin
        self._calls = max(FEWEST, math.ceil(ROUND / once))
        self.pictures = size[0] * restorer.workers * self._calls

    def work(self) -> None:
        """One round: each thread restores so many times, and the last one's end counts."""
        tasks = [Task(self._repeat, work) for work in self._works]
        for task in tasks:
            self._threads.submit(task)
        for task in tasks:
            task.wait()
        for task in tasks:
            task.result()

    def _repeat(self, work: Work) -> None:
        for _ in range(self._calls):
            work()
