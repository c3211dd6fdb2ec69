"""Where figures come from: how the build chose, machines, versions."""

from __future__ import annotations

from collections.abc import Sequence

from mrs.reporting.parts import DASH, Cell, Figure, Section, Table
from mrs.reporting.subjects import Subject, letter_column
from mrs.reporting.text import memory, number


def build(subjects: Sequence[Subject]) -> Section | None:
    """The table by which each build chose."""
    shown = [subject for subject in subjects if subject.results.plan.candidates]
    rows = []
    for subject in shown:
        for candidate in subject.results.plan.candidates:
            rows.append(
                (
                    *subject.cells,
                    Cell("chosen" if candidate.chosen else "", tone="good" if candidate.chosen else ""),
                    Cell(f"{candidate.backend} {candidate.precision}"),
                    Cell(candidate.variant),
                    Cell.of(candidate.milliseconds),
                    Cell.of(candidate.parity_db),
                    Cell(candidate.verdict),
                )
            )
    if not rows:
        return None
    columns = ("", "engine", "variant", "ms for an evaluation", "parity, dB", "verdict")
    table = Table.made("Candidates of the build", (*letter_column(subjects), *columns), tuple(rows))
    words = ("Parity is the PSNR against float32 at the same steps and noise. A dash: not measured.",)
    commands = tuple(f"{subject.prefix}mrs-trt inspect {subject.results.plan.name}" for subject in shown)
    return Section("build", "How the build chose", [Figure("", commands, words, table=table, open=True)])


def machines(subjects: Sequence[Subject]) -> Section | None:
    """Hardware and versions, one column for each file of results."""
    facts = [_facts(subject) for subject in subjects]
    names = list(dict.fromkeys(name for each in facts for name in each))
    rows = []
    for name in names:
        values = [each.get(name, DASH) for each in facts]
        differs = len(set(values)) > 1
        rows.append(
            (Cell(name), *map(Cell, values), *((Cell("differs" if differs else ""),) if subjects[0].letter else ()))
        )
    titles = (*(subject.letter for subject in subjects), "") if subjects[0].letter else ("value",)
    table = Table.made("Hardware and versions", ("", *titles), tuple(rows))
    figure = Figure("", tuple(subject.command for subject in subjects), table=table, open=True)
    return Section("machines", "Hardware and versions", [figure])


def _facts(subject: Subject) -> dict[str, str]:
    results = subject.results
    machine, plan = results.machine, results.plan
    found = {
        "plan": plan.name,
        "plan's SHA-256": plan.sha256[:16],
        "network": plan.network,
        "solver": f"{plan.solver}, {plan.evaluations} evaluations",
        "engine": f"{plan.backend} {plan.precision}",
        "built for": f"{plan.height}x{plan.width}, batch {plan.batch}",
        "build took": "" if plan.build_seconds is None else f"{number(plan.build_seconds)} s",
        "GPU": machine.gpu or "",
        "processor": machine.processor,
        "instructions": " ".join(machine.instructions),
        "threads": str(machine.threads),
        "memory": memory(machine.memory_bytes),
        "system": machine.system,
        "load at the beginning": "" if machine.load is None else number(machine.load),
        "measured": results.date,
        "commit": results.commit,
        **results.versions,
    }
    return {name: value for name, value in found.items() if value}
