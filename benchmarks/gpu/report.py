"""What a run says on the screen: a short table, and which bars are met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.gpu.cases import Case
from benchmarks.gpu.kept import Figures
from benchmarks.gpu.kernels import Findings
from mrs.runtime.manifest import JsonObject

COLUMNS = ("256x1", "1024x1", "1024x8", "2048x8")
COPY_PERCENT, ABOVE_EMPTY_WARM, ABOVE_EMPTY_COLD, TIMES_EAGER, TIMES_COMPILED = 80.0, 1.5, 3.0, 4.0, 1.3
WITHOUT_BARS = ("threshold", "audit")
# Numbers of a batch of 1024x1024, 8 pictures: from here on a kernel must keep up with the memory.
LARGE = 8 * 1024 * 1024


@dataclass(frozen=True)
class Bar:
    """One bar and how it was passed.

    Attributes:
        name: what must be reached.
        met: None where nothing was measured.
        worst: the figure that is farthest below, and whose it is.
        below: how many of the figures do not reach it.
        of: how many there are.
    """

    name: str
    met: bool | None
    worst: str = ""
    below: int = 0
    of: int = 0

    def __str__(self) -> str:
        if self.met is None:
            return f"{self.name}: not measured"
        verdict = "met" if self.met else f"missed by {self.below} of {self.of}"
        return f"{self.name}: {verdict}; worst {self.worst}"


def bars(found: Findings) -> list[Bar]:
    """All bars."""
    kernels = {case: figures for case, figures in found.kernels.items() if case.kernel not in WITHOUT_BARS}
    large = {case: figures for case, figures in kernels.items() if case.batch * case.side**2 >= LARGE}
    small = {case: figures for case, figures in kernels.items() if (case.side, case.batch) == (256, 1)}
    return [
        _bar(f"at least {COPY_PERCENT:g} % of copy bandwidth from 1024x8", large, "percent_of_copy", COPY_PERCENT, "%"),
        *(
            _bar(f"at most {limit:g} us above an empty kernel at 256x1, {cache} cache", small, key, limit, "us")
            for cache, key, limit in (
                ("warm", "warm_above_empty_us", ABOVE_EMPTY_WARM),
                ("cold", "above_empty_us", ABOVE_EMPTY_COLD),
            )
        ),
        _bar(f"at least {TIMES_EAGER:g}x torch eager", found.rivals, "times_eager", TIMES_EAGER, "x"),
        _bar(f"at least {TIMES_COMPILED:g}x torch.compile", found.rivals, "times_compiled", TIMES_COMPILED, "x"),
    ]


def _bar(name: str, figures: dict[Case, Figures], key: str, limit: float, unit: str) -> Bar:
    values = {case: float(some[key]) for case, some in figures.items() if key in some}
    if not values:
        return Bar(name, None)
    sign = -1 if unit == "us" else 1
    worst = min(values, key=lambda case: sign * values[case])
    below = sum(sign * value < sign * limit for value in values.values())
    return Bar(name, not below, f"{values[worst]:.2f} {unit} ({worst.name}, {worst.shape})", below, len(values))


def lines(found: Findings, about: JsonObject) -> list[str]:
    """The whole report, at most 45 lines."""
    return [*_head(found, about), *_kernels(found), *_rivals(found), *_tail(found)]


def _head(found: Findings, about: JsonObject) -> Iterator[str]:
    versions = about["versions"]
    yield (
        f"{about['device']}, driver {about['driver'] or 'unknown'}, CUDA {versions['cuda']}, "
        f"torch {versions['torch']}, triton {versions['triton']}, commit {about['commit'] or 'unknown'}"
    )
    if found.copy:
        copy = found.copy
        speed = f"copy {copy['gb_per_s']:.0f} GB/s read and written; an empty kernel {copy['empty_us']:.2f} us"
        yield f"{speed}; medians, cold cache"


def _kernels(found: Findings) -> Iterator[str]:
    if not found.kernels:
        return
    yield f"{'us, % of the copy; + us above empty/warm':<42}" + "".join(f"{column:>19}" for column in COLUMNS)
    for name in dict.fromkeys(case.name for case in found.kernels):
        cells = {case.shape: _cell(case, figures) for case, figures in found.kernels.items() if case.name == name}
        yield f"{name:<42}" + "".join(f"{cells.get(column, '-'):>19}" for column in COLUMNS)


def _cell(case: Case, figures: Figures) -> str:
    if case.shape == "256x1":
        warm = f"/{figures['warm_above_empty_us']:+.2f}" if "warm_us" in figures else ""
        return f"{figures['kernel_us']:.2f} {figures['above_empty_us']:+.2f}{warm}"
    return f"{figures['kernel_us']:.1f} {figures['percent_of_copy']:.0f}%"


def _rivals(found: Findings) -> Iterator[str]:
    if found.rivals:
        yield "step against the same in torch, times faster on the device (quartiles)"
    for case, figures in found.rivals.items():
        cells = [
            f"{name} {figures[key]:.2f} ({figures[f'{key}_q1']:.2f}-{figures[f'{key}_q3']:.2f})"
            for name, key in (("eager", "times_eager"), ("compile", "times_compiled"))
            if key in figures
        ]
        yield f"{f'{case.row}, {case.shape}':<20}{figures['kernel_us']:8.2f} us   " + "   ".join(cells)


def _tail(found: Findings) -> Iterator[str]:
    yield from (f"bar: {bar}" for bar in bars(found))
    if found.left_out:
        few = "; ".join(found.left_out[:3]) + (" ..." if len(found.left_out) > 3 else "")
        yield f"left out, {len(found.left_out)}: {few}"
    yield from (f"WRONG: {line}" for line in found.wrong)
