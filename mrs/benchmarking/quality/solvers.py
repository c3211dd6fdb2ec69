"""Other solvers on a plan's network, for speed against quality."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mrs.numerics.intents import INTENTS
from mrs.numerics.methods import METHODS
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import RECOMMENDED, Solver, renamed
from mrs.numerics.solver_file import read_solver
from mrs.numerics.tableau import at_whole_times, tableau, visited_times
from mrs.runtime.errors import InputError
from mrs.runtime.plan import Plan

PUBLISHED = "published-"
MOST = 64


@dataclass(frozen=True)
class Other:
    """A solver to measure.

    Attributes:
        label: it, in words.
        solver: its settings.
        plan: the network with it.
    """

    label: str
    solver: Solver
    plan: Plan


def others(plan: Plan, texts: Sequence[str]) -> list[Other]:
    """Plans of the same network with other solvers.

    A plan holds its network at whole times, so each solver visits the whole times nearest to its own; `label` says
    where that makes a difference.

    Args:
        plan: with its timetable.
        texts: as `parse` reads them.

    Raises:
        InputError: for texts that are no solvers, solvers that the plan's schedule does not have, one that is named
            twice, or a plan without a timetable.
    """
    if not texts:
        return []
    if plan.timetable is None:
        raise InputError(
            "the plan does not hold its network at other times, so that no other solvers can be tried on it",
            hint="leave --solvers out",
        )
    try:
        schedule, output = Schedule(**plan.manifest["schedule"]), str(plan.manifest["output"])
    except (KeyError, TypeError) as error:
        raise InputError(f"the plan does not say its schedule: {error}", hint="build it again") from None
    found = []
    for label, solver in (each for text in texts for each in parse(text, schedule)):
        whole = _at_whole_times(label, solver, schedule)
        if whole.times != solver.times:
            label += ", at whole times"
        found.append(Other(label, whole, _with(plan, whole, schedule, output)))
    labels = [each.label for each in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is named twice", hint="name each solver once")
    if len(found) > MOST:
        raise InputError(f"{len(found)} solvers are more than {MOST}", hint="name fewer")
    return found


def parse(text: str, schedule: Schedule) -> list[tuple[str, Solver]]:
    """Solvers with their labels.

    Args:
        text: NAME:N,N such as ode-2:3,5,10: a method and numbers of evaluations, with the settings that
            `mrs-trt build --solver NAME` has; published-NAME:N,N has MR Sampler's; faithful, balanced or vivid:N,N
            are those of `--quality`; or a file of `mrs-trt tune`.
        schedule: of the plan.

    Raises:
        InputError: for anything else, or a file for another schedule.
    """
    if text.endswith(".json"):
        solver, found_for = read_solver(text)
        if found_for != schedule:
            raise InputError(f"{text} was found for another schedule than the plan has", hint="tune for this plan")
        return [(f"{solver.name} tuned at {solver.steps}", solver)]
    match = re.fullmatch(r"([^:]+):(\d{1,4}(?:,\d{1,4})*)", text)
    if match is None:
        raise InputError(
            f"{text!r} is no solver with its evaluations", hint="such as ode-2:3,5,10, posterior:100, or tuned.json"
        )
    steps = [int(number) for number in match[2].split(",")]
    if match[1] in INTENTS:
        return [(f"{match[1]} at {number}", replace(INTENTS[match[1]].solver, steps=number)) for number in steps]
    published = match[1].startswith(PUBLISHED)
    base = Solver() if published else RECOMMENDED
    settings = replace(base, **renamed(match[1].removeprefix(PUBLISHED)))
    solvers = [replace(settings, steps=number) for number in steps]
    return [(f"{'published ' if published else ''}{each.name} at {each.steps}", each) for each in solvers]


def _at_whole_times(label: str, solver: Solver, schedule: Schedule) -> Solver:
    """The solver at times that the plan holds."""
    times = visited_times(schedule, solver)[: solver.steps]
    if all(time.is_integer() for time in times):
        return solver
    # Grids of pairs, and weights, belong to their very times.
    if METHODS[solver.method].times == "pairs" or solver.weights:
        raise InputError(
            f"{label} evaluates between whole times, where a plan does not hold its network",
            hint=f"use a number of evaluations that divides {schedule.T}, or another solver",
        )
    whole = at_whole_times(solver, schedule)
    if whole.steps != solver.steps:
        raise InputError(f"{label} has no {solver.steps} different whole times", hint="use fewer evaluations")
    return whole


def _with(plan: Plan, solver: Solver, schedule: Schedule, output: str) -> Plan:
    """The plan with another solver. Its engines take the vectors of any times."""
    table = tableau(schedule, solver, output)
    assert plan.timetable is not None
    times = np.array(table.times[: len(table.rows)], np.int64)
    if times.max() >= len(plan.timetable):
        raise InputError(f"time {times.max()} is beyond what the plan holds", hint="build it again")
    said = {
        "times": list(table.times), "rows": [list(row) for row in table.rows], "start": table.start,
        "clamp": table.clamp,
    }  # fmt: skip
    manifest = {**plan.manifest, "solver": solver.to_dict(), "table": said}
    # What the build saw of its own solver says nothing of this one.
    manifest.pop("verdict", None)
    return replace(plan, manifest=manifest, modulation=plan.timetable[times])
