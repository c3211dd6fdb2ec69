"""The rule of parity: rounding must hide under the solver's own discretisation error.

Over the calibration pictures, the PSNR between a candidate and float32 at the same steps and noise must be at least
`MARGIN` above the PSNR between float32 at these steps and float32 at many steps, or at least `ENOUGH`; and where the
clean pictures are known, the PSNR to them may fall by at most `TRUTH_LOSS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mrs.export.autotune.candidates import Candidate, float32_backend
from mrs.export.autotune.counted import Counted, evaluations
from mrs.export.autotune.timing import chain_of
from mrs.export.autotune.verdict import Verdict, verdict_of
from mrs.export.autotune.workload import Pair, Target, Workload
from mrs.export.graph_variant import first_variant
from mrs.runtime.backends import Backend
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Chain, Loop
from mrs.runtime.psnr import mean_psnr

MARGIN = 6.0
ENOUGH = 45.0
TRUTH_LOSS = 0.05

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Float32:
    """The calibration pictures restored in float32, to which candidates are held.

    Attributes:
        pairs: the pictures.
        outputs: restored by the solver, (H, W, C) in [0, 1] each.
        discretisation_db: PSNR between these and the reference in many steps; None where they are equal.
        verdict: whether the solver restores at all.
    """

    pairs: Sequence[Pair]
    outputs: Sequence[F32]
    discretisation_db: float | None
    verdict: Verdict


def restore_in_float32(workload: Workload, target: Target, loop: Loop) -> Float32:
    """Restore with the solver and with the reference.

    Raises:
        BackendError: where nothing runs.
    """
    engine = float32_backend(target)
    target.report(f"float32 reference on {engine.name}, 100 steps")
    graph = workload.graphs[first_variant(engine)]
    both = loop, workload.reference
    counted = Counted("float32 reference", evaluations(both, len(workload.pairs)), target.report)
    few, many = (run_all(engine, graph, "fp32", one, workload.pairs, target.settings, counted) for one in both)
    clean = [pair.clean / np.float32(255) for pair in workload.pairs if pair.clean is not None]
    verdict = verdict_of([pair.degraded / np.float32(255) for pair in workload.pairs], clean, few, many)
    return Float32(workload.pairs, few, mean_psnr(few, many), verdict)


def judge(candidate: Candidate, outputs: Sequence[F32], exact: Float32) -> Candidate:
    """Apply the rule to a candidate's outputs."""
    if not all(np.isfinite(output).all() for output in outputs):
        return replace(candidate, reason="gave infinities or NaN")
    parity = mean_psnr(outputs, exact.outputs)
    known = [i for i, pair in enumerate(exact.pairs) if pair.clean is not None]
    truth = None
    if known:
        clean = [np.asarray(exact.pairs[i].clean) / np.float32(255) for i in known]
        with_it, without = (mean_psnr([of[i] for i in known], clean) for of in (outputs, exact.outputs))
        if with_it is not None and without is not None:
            truth = with_it - without
    candidate = replace(candidate, parity_db=parity, truth_db=truth)
    needed = ENOUGH if exact.discretisation_db is None else min(ENOUGH, exact.discretisation_db + MARGIN)
    if parity is not None and parity < needed:
        return replace(candidate, reason=f"parity {parity:.1f} dB is below {needed:.1f} dB")
    if truth is not None and truth < -TRUTH_LOSS:
        return replace(candidate, reason=f"loses {-truth:.2f} dB to the clean pictures")
    how = "equals float32" if parity is None else f"parity {parity:.1f} dB, {needed:.1f} dB needed"
    return replace(candidate, passed=True, reason=how)


def run_all(
    backend: Backend,
    graph: bytes,
    precision: str,
    loop: Loop,
    pairs: Sequence[Pair],
    settings: CompileSettings,
    before: Callable[[], None] | None = None,
) -> list[F32]:
    """All calibration pictures restored, (H, W, C) in [0, 1] each; those of one size by one engine.

    Args:
        backend, graph, precision, loop, settings: what restores them.
        pairs: with the pictures.
        before: called before each evaluation.
    """
    chains: dict[tuple[int, ...], Chain] = {}
    restored = []
    for pair in pairs:
        picture = pair.degraded[None]
        if picture.shape not in chains:
            # Launched once: a capture would cost more than it saves.
            dtypes = ("uint8", "float32")
            chains[picture.shape] = chain_of(
                backend, graph, precision, loop, picture.shape, settings, dtypes=dtypes, graphs=False
            )
        out = np.empty(picture.shape, np.float32)
        chains[picture.shape].restore_into(picture, out, seed=0, before=before)
        restored.append(out[0])
    return restored
