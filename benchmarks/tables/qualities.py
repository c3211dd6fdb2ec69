"""Tables of picture quality: the default against published settings, every solver, and what less noise does."""

from __future__ import annotations

from benchmarks import noise_scales, quality, rows
from benchmarks.rows import Row
from benchmarks.solver_report import by_solver, table
from benchmarks.solvers import read
from benchmarks.tables.measured import SOLVERS, markdown
from mrs.runtime.manifest import JsonObject

QUALITY, NOISE = rows.RESULTS / "quality.jsonl", rows.RESULTS / "noise-scales.jsonl"
# Of README: names of `benchmarks.quality`'s solvers in words, the worst first.
IN_WORDS = {
    "posterior at 100": "posterior sampling, every step of the process",
    "published sde-2 at 10": "MR Sampler SDE-2 as published",
    "published ode-2 at 10": "MR Sampler ODE-2 as published",
    "default at 3": "posterior sampling, re-strided, without the noise of its steps",
    "default": "the same, what `mrs-trt build` takes by default",
}
METRICS = {"psnr": ("PSNR, dB", ".2f"), "haarpsi": ("HaarPSI", ".4f"), "gmsd": ("GMSD", ".4f")}
MORE_METRICS = {**METRICS, "sharpness": ("sharpness", ".3f")}


def short() -> str:
    """README's: the published settings beside the default."""
    found = _by_name()
    pictures = found["default"]["settings"]["pictures"]
    head = (f"Kodak's {pictures} pictures, synthetic rain, shipped weights, float32", "evaluations", "PSNR")
    lines = [("degraded", "", f"{found['default']['figures']['degraded']:.2f} dB")]
    for name, words in IN_WORDS.items():
        few, best = name != "posterior at 100", name == "default"
        count = str(found[name]["settings"]["solver"]["steps"])
        value = f"{found[name]['figures']['psnr']:.2f} dB"
        lines.append((words, f"**{count}**" if few else count, f"**{value}**" if best else value))
    return markdown(head, lines)


def whole() -> str:
    """All of `benchmarks.quality`, the best first."""
    found = sorted(_by_name().items(), key=lambda item: -item[1]["figures"]["psnr"])
    lines = []
    for name, row in found:
        figures, settings = row["figures"], row["settings"]
        gain = f"{figures['psnr'] - figures['degraded']:+.2f}"
        seeds = str(settings["seeds"])
        lines.append((name, str(settings["solver"]["steps"]), seeds, *_cells(figures, METRICS), gain))
    head = ("solver", "evaluations", "seeds", *(label for label, _ in METRICS.values()), "gain, dB")
    degraded = f"{found[0][1]['figures']['degraded']:.2f}"
    return markdown(head, [*lines, ("degraded", "", "", degraded, *[""] * (len(METRICS) - 1), "")])


def scales() -> str:
    """All of `benchmarks.noise_scales`, by evaluations."""
    found = [row for row in rows.read(NOISE) if row["case"] == noise_scales.CASE]
    lines = []
    for row in sorted(found, key=lambda row: (row["settings"]["solver"]["steps"], row["figures"]["psnr"])):
        solver = row["settings"]["solver"]
        parts = (solver["steps"], f"{solver['noise_scale']:g}", f"{solver['start_noise']:g}", row["settings"]["seeds"])
        lines.append((*map(str, parts), *_cells(row["figures"], MORE_METRICS)))
    head = ("evaluations", "noise scale", "start noise", "seeds", *(label for label, _ in MORE_METRICS.values()))
    return markdown(head, lines)


def solvers(key: str, title: str) -> str:
    """One figure of every solver at every number of evaluations."""
    return table(by_solver(read(SOLVERS)), key, title)


def _by_name() -> dict[str, Row]:
    """The newest row of each solver of `benchmarks.quality`."""
    return {row["settings"]["name"]: row for row in rows.read(QUALITY) if row["case"] == quality.CASE}


def _cells(figures: JsonObject, metrics: dict[str, tuple[str, str]]) -> list[str]:
    """Means with the intervals that were measured; rows of before there were several metrics have PSNR alone."""
    return [
        ""
        if name not in figures
        else f"{figures[name]:{form}}"
        + (f" ({figures[f'{name}_low']:{form}}-{figures[f'{name}_high']:{form}})" if f"{name}_low" in figures else "")
        for name, (_, form) in metrics.items()
    ]
