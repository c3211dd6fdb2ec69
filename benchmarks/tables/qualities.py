"""Tables of picture quality: the default against published settings, and every solver."""

from __future__ import annotations

from benchmarks.rows import Row
from benchmarks.solver_report import by_solver, table
from benchmarks.solvers import read
from benchmarks.tables.measured import SOLVERS, markdown, newest

CASE = "quality of rain.safetensors"
# Of README: names of `benchmarks.quality`'s solvers in words, the worst first.
IN_WORDS = {
    "posterior at 100": "posterior sampling, every step of the process",
    "published sde-2 at 10": "MR Sampler SDE-2 as published",
    "published ode-2 at 10": "MR Sampler ODE-2 as published",
    "default": "what `mrs-trt build` takes by default: posterior sampling, re-strided",
}


def short() -> str:
    """README's: the published settings beside the default."""
    row = _row()
    figures, solvers = row["figures"], row["settings"]["solvers"]
    head = (
        f"Kodak's {row['settings']['pictures']} pictures, synthetic rain, shipped weights, float32",
        "evaluations",
        "PSNR",
    )
    lines = [("degraded", "", f"{figures['degraded_db']:.2f} dB")]
    for name, words in IN_WORDS.items():
        few, best = name != "posterior at 100", name == "default"
        count, value = str(solvers[name]["steps"]), f"{figures[f'{name}_db']:.2f} dB"
        lines.append((words, f"**{count}**" if few else count, f"**{value}**" if best else value))
    return markdown(head, lines)


def whole() -> str:
    """All of `benchmarks.quality`."""
    row = _row()
    figures, degraded = row["figures"], row["figures"]["degraded_db"]
    lines = [("degraded", "", f"{degraded:.2f}", "")]
    for name, solver in row["settings"]["solvers"].items():
        value = figures[f"{name}_db"]
        lines.append((name, str(solver["steps"]), f"{value:.2f}", f"{value - degraded:+.2f}"))
    return markdown(("solver", "evaluations", "PSNR, dB", "gain, dB"), lines)


def solvers(key: str, title: str) -> str:
    """One figure of every solver at every number of evaluations."""
    return table(by_solver(read(SOLVERS)), key, title)


def _row() -> Row:
    *_, last = newest(CASE).values()
    return last
