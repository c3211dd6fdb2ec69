"""Tables of what `mrs-trt bench` measured beside rivals: benchmarks/results/NAME.PROCESSOR.json."""

from __future__ import annotations

import statistics
from functools import cache

from benchmarks import rows
from benchmarks.plans import NAMES
from benchmarks.tables.measured import markdown, ms
from mrs.benchmarking.results import OURS, Case, Results, read
from mrs.runtime.measure import Spread

IN_WORDS = {
    "refusion": "Refusion's network (width 64, 1,1,1,28, random weights)",
    "shipped": "the shipped network (width 16)",
}


@cache
def found() -> dict[str, tuple[Results, ...]]:
    """Results by the plan's name in `benchmarks.plans`."""
    return {name: tuple(map(read, sorted(rows.RESULTS.glob(f"{name}.*.json")))) for name in NAMES}


def against() -> str:
    """Every rival's restore or bare evaluations beside ours, of each plan on each machine."""
    head = ("", "evaluations", "ms (quartiles)", "times ours, round by round", "parity")
    parts = []
    for name, results in found().items():
        for each in results:
            cases = [case for case in each.cases if case.group == 0]
            ours = next(case for case in cases if case.by == OURS and case.work == "restore")
            lines = [_line(case, ours) for case in cases]
            size = f"{ours.height}x{ours.width}, {each.plan.evaluations} evaluations"
            parts.append(
                f"{IN_WORDS[name]}, {size}, {ours.backend} {ours.precision}, {each.machine.processor}, "
                f"{each.machine.threads} threads, {each.date[:10]}, at {each.commit}:\n\n{markdown(head, lines)}"
            )
    return "\n\n".join(parts)


def _line(case: Case, ours: Case) -> tuple[str, ...]:
    spread, parity = Spread.of(case.milliseconds), case.parity
    label = case.label if case.work == "restore" else f"{case.label}: the network alone"
    ratio = statistics.median(one / other for one, other in zip(case.milliseconds, ours.milliseconds, strict=False))
    verdict = "" if parity is None else "equal" if parity.psnr_db is None else f"{parity.psnr_db:.1f} dB"
    return (
        label, str(case.evaluations), f"{ms(spread.median)} ({ms(spread.q1)}-{ms(spread.q3)})", f"{ratio:.2f}", verdict,
    )  # fmt: skip
