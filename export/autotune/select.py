"""Choosing backend, precision and graph: every candidate in the whole loop, the fastest that passes parity is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mrs.export.autotune.calibrated import graph_of
from mrs.export.autotune.candidates import Candidate, candidates
from mrs.export.autotune.counted import Counted, evaluations
from mrs.export.autotune.parity import Float32, judge, restore_in_float32, run_all
from mrs.export.autotune.timing import ROUNDS, chain_of, time_interleaved
from mrs.export.autotune.variants import Variants, VariantTime, fastest_variants
from mrs.export.autotune.verdict import Verdict
from mrs.export.autotune.workload import Target, Workload
from mrs.export.graph_variant import GraphVariant
from mrs.runtime import backends
from mrs.runtime.backends import mixed
from mrs.runtime.chain import Chain, Loop
from mrs.runtime.errors import BackendError
from mrs.runtime.measure import Spread

# A judged candidate with the warm chain whose time is taken; None where it cannot run.
Tried = tuple[Candidate, Chain | None]


@dataclass(frozen=True)
class Selection:
    """The outcome.

    Attributes:
        candidates: all of them.
        chosen: one of them.
        discretisation_db: PSNR between float32 at these steps and at 100; None where they are equal.
        verdict: what was seen of float32's pictures.
        variants: what was measured of the graph variants.
    """

    candidates: tuple[Candidate, ...]
    chosen: Candidate
    discretisation_db: float | None
    verdict: Verdict
    variants: tuple[VariantTime, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """JSON values; the chosen one by its place in the list."""
        return {
            "discretisation_db": self.discretisation_db,
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "variants": [variant.to_dict() for variant in self.variants],
            "chosen": self.candidates.index(self.chosen),
        }


def select(workload: Workload, target: Target, loop: Loop) -> Selection:
    """Measure and choose.

    Args:
        workload: the network, the calibration pictures and the size.
        target: what may be chosen.
        loop: the plan's solver.

    Raises:
        BackendError: where nothing can run, or nothing that was asked for.
    """
    exact = restore_in_float32(workload, target, loop)
    entries = candidates(target)
    variants, variant_times = fastest_variants(entries, workload, target, loop)
    attempt = partial(_attempt, workload, target, loop, exact)
    most = len(loop.table.rows) if target.precision == "auto" else 0
    tried = [each for entry in entries for each in _until_one_passes(entry, variants, attempt, most)]
    ran = {index: (chain, workload.picture) for index, (_, chain) in enumerate(tried) if chain is not None}
    target.report(f"latency of {len(ran)} candidates at {workload.shape[1]}x{workload.shape[2]}")
    measured = [candidate for candidate, _ in tried]
    counted = Counted("latency", ROUNDS[0] * evaluations([loop], len(ran)), target.report)
    for index, times in time_interleaved(ran, before=counted).items():
        spread = Spread.of(times)
        measured[index] = replace(measured[index], latency_ms=spread.median, quartiles_ms=(spread.q1, spread.q3))
    chosen = _fastest(measured, target.precision)
    if not chosen.passed:
        target.report(f"{chosen.backend} {chosen.precision} was asked for, but fails parity: {chosen.reason}")
    return Selection(tuple(measured), chosen, exact.discretisation_db, exact.verdict, tuple(variant_times))


def _until_one_passes(
    entry: Candidate, variants: Variants, attempt: Callable[[Candidate], Tried], most: int
) -> Iterator[Tried]:
    """Attempts with one engine until one passes or cannot run: its fastest graph, then one that does not cancel, then
    both again with more and more evaluations in float32, where a restore of `most` evaluations allows any.
    """
    backend, precision = backends.get(entry.backend), entry.precision
    while True:
        for variant in variants.to_try(backend, precision):
            judged, chain = attempt(replace(entry, precision=precision, variant=str(variant)))
            yield judged, chain
            if judged.passed or chain is None:
                return
        longer = mixed.longer(precision, most)
        if longer is None or not mixed.runs(backend, longer):
            return
        precision = longer


def _attempt(workload: Workload, target: Target, loop: Loop, exact: Float32, candidate: Candidate) -> Tried:
    """Judge a candidate, and make the chain whose time is taken; no chain where it cannot run."""
    backend, precision = backends.get(candidate.backend), candidate.precision
    target.report(f"parity of {candidate.backend} {precision}, {candidate.variant}")
    try:
        graph = graph_of(workload.graphs, GraphVariant.parse(candidate.variant), precision)
        # Of the calibration pictures, and once of the size that is timed.
        total = evaluations([loop], len(workload.pairs) + 1)
        counted = Counted(f"parity of {candidate.backend} {precision}", total, target.report)
        outputs = run_all(backend, graph, precision, loop, workload.pairs, target.settings, counted)
        judged = judge(candidate, outputs, exact)
        chain = chain_of(backend, graph, precision, loop, workload.picture.shape, target.settings)
        chain.restore_into(workload.picture, np.empty_like(workload.picture), seed=0, before=counted)
    except BackendError as error:
        return replace(candidate, reason=str(error)), None
    return judged, chain


def _fastest(measured: Sequence[Candidate], precision: str) -> Candidate:
    ran = [candidate for candidate in measured if not math.isnan(candidate.latency_ms)]
    # A precision asked for by name is the user's decision; the plan keeps the figures.
    allowed = [candidate for candidate in ran if candidate.passed] or (ran if precision != "auto" else [])
    if not allowed:
        raise BackendError(
            "no candidate passed: " + "; ".join(f"{c.backend} {c.precision}: {c.reason}" for c in measured)
        )
    return min(allowed, key=lambda candidate: candidate.latency_ms)
