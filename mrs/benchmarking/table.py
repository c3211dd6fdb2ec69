"""Results, and what a comparison of two says, as text for a person."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from mrs.benchmarking.comparing import EQUAL, RELEVANT, UNCLEAR, WANTED, Change, Comparison
from mrs.benchmarking.quality import tables
from mrs.benchmarking.quality.measuring import QualityFound
from mrs.benchmarking.results import OURS, Case, Results, Span, Start, Throughput
from mrs.runtime.measure import Spread

HEAD = ("", "size", "batch", "p50", "p90", "p99", "jitter", "quartiles", "rounds", "outside", "to ours", "parity")


def lines(results: Results) -> Iterator[str]:
    """Everything but pictures."""
    yield from _about(results)
    yield ""
    yield from _aligned([HEAD, *_rows(results.cases)])
    yield "ms; jitter: p99 above p50; outside: of the network's evaluations, share of a restore"
    rivals = {case.by: case.label for case in results.cases if case.by != OURS}
    if rivals:
        yield "to ours: times as long as this plan's restore of the same round"
    for name, label in rivals.items():
        yield f"{name}: {label}"
    if results.timeline:
        yield ""
        yield from _parts(results.timeline)
    if results.throughput:
        yield ""
        yield from _throughput(results.throughput)
    if results.start is not None:
        yield ""
        yield from _start(results.start)
    if results.quality:
        yield ""
        yield from tables.lines(QualityFound(results.quality, (), results.data, ()))
    for note in results.notes:
        yield f"note: {note}"


def comparison_lines(found: Comparison, old: Results) -> Iterator[str]:
    """What became of the times since an older file."""
    yield ""
    yield f"against {old.date}, {old.plan.backend} {old.plan.precision}"
    yield f"restore   {_change(found.restore)}"
    if found.network is not None:
        yield f"network   {_change(found.network)}"
    for other in found.others:
        case = other.new
        yield (
            f"{case.work}, {case.label}, {case.height}x{case.width}, batch {case.batch}: {_percent(other.ratio)}, "
            "of one process, not judged"
        )
    for note in found.notes:
        yield f"note: {note}"


def _about(results: Results) -> Iterator[str]:
    machine, plan = results.machine, results.plan
    on = machine.gpu or f"{machine.processor}, {machine.threads} threads"
    busy = "" if machine.load is None else f", load {machine.load:.1f}"
    yield f"machine   {on}{busy}"
    built = "" if plan.build_seconds is None else f", built in {plan.build_seconds:.1f} s"
    size = f"{plan.height}x{plan.width}, batch {plan.batch}"
    yield f"plan      {plan.name}, {plan.evaluations} evaluations at {size}{built}"
    yield f"engine    {plan.backend} {plan.precision}"


def _rows(cases: Sequence[Case]) -> Iterator[tuple[str, ...]]:
    for case in cases:
        spread = Spread.of(case.milliseconds)
        name = case.work if case.by == OURS else f"{case.by} {case.work}"
        times = [f"{ms:.2f}" for ms in (spread.median, spread.p90, spread.p99)]
        if case.by != OURS and case.parity is not None and not case.parity.passes:
            # Something else was computed, in whatever time.
            yield name, f"{case.height}x{case.width}", str(case.batch), *8 * ("-",), _parity(case)
            continue
        yield (
            name, f"{case.height}x{case.width}", str(case.batch), *times, f"{100 * spread.jitter:.0f} %",
            f"{spread.q1:.2f}-{spread.q3:.2f}", str(len(case.milliseconds)), _outside(case, cases),
            _to_ours(case, cases), _parity(case),
        )  # fmt: skip


def _outside(case: Case, cases: Sequence[Case]) -> str:
    """Share of a restore that is not the network's, by the medians of ratios within rounds."""
    bare = next((one for one in cases if (one.work, one.by, one.group) == ("network", case.by, case.group)), None)
    if case.work != "restore" or bare is None:
        return ""
    return f"{100 * outside_share(case, bare):.1f} %"


def _to_ours(case: Case, cases: Sequence[Case]) -> str:
    """How many times as long as the plan's restore, by the median of ratios within rounds."""
    ours = next((one for one in cases if (one.work, one.by, one.group) == ("restore", OURS, case.group)), None)
    if case.by == OURS or ours is None:
        return ""
    # One that takes long has samples of the first rounds alone.
    pairs = zip(case.milliseconds, ours.milliseconds, strict=False)
    return f"{statistics.median(theirs / own for theirs, own in pairs):.2f}x"


def outside_share(restore: Case, network: Case) -> float:
    """What of a restore is not its evaluations: 1 less the median of the rounds' ratios."""
    pairs = zip(restore.milliseconds, network.milliseconds, strict=True)
    return 1 - statistics.median(bare / whole for whole, bare in pairs)


def _parity(case: Case) -> str:
    parity = case.parity
    if parity is None:
        return ""
    found = "equal" if parity.psnr_db is None else f"{parity.psnr_db:.1f} dB"
    return f"{found}, {parity.bar_db:.1f} needed" + ("" if parity.passes else ": FAILS")


def _parts(spans: Sequence[Span]) -> Iterator[str]:
    """The parts of one restore, those of one kind together."""
    sums: dict[str, list[float]] = {}
    for span in spans:
        sums.setdefault(span.name, []).append(span.milliseconds)
    yield "one restore in parts, ms: " + ", ".join(
        f"{name} {sum(spent):.2f}" + (f" ({len(spent)})" if len(spent) > 1 else "") for name, spent in sums.items()
    )


def _throughput(found: Sequence[Throughput]) -> Iterator[str]:
    rows = [("workers", "pictures/s", "quartiles", "rounds")]
    for each in found:
        spread = Spread.of(each.pictures_per_second)
        rows.append(
            (str(each.workers), f"{spread.median:.2f}", f"{spread.q1:.2f}-{spread.q3:.2f}",
             str(len(each.pictures_per_second)))
        )  # fmt: skip
    yield from _aligned(rows)


def _start(start: Start) -> Iterator[str]:
    count = len(start.first_result_ms)
    first, load, restore = (
        statistics.median(each) for each in (start.first_result_ms, start.load_ms, start.first_restore_ms)
    )
    yield (
        f"start     first result after {first / 1e3:.2f} s ({min(start.first_result_ms) / 1e3:.2f}-"
        f"{max(start.first_result_ms) / 1e3:.2f}), of which loading {load / 1e3:.2f} s and the first restore "
        f"{restore / 1e3:.2f} s; {count} processes"
    )
    peak = max(start.peak_memory_bytes)
    if peak:
        yield f"memory    {peak / 2**20:.0f} MiB resident at most until then"


def _change(change: Change) -> str:
    if change.verdict == UNCLEAR:
        said = f"not told apart: the runs are too noisy to tell a change by {100 * WANTED:.0f} %"
    elif change.verdict == EQUAL:
        said = f"equal: no change by more than {100 * RELEVANT:.0f} % was found"
    else:
        said = change.verdict
    return (
        f"{said}; {_percent(change.ratio)} ({_percent(change.low)} to {_percent(change.high)}) beside the yardstick, "
        f"{_percent(change.plain)} without"
    )


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns: names to the left, figures to the right; a column without any text is left out."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        cells = (
            text.ljust(width) if index == 0 else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
