"""All that `mrs-trt bench` measures, one part after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mrs.benchmarking import facts, fresh
from mrs.benchmarking.beside import beside
from mrs.benchmarking.measuring import throughputs, time_group
from mrs.benchmarking.quality.measuring import QualityFound
from mrs.benchmarking.quality.measuring import measure as measure_quality
from mrs.benchmarking.results import OURS, Case, Machine, PlanFacts, Quality, Results
from mrs.benchmarking.settings import Running, Size, Wanted
from mrs.benchmarking.timeline import timeline
from mrs.benchmarking.works import check_size, main_size
from mrs.benchmarking.yardstick import Waiting
from mrs.runtime.errors import BackendError, InputError
from mrs.runtime.session import Restorer

# A share of time that threads waited for processors, from which on a reader must know of it.
DISTURBED = 0.05
# Fewest samples of which a hundredth is more than the slowest.
FOR_P99 = 100


def bench(
    plan: Path,
    running: Running,
    wanted: Wanted,
    command: str,
    report: Callable[[str], None] = lambda line: None,
    check: Callable[[Machine, PlanFacts], None] = lambda machine, plan: None,
) -> Results:
    """Measure a plan on this machine.

    Args:
        plan: the file.
        running: how it is run.
        wanted: what is measured.
        command: that measures it again, for the reader.
        report: called with lines of progress.
        check: called with what is known before anything is timed; may refuse.

    Raises:
        InputError: for sizes and batches that cannot be restored here.
        PlanError, BackendError: where the plan cannot be read or run.
    """
    began = datetime.now(UTC)
    begin = time.perf_counter()
    with running.load(plan) as restorer:
        loading = time.perf_counter() - begin
        size = main_size(restorer, wanted.size, wanted.batch)
        further = _further(size, wanted)
        for each in (size, *further):
            check_size(restorer, each)
        about = facts.machine_of(restorer)
        described = facts.plan_facts(plan, restorer, size)
        check(about, described)
        # First, for here wrong folders and solvers are found.
        good = _quality(restorer, running, wanted, report)
        notes: list[str] = []
        start, repeats = fresh.measure(plan, running, size, wanted.processes, wanted.share, report)
        with beside(plan, restorer, size, wanted, notes.append, report) as rivals:
            report(f"restores of {_words(size)}")
            waiting = Waiting(restorer.threads)
            cases = list(time_group(restorer, size, 0, wanted.own_share, rivals, loading))
            disturbed = waiting.share()
        parts = timeline(restorer, size)
        notes += _notes(restorer, size, cases, disturbed, wanted)
        for group, each in enumerate(further, 1):
            report(f"restores of {_words(each)}")
            try:
                cases += time_group(restorer, each, group, wanted.share)
            except BackendError as error:
                notes.append(f"{_words(each)} left out: {error}")
        # An engine that refuses its precision says so when it first compiles.
        described = facts.plan_facts(plan, restorer, size)
    found = Results(
        date=began.isoformat(timespec="seconds").replace("+00:00", "Z"), command=command, commit=facts.commit(),
        versions=facts.versions(), machine=about, plan=described, cases=tuple(cases), start=start, repeats=repeats,
        timeline=parts, quality=_timed(good.quality, cases, described, restorer), data=good.data,
        pictures=good.pictures,
    )  # fmt: skip
    # After the restorer above is closed: its memory is theirs.
    if wanted.workers:
        report(f"throughput of {', '.join(map(str, wanted.workers))} workers")
        try:
            measured = throughputs(plan, running, size, wanted.workers, len(wanted.workers) * wanted.share)
        except BackendError as error:
            notes.append(f"throughput left out: {error}")
        else:
            found = replace(found, throughput=measured)
    return replace(found, notes=(*notes, *good.notes))


def _quality(restorer: Restorer, running: Running, wanted: Wanted, report: Callable[[str], None]) -> QualityFound:
    if wanted.quality is None:
        return QualityFound((), (), "", ())
    return measure_quality(restorer, wanted.quality, running.restorer, report=report)


def _timed(
    quality: tuple[Quality, ...], cases: Sequence[Case], plan: PlanFacts, restorer: Restorer
) -> tuple[Quality, ...]:
    """With the plan's own time from its case, of which there are more samples, where that is of the same size."""
    if (plan.batch, plan.height, plan.width) != restorer.plan.facts.picture_shape:
        return quality
    median = statistics.median(cases[0].milliseconds)
    return tuple(replace(each, milliseconds=median) if each.by == OURS else each for each in quality)


def _further(size: Size, wanted: Wanted) -> list[Size]:
    """Sizes of one picture each, then batches of the first size; none twice.

    Raises:
        InputError: for one that is asked for twice.
    """
    batch, height, width = size
    asked = [(1, *each) for each in wanted.sizes] + [(each, height, width) for each in wanted.batches]
    for name, given in (("--sizes", wanted.sizes), ("--batches", wanted.batches), ("--workers", wanted.workers)):
        if len(set(given)) != len(given):
            raise InputError(f"{name} has the same twice", hint="give each once")
    return [each for each in dict.fromkeys(asked) if each != (batch, height, width)]


def _notes(restorer: Restorer, size: Size, cases: list[Case], disturbed: float | None, wanted: Wanted) -> list[str]:
    """What a reader must know before the times."""
    notes = []
    if disturbed is not None and disturbed > DISTURBED:
        notes.append(
            f"the processors were busy: threads of this program waited {100 * disturbed:.0f} % of the time for one, so "
            "all times are too long"
        )
    if len(cases[0].milliseconds) < FOR_P99:
        notes.append(f"p99 of {len(cases[0].milliseconds)} samples is little more than the slowest of them")
    parity = cases[0].parity
    if parity is None:
        notes.append(f"no build measured how near {restorer.backend} {restorer.precision} is to float32")
    elif not parity.passes:
        notes.append(
            f"in {restorer.backend} {restorer.precision} the build's own parity fails: these times are of no use"
        )
    count, height, width = size
    tile = restorer.tile_of(height, width, count)
    if tile is not None:
        notes.append(f"{height}x{width} is restored in tiles of {tile}: the network alone is not timed")
    if not wanted.processes:
        notes.append("cold start, peak memory and what a comparison needs are left out: --processes 0")
    elif restorer.device != "cpu":
        notes.append(
            "peak memory is the host's, for the GPU's is not measured; there is no yardstick for a GPU, so that "
            "--compare has the times alone"
        )
    return notes


def _words(size: Size) -> str:
    return f"{size[1]}x{size[2]}, batch {size[0]}"
