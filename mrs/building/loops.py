"""Solvers as loops: a table with the network's modulation at its times."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from mrs.building.source import Source
from mrs.export.autotune.budget import LADDER
from mrs.kernels.table import Table
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.chain import Loop
from mrs.runtime.errors import InputError

REFERENCE_STEPS = 100


def loop_of(source: Source, table: Table) -> Loop:
    """A table with the network's modulation at its times."""
    mirrors = source.arch.padding == "reflect"
    return Loop(table, source.modulation(table.times[:-1]), source.condition, mirrors, source.codec)


def loops_of(source: Source, solver: Solver, any_number: bool) -> dict[int, Loop]:
    """The solver by its number of evaluations: its own, or every number that it can have.

    Raises:
        InputError: for a solver that has its number for good, or less than two of them.
    """
    if not any_number:
        return {solver.steps: loop_of(source, tableau(source.schedule, solver, source.output))}
    if solver.times:
        raise InputError(
            "a solver with a time grid of its own has a fixed number of evaluations",
            hint="leave out max_latency, or name another solver",
        )
    loops = {}
    for steps in LADDER:
        # Some need more steps than others.
        with suppress(InputError):
            loops[steps] = loop_of(source, tableau(source.schedule, replace(solver, steps=steps), source.output))
    if len(loops) < 2:
        raise InputError("this solver has no two numbers of evaluations to choose from", hint="leave out max_latency")
    return loops


def reference_loop(source: Source, solver: Solver) -> Loop:
    """The same solver at many steps."""
    return loop_of(source, reference_table(source.schedule, solver, source.output))


def reference_table(schedule: Schedule, solver: Solver, output: str) -> Table:
    """Its table; in equal steps of t where its own grid has not that many different times."""
    spacing = "linspace" if solver.times else solver.spacing
    steps = min(REFERENCE_STEPS, schedule.T)
    many = replace(solver, steps=steps, spacing=spacing, times=(), weights=())
    try:
        return tableau(schedule, many, output)
    except InputError:
        return tableau(schedule, replace(many, spacing="linspace"), output)
