"""Cases compiled in several processes. Compiled functions cannot travel between processes; names and figures can."""

from __future__ import annotations

from concurrent.futures import Executor

from mrs.kernels.aot.binary import Binary
from mrs.kernels.aot.cases import cases
from mrs.kernels.aot.machine_code import MachineCode
from mrs.kernels.aot.report import Figures, measure


def measure_all(pool: Executor, names: list[str], capability: int) -> list[Figures]:
    """Figures of the cases of these names, in their order."""
    by_name = {case.name: case for case in cases()}
    found = pool.map(_compile, names, [capability] * len(names))
    return [Figures(by_name[name], *parts) for name, parts in zip(names, found, strict=True)]


def _compile(name: str, capability: int) -> tuple[Binary, MachineCode]:
    case = next(case for case in cases() if case.name == name)
    figures = measure(case, capability)
    return figures.binary, figures.code
