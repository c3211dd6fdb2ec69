"""What the figures of restores say at the end of a part: which bars are reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.gpu.kept import Figures
from benchmarks.gpu.restores import Findings

# Percent of a restore outside the network at most, slowest hundredth over median at most.
OUTSIDE, JITTER = 3.0, 1.1
VERDICTS = {True: "reached", False: "MISSED", None: "not measured"}


def lines(found: Findings) -> list[str]:
    """The bars of each case, and what is missing or wrong."""
    said = [
        f"bar: {bar}, {case}: {VERDICTS[met]}" for case, figures in found.figures.items() for bar, met in _bars(figures)
    ]
    said += [f"left out: {name}" for name in found.left_out]
    return said + [f"WRONG: {line}" for line in found.wrong]


def _bars(figures: Figures) -> Iterator[tuple[str, bool | None]]:
    def holds(key: str, reached: Callable[[float], bool]) -> bool | None:
        return reached(figures[key]) if key in figures else None

    yield f"outside the network at most {OUTSIDE:g} %", holds("outside_percent", lambda percent: percent <= OUTSIDE)
    yield "faster than torch.compile with graphs", holds("times_compile_bf16", lambda times: times > 1)
    if "replays" in figures or "graph_launches" in figures:
        yield f"p99/p50 at most {JITTER:g}", holds("jitter", lambda ratio: ratio <= JITTER)
        yield "one graph launch", holds("graph_launches", lambda count: count == 1)
