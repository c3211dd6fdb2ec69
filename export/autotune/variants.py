"""Choosing the graph variant: each that an engine may run fastest, measured in the loop's first evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from mrs.export.autotune.calibrated import graph_of
from mrs.export.autotune.candidates import Candidate
from mrs.export.autotune.counted import Counted, evaluations
from mrs.export.autotune.timing import chain_of, time_interleaved
from mrs.export.autotune.workload import Target, Workload
from mrs.export.graph_variant import GraphVariant, distinct, first_variant
from mrs.runtime import backends
from mrs.runtime.backends import Backend, mixed
from mrs.runtime.chain import Loop
from mrs.runtime.errors import BackendError
from mrs.runtime.measure import Spread

# Variants differ in the evaluations alone, which are all alike: some of them tell as much as all.
EVALUATIONS = 2
# Rounds of timing of one engine's variants and the seconds for them, as in timing.py. Variants that are near each other
# differ by a few per cent, which is not worth a longer build.
ROUNDS = (3, 9)
SECONDS = 3.0


@dataclass(frozen=True)
class VariantTime:
    """One variant on one engine.

    Attributes:
        backend, precision: of the engine.
        variant: the graph variant, such as `length-weights`.
        latency_ms: median of a restore at the plan's shape that ends after `EVALUATIONS`, and its quartiles.
    """

    backend: str
    precision: str
    variant: str
    latency_ms: float
    quartiles_ms: tuple[float, float]

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        return {**asdict(self), "quartiles_ms": list(self.quartiles_ms)}


class Variants:
    """Which variant each engine runs fastest.

    Args:
        ranked: the shapes of an engine by (backend, precision), the fastest first; its first variant alone where it is
            not in there.
    """

    def __init__(self, ranked: Mapping[tuple[str, str], Sequence[GraphVariant]] | None = None) -> None:
        self._ranked = ranked or {}

    def to_try(self, backend: Backend, precision: str) -> list[GraphVariant]:
        """The fastest, and where that cancels and may fail parity, the fastest that does not.

        Two precisions in one restore have one graph, that of the half precision.
        """
        shapes = self._ranked.get((backend.name, mixed.split(precision)[0]), [first_variant(backend)])
        sound = next((shape for shape in shapes if not shape.cancels), shapes[0])
        return list(dict.fromkeys([shapes[0], sound]))


def fastest_variants(
    entries: Iterable[Candidate], workload: Workload, target: Target, loop: Loop
) -> tuple[Variants, list[VariantTime]]:
    """Measure the variants of each engine, one engine after the other, its variants interleaved.

    Args:
        entries: engines and precisions; those of the same half precision are measured once.
        workload, target: as of `select`.
        loop: the plan's solver.

    Returns:
        What to use, and what was measured. An engine with one variant, or one that refuses all, keeps its first.
    """
    ranked: dict[tuple[str, str], list[GraphVariant]] = {}
    measured: list[VariantTime] = []
    short = replace(loop, table=loop.table.first(EVALUATIONS), modulation=loop.modulation[:EVALUATIONS])
    for name, precision in dict.fromkeys((entry.backend, mixed.split(entry.precision)[0]) for entry in entries):
        backend = backends.get(name)
        variants = distinct(backend, workload.graphs)
        if len(variants) < 2:
            continue
        target.report(f"graph variants of {name} {precision}")
        chains = {}
        counted = Counted(
            f"graph variants of {name} {precision}",
            evaluations([short], len(variants) * (1 + ROUNDS[0])),
            target.report,
        )
        for variant in variants:
            try:
                graph = graph_of(workload.graphs, variant, precision)
                chain = chain_of(backend, graph, precision, short, workload.picture.shape, target.settings)
                chain.restore_into(workload.picture, np.empty_like(workload.picture), seed=0, before=counted)
            except BackendError as error:
                target.report(f"{name} {precision} does not run {variant}: {error}")
            else:
                chains[variant] = (chain, workload.picture)
        times = {
            variant: Spread.of(spent) for variant, spent in time_interleaved(chains, ROUNDS, SECONDS, counted).items()
        }
        measured += [
            VariantTime(name, precision, str(variant), each.median, (each.q1, each.q3))
            for variant, each in times.items()
        ]
        if times:
            ranked[name, precision] = sorted(times, key=lambda variant: times[variant].median)
    return Variants(ranked), measured
