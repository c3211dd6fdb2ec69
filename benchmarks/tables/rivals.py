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

# Of README: rivals in words, the slowest first.
RIVALS = {
    ("published", "restore"): "posterior sampling as published, 100 evaluations, torch eager float32",
    ("eager", "restore"): "MR Sampler, 10 evaluations, torch eager float32",
    ("compile", "restore"): "the same with torch.compile (max-autotune; bfloat16 where the processor has it)",
    ("openvino", "network"): "OpenVINO's own loop: the network alone, the floor",
    (OURS, "restore"): "**`mrs-trt`, 10 evaluations, the whole restore**",
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


def short() -> str:
    """README's: who restores a picture with Refusion's network in what time, by machine."""
    results = found()["refusion"]
    cases = [{(case.by, case.work): case for case in each.cases if case.group == 0} for each in results]
    head = ("Refusion's network, random weights", *(_where(each) for each in results))
    lines = []
    for who, words in RIVALS.items():
        cells = [_short(of.get(who), of[OURS, "restore"]) for of in cases]
        if any(cells):
            lines.append((words, *cells))
    return markdown(head, lines)


def _where(each: Results) -> str:
    case, machine = each.cases[0], each.machine
    best = f"{case.height}x{case.width}, {case.backend} {case.precision}"
    return f"{machine.processor}, {machine.threads} threads, {best}"


def _short(case: Case | None, ours: Case) -> str:
    """Milliseconds, and how many times as long as ours."""
    if case is None:
        return ""
    times = f", {_ratio(case, ours):.2f} times ours" if case is not ours else ""
    return f"{ms(statistics.median(case.milliseconds))} ms{times}"


def _ratio(case: Case, ours: Case) -> float:
    # A rival that takes long has fewer rounds.
    return statistics.median(one / other for one, other in zip(case.milliseconds, ours.milliseconds, strict=False))


def _line(case: Case, ours: Case) -> tuple[str, ...]:
    spread, parity = Spread.of(case.milliseconds), case.parity
    label = case.label if case.work == "restore" else f"{case.label}: the network alone"
    verdict = "" if parity is None else "equal" if parity.psnr_db is None else f"{parity.psnr_db:.1f} dB"
    took = f"{ms(spread.median)} ({ms(spread.q1)}-{ms(spread.q3)})"
    return label, str(case.evaluations), took, f"{_ratio(case, ours):.2f}", verdict
