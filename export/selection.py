"""Choosing backend and precision: measure every candidate in the whole loop, keep the fastest that passes parity.

Parity: rounding must hide under the solver's own discretisation error. Over the calibration pictures, the PSNR
between a candidate and float32 at the same steps and noise must be at least `MARGIN` above the PSNR between float32
at these steps and float32 at 100 steps, or at least `ENOUGH`; and where the clean pictures are known, the PSNR to
them may fall by at most `TRUTH_LOSS`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.export import quantisation
from mrs.export.forms import FormTime, fastest_forms, first
from mrs.export.graph import GraphShape
from mrs.export.quantisation import graph_of
from mrs.export.timing import chain_of, quartiles, repeated, time_interleaved
from mrs.export.verdict import Verdict, verdict_of
from mrs.runtime import backends
from mrs.runtime.backends import Backend, mixed
from mrs.runtime.chains import Loop
from mrs.runtime.errors import BackendError, InputError
from mrs.runtime.psnr import mean_psnr

MARGIN = 6.0
ENOUGH = 45.0
TRUTH_LOSS = 0.05

F32 = NDArray[np.float32]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Pair:
    """A calibration picture, (H, W, C) uint8, and its clean original where it is known."""

    degraded: NDArray[np.uint8]
    clean: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Candidate:
    """One backend at one precision, and what was measured of it.

    Attributes:
        form: the graph shape that it ran, see `GraphShape`.
        latency_ms: median of a whole restore at the plan's shape, and its quartiles.
        parity_db: PSNR to float32 at the same steps and noise; None where they are equal.
        truth_db: PSNR to the clean pictures, less float32's; None where these are unknown.
        passed: whether it may be chosen.
        reason: why not, or which part of the rule let it pass.
    """

    backend: str
    precision: str
    latency_ms: float = math.nan
    quartiles_ms: tuple[float, float] = (math.nan, math.nan)
    parity_db: float | None = None
    truth_db: float | None = None
    passed: bool = False
    reason: str = ""
    form: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON values; what was not measured is null."""
        return {key: _json(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Selection:
    """The outcome.

    Attributes:
        candidates: all of them.
        chosen: one of them.
        discretisation_db: PSNR between float32 at these steps and at 100; None where they are equal.
        verdict: what was seen of float32's pictures.
        forms: what was measured of the graph shapes.
    """

    candidates: tuple[Candidate, ...]
    chosen: Candidate
    discretisation_db: float | None
    verdict: Verdict
    forms: tuple[FormTime, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the chosen one by its place in the list."""
        return {
            "discretisation_db": self.discretisation_db,
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "forms": [form.to_dict() for form in self.forms],
            "chosen": self.candidates.index(self.chosen),
        }


def select(
    graphs: Mapping[GraphShape, bytes],
    loop: Loop,
    reference: Loop,
    pairs: Sequence[Pair],
    shape: tuple[int, int, int],
    threads: int,
    backend: str = "auto",
    precision: str = "auto",
    report: Report = lambda line: None,
    device: str = "auto",
) -> Selection:
    """Measure and choose.

    Args:
        graphs: the network in every shape that a backend may ask for; `CalibratedGraphs` for int8 and fp8.
        loop: the plan's solver.
        reference: the same solver at 100 steps.
        pairs: calibration pictures.
        shape: (N, H, W) at which latency is measured.
        threads: most threads to use.
        backend: a backend's name, or `auto` for all that run here.
        precision: `fp32`, `bf16`, `fp16`, `int8`, `fp8`, `bf16-after-2` (two evaluations in float32, then bfloat16),
            or `auto` for all that the device has, and where one fails parity, with more and more evaluations in float32
            before it.
            One that is asked for by name is used even where it fails parity, and says so.
        report: called with a line of progress now and then.
        device: `cpu`, `cuda`, or `auto` for the backends of both.

    Raises:
        BackendError: where nothing can run, or nothing that was asked for.
    """
    exact = float32_backend(backend, device)
    report(f"float32 reference on {exact.name}, 100 steps")
    graph = graphs[first(exact)]
    at_steps = run_all(exact, graph, "fp32", loop, pairs, threads)
    at_100 = run_all(exact, graph, "fp32", reference, pairs, threads)
    discretisation = mean_psnr(at_steps, at_100)
    verdict = verdict_of(
        [pair.degraded / np.float32(255) for pair in pairs],
        [pair.clean / np.float32(255) for pair in pairs if pair.clean is not None],
        at_steps, at_100,
    )  # fmt: skip

    measured: list[Candidate] = []
    chains: dict[int, tuple[Any, NDArray[np.uint8]]] = {}
    waiting = deque(candidates(backend, precision, device))
    engines = dict.fromkeys((entry.backend, mixed.split(entry.precision)[0]) for entry in waiting)
    forms, form_times = fastest_forms(
        ((backends.get(name), one) for name, one in engines), graphs, loop, shape, threads, pairs[0].degraded, report
    )
    while waiting:
        candidate = waiting.popleft()
        engine = backends.get(candidate.backend)
        form = GraphShape.parse(candidate.form) if candidate.form else forms.fastest(engine, candidate.precision)
        candidate = replace(candidate, form=str(form))
        report(f"parity of {candidate.backend} {candidate.precision}, {form}")
        try:
            graph = graph_of(graphs, form, candidate.precision)
            outputs = run_all(engine, graph, candidate.precision, loop, pairs, threads)
            judged = judge(candidate, at_steps, outputs, discretisation, pairs)
            chain = chain_of(engine, graph, candidate.precision, loop, (*shape, 3), threads)
            picture = repeated(pairs[0].degraded, shape)
            chain.restore_into(picture, np.empty_like(picture), seed=0)
            chains[len(measured)] = (chain, picture)
        except BackendError as error:
            judged = replace(candidate, reason=str(error))
        else:
            sound = forms.sound(engine, candidate.precision) if form.cancels else None
            more = mixed.longer(candidate.precision, len(loop.rows)) if precision == "auto" else None
            if not judged.passed and sound is not None:
                waiting.appendleft(Candidate(engine.name, candidate.precision, form=str(sound)))
            elif not judged.passed and more is not None and mixed.runs(engine, more):
                waiting.appendleft(Candidate(engine.name, more))
        measured.append(judged)
    report(f"latency of {len(chains)} candidates at {shape[1]}x{shape[2]}")
    for index, times in time_interleaved(chains).items():
        low, median, high = quartiles(times)
        measured[index] = replace(measured[index], latency_ms=median, quartiles_ms=(low, high))
    chosen = _fastest(measured, precision)
    if not chosen.passed:
        report(f"{chosen.backend} {chosen.precision} was asked for, but fails parity: {chosen.reason}")
    return Selection(tuple(measured), chosen, discretisation, verdict, tuple(form_times))


def check_choice(backend: str, precision: str, device: str = "auto") -> None:
    """Refuse what `select` could not choose from.

    Raises:
        BackendError: where nothing can run, or nothing that was asked for.
        InputError: for a backend that runs on another device than the one that was asked for.
    """
    if backend != "auto" and device not in ("auto", backends.get(backend).device):
        raise InputError(
            f"backend {backend} runs on {backends.get(backend).device}, not on {device}",
            hint="leave out --backend or --device",
        )
    float32_backend(backend, device)
    candidates(backend, precision, device)


def judge(
    candidate: Candidate,
    exact: Sequence[F32],
    outputs: Sequence[F32],
    discretisation: float | None,
    pairs: Sequence[Pair],
) -> Candidate:
    """Apply the parity rule to a candidate's outputs, beside float32's."""
    if not all(np.isfinite(output).all() for output in outputs):
        return replace(candidate, reason="gave infinities or NaN")
    parity = mean_psnr(outputs, exact)
    known = [i for i, pair in enumerate(pairs) if pair.clean is not None]
    truth = None
    if known:
        clean = [np.asarray(pairs[i].clean) / np.float32(255) for i in known]
        with_it, without = (mean_psnr([of[i] for i in known], clean) for of in (outputs, exact))
        if with_it is not None and without is not None:
            truth = with_it - without
    candidate = replace(candidate, parity_db=parity, truth_db=truth)
    needed = ENOUGH if discretisation is None else min(ENOUGH, discretisation + MARGIN)
    if parity is not None and parity < needed:
        return replace(candidate, reason=f"parity {parity:.1f} dB is below {needed:.1f} dB")
    if truth is not None and truth < -TRUTH_LOSS:
        return replace(candidate, reason=f"loses {-truth:.2f} dB to the clean pictures")
    how = "equals float32" if parity is None else f"parity {parity:.1f} dB, {needed:.1f} dB needed"
    return replace(candidate, passed=True, reason=how)


def candidates(backend: str, precision: str, device: str) -> list[Candidate]:
    """What there is to choose from, not measured yet; arguments as of `select`.

    Raises:
        BackendError: where there is nothing, or int8 or fp8 is asked for and no graph can be made for it.
    """
    asked = _available(device) if backend == "auto" else [backends.get(backend)]
    found = [
        Candidate(entry.name, one)
        for entry in asked
        if entry.missing() is None
        for one in (entry.precisions() if precision == "auto" else (precision,))
        if mixed.runs(entry, one)
    ]
    if not found:
        reasons = [f"{entry.name}: {entry.missing() or 'no ' + precision + ' here'}" for entry in asked]
        raise BackendError(
            f"nothing can run {precision} here" if precision != "auto" else "no backend can run here",
            hint="; ".join(reasons) or "pip install openvino",
        )
    reason = quantisation.missing(precision)
    if reason is not None:
        raise BackendError(reason)
    return [entry for entry in found if quantisation.missing(entry.precision) is None]


def _available(device: str) -> list[Backend]:
    return [entry for entry in backends.available() if device in ("auto", entry.device)]


def float32_backend(asked: str, device: str) -> Backend:
    """What all others are compared to; arguments as of `select`.

    Raises:
        BackendError: where nothing runs.
    """
    if asked != "auto":
        backend = backends.get(asked)
        reason = backend.missing()
        if reason is not None:
            raise BackendError(f"backend {asked} cannot run here: {reason}")
        return backend
    usable = _available(device)
    if not usable:
        reasons = [f"{e.name}: {e.missing()}" for e in backends.BACKENDS.values() if device in ("auto", e.device)]
        raise BackendError(
            "no backend can run here" if device == "auto" else f"no backend can run on {device} here",
            hint="; ".join(reasons),
        )
    return usable[0]


def _fastest(measured: Sequence[Candidate], precision: str) -> Candidate:
    ran = [candidate for candidate in measured if not math.isnan(candidate.latency_ms)]
    # A precision asked for by name is the user's decision; the plan keeps the figures.
    allowed = [candidate for candidate in ran if candidate.passed] or (ran if precision != "auto" else [])
    if not allowed:
        raise BackendError(
            "no candidate passed: " + "; ".join(f"{c.backend} {c.precision}: {c.reason}" for c in measured)
        )
    return min(allowed, key=lambda candidate: candidate.latency_ms)


def run_all(
    backend: Backend, graph: bytes, precision: str, loop: Loop, pairs: Sequence[Pair], threads: int
) -> list[F32]:
    """All calibration pictures restored, (H, W, C) in [0, 1] each; those of one size by one engine."""
    chains: dict[tuple[int, ...], Any] = {}
    restored = []
    for pair in pairs:
        picture = pair.degraded[None]
        if picture.shape not in chains:
            # Launched once: a capture would cost more than it saves.
            kinds = ("uint8", "float32")
            chains[picture.shape] = chain_of(
                backend, graph, precision, loop, picture.shape, threads, kinds, graphs=False
            )
        out = np.empty(picture.shape, np.float32)
        chains[picture.shape].restore_into(picture, out, seed=0)
        restored.append(out[0])
    return restored


def _json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [_json(entry) for entry in value] if isinstance(value, tuple) else value
