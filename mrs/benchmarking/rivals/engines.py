"""Whole restores by our own runtime on another backend: what the choice of a build was between."""

from __future__ import annotations

import time
from contextlib import ExitStack

import numpy as np

from mrs.benchmarking.rivals.gate import bar_of, restorer_on
from mrs.benchmarking.rivals.rival import SEED, Pictures, Rival, failures
from mrs.runtime import backends
from mrs.runtime.backends import mixed
from mrs.runtime.errors import BackendError
from mrs.runtime.plan import Plan

Size = tuple[int, int, int]


def restores_on(name: str, plan: Plan, size: Size, threads: int) -> Rival:
    """A plan's restores on a backend, at the plan's precision where it has that.

    Args:
        name: of the backend; the plan's own too, which tells what two equal ones differ by.
        plan: what to restore with, by its graph, which is as its own backend runs it fastest: a build for this one may
            take another form.
        size: (N, H, W) of pictures.
        threads: most threads to use on a CPU.

    Raises:
        BackendError: where it does not run here, or refuses the graph.
    """
    engine = backends.get(name)
    missing = engine.missing()
    if missing is not None:
        raise BackendError(missing)
    wanted = plan.facts.precision
    precision = wanted if mixed.runs(engine, wanted) else "fp32"
    begin = time.perf_counter()
    with ExitStack() as stack, failures(name):
        restorer = stack.enter_context(restorer_on(engine, plan, precision, threads))
        chain = stack.enter_context(restorer.chain(size))
        out = np.empty((*size, restorer.channels), np.uint8)
        # What happens only the first time has happened then.
        chain.restore_into(np.zeros_like(out), out, SEED)
        closing = stack.pop_all()

    def run(pictures: Pictures) -> Pictures:
        with failures(name):
            result = np.empty_like(pictures)
            chain.restore_into(pictures, result, SEED)
            return result

    other = "" if precision == wanted else f", which has no {wanted} here"
    return Rival(
        name=f"backend:{name}",
        label=f"this runtime on {name} {engine.version()}, {precision}{other}",
        backend=name,
        precision=precision,
        evaluations=len(plan.table.rows),
        setup_seconds=time.perf_counter() - begin,
        bar_db=bar_of(plan),
        run=run,
        close=closing.close,
    )
