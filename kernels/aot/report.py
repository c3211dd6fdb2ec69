"""Figures of compiled cases, what is wrong with them, and the table that docs/kernels.md shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from mrs.kernels.aot.binary import Binary, compiled
from mrs.kernels.aot.cases import Case
from mrs.kernels.aot.machine_code import MachineCode, read

WIDE = 16
TOLERANCE = 1e-9  # of sums of thirds
HEAD = ("kernel", "registers", "spilled", "shared", "loads x bytes", "stores x bytes", "bytes/element", "minimum")


@dataclass(frozen=True)
class Figures:
    """A case, compiled for one GPU and disassembled."""

    case: Case
    binary: Binary
    code: MachineCode

    @property
    def moved(self) -> float | None:
        """Bytes that the code moves for each element of a state in a full row; None for kernels on counts.

        Of four accesses to an interleaved array one is masked off, and some layouts leave it in the code: such fourths
        are taken off where whole ones are what the code has too much.
        """
        if self.case.traffic is None:
            return None
        issued = self.code.issued() * self.binary.threads / self.case.elements
        arrays = self.case.traffic.interleaved
        for some in chain.from_iterable(combinations(arrays, size) for size in range(len(arrays) + 1)):
            if abs(issued - sum(some) / 3 - self.case.traffic.moved) < TOLERANCE:
                return self.case.traffic.moved
        return issued

    def faults(self) -> list[str]:
        """What must not be, one line each."""
        where = f"{self.case.name} on sm_{self.binary.capability}"
        found = []
        if self.code.spilled:
            found.append(f"{where} spills {self.code.spilled} bytes of each thread to local memory")
        if self.case.wide and self.code.narrowest < WIDE:
            found.append(f"{where} has accesses of {self.code.narrowest} bytes where {WIDE} are possible")
        traffic = self.case.traffic
        if traffic is not None and self.moved is not None and abs(self.moved - traffic.moved) > TOLERANCE:
            found.append(f"{where} moves {self.moved:g} bytes for each element where {traffic.moved:g} suffice")
        return found


def measure(case: Case, capability: int) -> Figures:
    """Compile a case and read its machine code."""
    binary = compiled(case.launch, capability)
    return Figures(case, binary, read(binary))


def table(figures: Iterable[Figures]) -> str:
    """A Markdown table for one GPU."""
    return _markdown([HEAD, *(_cells(each) for each in figures)])


def summary(figures: Iterable[Figures]) -> str:
    """A Markdown table over all GPUs: a line for each kernel, with the registers of a thread on each."""
    by_name: dict[str, list[Figures]] = {}
    for each in figures:
        by_name.setdefault(each.case.name, []).append(each)
    targets = sorted({each.binary.capability for same in by_name.values() for each in same})
    rows = [("kernel", "bytes/element", "minimum", "narrowest", "spilled", *(f"sm_{target}" for target in targets))]
    for name, same in by_name.items():
        registers = {each.binary.capability: str(each.code.registers) for each in same}
        rows.append((
            name,
            " or ".join(dict.fromkeys(_moved(each) for each in same)),
            _minimum(same[0].case),
            str(min(each.code.narrowest for each in same)),
            str(max(each.code.spilled for each in same)),
            *(registers.get(target, "") for target in targets),
        ))  # fmt: skip
    return _markdown(rows)


def _cells(figures: Figures) -> tuple[str, ...]:
    code = figures.code
    return (
        figures.case.name,
        str(code.registers),
        str(code.spilled),
        str(figures.binary.shared),
        _widths(code.loads),
        _widths(code.stores),
        _moved(figures),
        _minimum(figures.case),
    )


def _moved(figures: Figures) -> str:
    return "" if figures.moved is None else f"{figures.moved:g}"


def _minimum(case: Case) -> str:
    return "" if case.traffic is None else f"{case.traffic.moved:g}"


def _widths(counts: dict[int, int]) -> str:
    return " ".join(f"{counts[width]}x{width}" for width in sorted(counts, reverse=True)) or "none"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    return "\n".join([lines[0], _line(["-" * width for width in widths], widths), *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"
