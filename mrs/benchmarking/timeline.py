"""Where the time of restores goes: the parts of one of them, and a trace of several for a viewer of traces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

from mrs._version import __version__
from mrs.benchmarking.results import Span
from mrs.benchmarking.settings import Running, Size
from mrs.benchmarking.works import Work, restoring
from mrs.kernels.threads import Task, Threads
from mrs.runtime.session import Restorer
from mrs.runtime.system.atomic import replacing
from mrs.runtime.tracing import Part, Recorder, recording

# Restores that are recorded, of which the one in the middle is shown.
RECORDED = 5
# A trace: callers beyond the workers, so that waits are seen, and calls of each.
CALLERS, CALLS = 1, 2
# Seconds that a caller waits for the others' threads.
PATIENCE = 60.0
WHOLE = "restore"


def timeline(restorer: Restorer, size: Size) -> tuple[Span, ...]:
    """The parts of one restore, of several that are recorded the one with the median time."""
    work = restoring(restorer, size)
    work()
    recorded = []
    for _ in range(RECORDED):
        with recording() as recorder:
            work()
        recorded.append(recorder.parts)
    return spans(_middle(recorded))


def _middle(recorded: Sequence[Sequence[Part]]) -> Sequence[Part]:
    return sorted(recorded, key=lambda parts: _whole(parts).end - _whole(parts).begin)[len(recorded) // 2]


def _whole(parts: Sequence[Part]) -> Part:
    return next(part for part in parts if part.name == WHOLE)


def spans(parts: Sequence[Part]) -> tuple[Span, ...]:
    """The parts of one call, in the order in which they began, since its beginning."""
    begin = _whole(parts).begin
    return tuple(
        Span(
            name=part.name, start_ms=1e3 * (part.begin - begin), milliseconds=1e3 * (part.end - part.begin),
            lane="call" if part.worker is None else f"worker {part.worker}", step=part.step,
        )
        for part in sorted(parts, key=lambda part: (part.begin, -part.end))
        if part.name != WHOLE
    )  # fmt: skip


def trace(plan: Path, running: Running, size: Size, workers: int) -> list[Part]:
    """Restores by more callers than there are workers, recorded.

    Args:
        plan: the file.
        running: how it is run.
        size: of the pictures.
        workers: of the restorer.
    """
    with running.load(plan, workers) as restorer:
        callers = workers + CALLERS
        works = [restoring(restorer, size) for _ in range(callers)]
        restorer.warm_up(size[1] // restorer.upscale, size[2] // restorer.upscale, size[0])
        # A thread for each, which begin together: one pool would let whoever is done early call for another, too.
        threads, gate = [Threads(1) for _ in works], SimpleQueue[None]()
        with recording(Recorder()) as recorder:
            tasks = [Task(_repeat, work, gate) for work in works]
            for thread, task in zip(threads, tasks, strict=True):
                thread.submit(task)
            for _ in tasks:
                gate.put(None)
            for task in tasks:
                task.wait()
        for task in tasks:
            task.result()
    return recorder.parts


def _repeat(work: Work, gate: SimpleQueue[None]) -> None:
    gate.get(timeout=PATIENCE)
    for _ in range(CALLS):
        work()


def save_trace(path: Path, parts: Sequence[Part], what: str) -> None:
    """Write parts as JSON that Perfetto (https://ui.perfetto.dev) and Chrome's about:tracing read.

    Callers are threads of one group; workers are groups of their own, which show the thread that is at work for each.

    Args:
        path: the file, which appears whole.
        parts: what was recorded.
        what: of what, in words.

    Raises:
        InputError: where it cannot be written.
    """
    about = {"made_by": f"mrs-trt {__version__}", "of": what}
    content = {"traceEvents": events(parts), "displayTimeUnit": "ms", "otherData": about}
    with replacing(path, overwrite=True) as file:
        file.write(json.dumps(content).encode())


def events(parts: Sequence[Part]) -> list[dict[str, object]]:
    """Events of the trace event format: complete ones, in microseconds, and the names of groups and threads."""
    begin = min((part.begin for part in parts), default=0.0)
    callers = {thread: number for number, thread in enumerate(dict.fromkeys(part.thread for part in parts), 1)}
    lanes = sorted({(part.worker or 0, callers[part.thread]) for part in parts})
    named: list[dict[str, object]] = [
        {"ph": "M", "name": "process_name", "pid": _group(worker),
         "args": {"name": f"worker {worker}" if worker else "callers"}}
        for worker in sorted({worker for worker, _ in lanes})
    ]  # fmt: skip
    named += [
        {"ph": "M", "name": "thread_name", "pid": _group(worker), "tid": _lane(worker, caller),
         "args": {"name": f"caller {caller}"}}
        for worker, caller in lanes
    ]  # fmt: skip
    return named + [
        {"ph": "X", "name": part.name, "cat": "mrs", "pid": _group(part.worker),
         "tid": _lane(part.worker, callers[part.thread]), "ts": round(1e6 * (part.begin - begin), 3),
         "dur": round(1e6 * (part.end - part.begin), 3),
         "args": {} if part.step is None else {"evaluation": part.step}}
        for part in sorted(parts, key=lambda part: part.begin)
    ]  # fmt: skip


def _group(worker: int | None) -> int:
    """Number of a group: 0 is an idle machine to a viewer."""
    return (worker or 0) + 1


def _lane(worker: int | None, caller: int) -> int:
    """Number of a thread in a group: a viewer knows a thread by its number in all groups."""
    return 1000 * _group(worker) + caller
