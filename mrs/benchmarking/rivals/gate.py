"""No speed without the gate: what was timed must compute what the plan computes in float32.

The bar is a build's own, `mrs.export.autotune.parity`: rounding must hide under the solver's discretisation error.
"""

from __future__ import annotations

import math
from dataclasses import replace

from mrs.benchmarking.results import Parity
from mrs.benchmarking.rivals.rival import SEED, Pictures, Rival
from mrs.export.autotune.parity import ENOUGH, MARGIN
from mrs.runtime import backends
from mrs.runtime.backends import Backend
from mrs.runtime.errors import BackendError
from mrs.runtime.plan import Plan
from mrs.runtime.psnr import psnr
from mrs.runtime.session import Restorer

ENGINES = ("openvino", "onnxruntime")
REFERENCE = "the plan's graph in float32, same solver and noise"


def bar_of(plan: Plan) -> float:
    """PSNR in dB that a result must reach beside float32; the strictest where the plan's build measured nothing."""
    selection = plan.manifest.get("selection")
    found = selection.get("discretisation_db") if isinstance(selection, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        return ENOUGH
    return min(ENOUGH, found + MARGIN)


def judge(rival: Rival, result: Pictures, reference: Pictures) -> Parity:
    """Whether a result passes.

    Args:
        rival: whose it is, with the plan's own solver.
        result: what it restored, (N, H, W, C) uint8.
        reference: what the plan restores in float32 of the same pictures with the same noise.
    """
    return parity_of(result, reference, rival.bar_db, REFERENCE)


def parity_of(result: Pictures, reference: Pictures, bar_db: float, words: str) -> Parity:
    """A result beside its reference, both uint8; None dB where they are equal."""
    found = psnr(result, reference)
    return Parity(
        psnr_db=None if math.isinf(found) else found, reference=words, bar_db=bar_db, passes=found >= bar_db
    )  # fmt: skip


def exact_engine(plan: Plan) -> Backend:
    """The engine for CPUs that computes references in float32: another than the plan's, where one is installed.

    Raises:
        BackendError: where there is none.
    """
    usable = [backends.get(name) for name in ENGINES if backends.get(name).missing() is None]
    if not usable:
        raise BackendError(f"{' and '.join(ENGINES)} are not there", hint="pip install openvino")
    # ONNX Runtime would write the attention of all pixels to all down, at any size.
    writes = plan.facts.network.bytes_per_pair > 0
    others = [engine for engine in usable if engine.name != plan.facts.backend]
    fitting = [engine for engine in others if not (writes and engine.name == "onnxruntime")]
    return (fitting or usable)[0]


def float32_reference(plan: Plan, pictures: Pictures, threads: int) -> Pictures:
    """What every whole restore is judged by: `pictures`, (N, H, W, C), restored in float32 by `exact_engine`.

    Raises:
        BackendError: where that fails.
    """
    size = (len(pictures), *pictures.shape[1:3])
    with restorer_on(exact_engine(plan), plan, "fp32", threads) as restorer, restorer.chain(size) as chain:
        return chain.restore_into(pictures, None, SEED).astype("uint8", copy=False)


def restorer_on(engine: Backend, plan: Plan, precision: str, threads: int) -> Restorer:
    """A plan on an engine, compiled from its graph anew."""
    # Whoever measures has loaded the plan before, and was told then what its build says of it.
    told = {key: value for key, value in plan.manifest.items() if key != "verdict"}
    return Restorer(
        replace(plan, manifest=told), backend=engine.name, precision=precision, threads=threads, engine=False,
        cache=False,
    )  # fmt: skip
