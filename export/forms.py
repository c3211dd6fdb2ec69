"""Choosing the graph shape: every form that an engine may run fastest, measured in the loop's first evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.export.graph import GraphShape
from mrs.export.quantisation import graph_of
from mrs.export.timing import chain_of, quartiles, repeated, time_interleaved
from mrs.runtime.backends import Backend, mixed
from mrs.runtime.chains import Loop
from mrs.runtime.errors import BackendError

# Forms differ in the evaluations alone, which are all alike: some of them tell as much as all.
EVALUATIONS = 2
# Rounds of timing of one engine's forms and the seconds for them, as in timing.py. Forms that are near each other
# differ by a few per cent, which is not worth a longer build.
ROUNDS = (3, 9)
SECONDS = 3.0


@dataclass(frozen=True)
class FormTime:
    """One form on one engine.

    Attributes:
        backend, precision: of the engine.
        form: the graph shape, such as `length-weights`.
        latency_ms: median of a restore at the plan's shape that ends after `EVALUATIONS`, and its quartiles.
    """

    backend: str
    precision: str
    form: str
    latency_ms: float
    quartiles_ms: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "quartiles_ms": list(self.quartiles_ms)}


class Forms:
    """Which form each engine runs fastest.

    Args:
        ranked: the shapes of an engine by (backend, precision), the fastest first; its first form alone where it is
            not in there.
    """

    def __init__(self, ranked: Mapping[tuple[str, str], Sequence[GraphShape]] | None = None) -> None:
        self._ranked = ranked or {}

    def fastest(self, backend: Backend, precision: str) -> GraphShape:
        """What an engine gets; two precisions in one restore have one graph, that of the half precision."""
        return self._of(backend, precision)[0]

    def sound(self, backend: Backend, precision: str) -> GraphShape | None:
        """The fastest that does not cancel, for where the fastest does and fails parity; None for all others."""
        shapes = self._of(backend, precision)
        return next((shape for shape in shapes if not shape.cancels), None) if shapes[0].cancels else None

    def _of(self, backend: Backend, precision: str) -> Sequence[GraphShape]:
        return self._ranked.get((backend.name, mixed.split(precision)[0]), [first(backend)])


def first(backend: Backend) -> GraphShape:
    """The form of an engine where nothing is measured."""
    return GraphShape(*backend.forms[0])


def shapes_of(backends: Iterable[Backend]) -> set[GraphShape]:
    """Every shape that these engines may run."""
    return {GraphShape(*form) for backend in backends for form in backend.forms}


def fastest_forms(
    engines: Iterable[tuple[Backend, str]],
    graphs: Mapping[GraphShape, bytes],
    loop: Loop,
    shape: tuple[int, int, int],
    threads: int,
    picture: NDArray[np.uint8],
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Forms, list[FormTime]]:
    """Measure the forms of each engine, one engine after the other, its forms by turns.

    Args:
        engines: backends and precisions, one precision each.
        graphs: the network in every shape.
        loop: the plan's solver.
        shape: (N, H, W) of the restores.
        threads: most threads to use.
        picture: (H, W, C) uint8, repeated to that shape.
        report: called with a line of progress for each engine.

    Returns:
        What to use, and what was measured. An engine with one form, or one that refuses its forms, keeps its first.
    """
    ranked: dict[tuple[str, str], list[GraphShape]] = {}
    measured: list[FormTime] = []
    large = repeated(picture, shape)
    short = replace(loop, rows=loop.rows[:EVALUATIONS], modulation=loop.modulation[:EVALUATIONS])
    for backend, precision in engines:
        if len(backend.forms) < 2:
            continue
        report(f"graph shapes of {backend.name} {precision}")
        chains = {}
        for form in (GraphShape(*pair) for pair in backend.forms):
            try:
                graph = graph_of(graphs, form, precision)
                chain = chain_of(backend, graph, precision, short, (*shape, picture.shape[-1]), threads)
                chain.restore_into(large, np.empty_like(large), seed=0)
            except BackendError as error:
                report(f"{backend.name} {precision} does not run {form}: {error}")
            else:
                chains[form] = (chain, large)
        times = {
            form: quartiles(spent) for form, spent in time_interleaved(chains, rounds=ROUNDS, seconds=SECONDS).items()
        }
        for form, (low, median, high) in times.items():
            measured.append(FormTime(backend.name, precision, str(form), median, (low, high)))
        if times:
            ranked[backend.name, precision] = sorted(times, key=lambda form: times[form][1])
    return Forms(ranked), measured
