"""How many evaluations fit into a given time, and how good each number of them is. Never assume that more is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mrs.export.autotune.calibrated import graph_of
from mrs.export.autotune.candidates import Candidate, candidates
from mrs.export.autotune.counted import Counted, evaluations
from mrs.export.autotune.parity import run_all
from mrs.export.autotune.select import Selection
from mrs.export.autotune.timing import chain_of, time_interleaved
from mrs.export.autotune.workload import Target, Workload
from mrs.export.graph_variant import first_variant
from mrs.runtime import backends
from mrs.runtime.chain import Loop
from mrs.runtime.errors import BackendError
from mrs.runtime.measure import Spread
from mrs.runtime.psnr import PictureArray, mean_psnr

# The numbers of evaluations that are tried.
LADDER = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20)


@dataclass(frozen=True)
class Fit:
    """One number of evaluations.

    Attributes:
        steps: how many.
        latency_ms: of a whole restore, from a straight line through two measurements.
        quality_db: PSNR over the calibration pictures, see `of_truth`; None where they are equal.
        of_truth: whether to the clean pictures; otherwise to the float32 solution in 100 steps.
    """

    steps: int
    latency_ms: float
    quality_db: float | None
    of_truth: bool

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)


def fitting(workload: Workload, target: Target, loops: Mapping[int, Loop], milliseconds: float) -> list[Fit]:
    """The numbers of evaluations whose restore takes at most so long, the best first.

    Args:
        workload, target: as of `select`.
        loops: the solver at several numbers of evaluations, at least two.
        milliseconds: for a whole restore.

    Raises:
        BackendError: where nothing runs, or not even the fewest evaluations fit.
    """
    fastest, line = _fastest(workload, target, loops)
    times = {steps: line[0] + line[1] * steps for steps in loops}
    allowed = [steps for steps in sorted(loops) if times[steps] <= milliseconds]
    if not allowed:
        fewest = min(loops)
        raise BackendError(
            f"a restore in {fewest} evaluation{'s' * (fewest > 1)} takes {times[fewest]:.1f} ms here, "
            f"more than {milliseconds:g} ms",
            hint="allow more time, or build for a smaller size",
        )
    of_truth = any(pair.clean is not None for pair in workload.pairs)
    judged = [pair for pair in workload.pairs if pair.clean is not None] if of_truth else list(workload.pairs)
    engine = backends.get(fastest.backend)
    variant = first_variant(engine)
    graph = graph_of(workload.graphs, variant, fastest.precision)
    wanted: list[PictureArray]
    if of_truth:
        wanted = [np.asarray(pair.clean) / np.float32(255) for pair in judged]
    else:
        target.report(f"100 steps on {engine.name}, to which fewer are compared")
        reference = workload.reference
        counted = Counted("reference", evaluations([reference], len(judged)), target.report)
        wanted = [*run_all(engine, workload.graphs[variant], "fp32", reference, judged, target.settings, counted)]
    fits = []
    for steps in allowed:
        target.report(f"quality of {steps} evaluations")
        outputs = run_all(engine, graph, fastest.precision, loops[steps], judged, target.settings)
        fits.append(Fit(steps, times[steps], mean_psnr(outputs, wanted), of_truth))
    # Of equal quality the faster one; equal pictures have no finite PSNR.
    return sorted(fits, key=lambda fit: (-(float("inf") if fit.quality_db is None else fit.quality_db), fit.steps))


def _fastest(workload: Workload, target: Target, loops: Mapping[int, Loop]) -> tuple[Candidate, tuple[float, float]]:
    """The candidate with the shortest evaluation, and its milliseconds as of `_line`."""
    lines: dict[Candidate, tuple[float, float]] = {}
    for candidate in candidates(target):
        target.report(f"time of an evaluation on {candidate.backend} {candidate.precision}")
        try:
            lines[candidate] = _line(candidate, workload, target, loops)
        except BackendError as error:
            target.report(f"{candidate.backend} {candidate.precision} is left out: {error}")
    if not lines:
        raise BackendError("no backend could be timed")
    return min(lines.items(), key=lambda item: item[1][1])


def _line(candidate: Candidate, workload: Workload, target: Target, loops: Mapping[int, Loop]) -> tuple[float, float]:
    """Milliseconds of a restore without evaluations, and of each evaluation."""
    engine = backends.get(candidate.backend)
    graph = graph_of(workload.graphs, first_variant(engine), candidate.precision)
    few, many = min(loops), sorted(loops)[min(3, len(loops) - 1)]
    picture = workload.picture
    chains = {}
    for steps in (few, many):
        chain = chain_of(engine, graph, candidate.precision, loops[steps], picture.shape, target.settings)
        chain.restore_into(picture, np.empty_like(picture), seed=0)
        chains[steps] = chain, picture
    times = time_interleaved(chains)
    low, high = (Spread.of(times[steps]).median for steps in (few, many))
    each = max(0.0, (high - low) / (many - few))
    return max(0.0, low - few * each), each


def within(
    milliseconds: float, fits: Sequence[Fit], choose: Callable[[int], Selection], report: Callable[[str], None]
) -> tuple[int, Selection]:
    """The best number of evaluations whose chosen engine really keeps the time, and that engine.

    Args:
        milliseconds: for a whole restore.
        fits: from `fitting`.
        choose: measures all engines at a number of evaluations; what passes parity may be slower than what was timed.
        report: called with a line of progress.

    Raises:
        BackendError: where none does.
    """
    measured = []
    # Of those that are worse and slower than one that took too long, none can be needed.
    most = float("inf")
    for fit in fits:
        if fit.steps >= most:
            continue
        found = choose(fit.steps)
        if found.chosen.latency_ms <= milliseconds:
            return fit.steps, found
        measured.append(f"{fit.steps} take {found.chosen.latency_ms:.1f} ms on {found.chosen.backend}")
        report(f"{measured[-1]}, more than {milliseconds:g} ms")
        most = fit.steps
    raise BackendError(
        f"no number of evaluations keeps {milliseconds:g} ms: {'; '.join(measured)}",
        hint="allow more time, or build for a smaller size",
    )
