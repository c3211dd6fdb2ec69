"""Plot and tables of what `benchmarks.solvers` measured: `python -m benchmarks.solver_report`.

Writes docs/images/solvers.svg and prints the tables of docs/solvers.md as Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

from benchmarks import rows
from benchmarks.solvers import EVALUATIONS, read

matplotlib.use("svg")
from matplotlib import pyplot

PLOT = Path(__file__).parent.parent / "docs" / "images" / "solvers.svg"
# Few enough lines to tell apart.
SHOWN = (
    "ode-2 published", "ode-3 published", "sde-2 published", "posterior", "heun", "dpm++-3", "deis-3", "unipc-b2-2",
    "ipndm-4", "tuned",
)  # fmt: skip
Figures = dict[str, dict[int, dict[str, float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=rows.RESULTS / "solvers.jsonl", help="file of the figures")
    parser.add_argument("--plot", type=Path, default=PLOT, help="the picture to write")
    options = parser.parse_args()
    figures = by_solver(read(options.rows))
    plot(figures, options.plot)
    for key, title in (("psnr_db", "PSNR, dB"), ("ssim", "SSIM"), ("to_ode_100_db", "distance, dB")):
        print(table(figures, key, title), end="\n\n")


def by_solver(found: list[rows.Row]) -> Figures:
    """Figures by name and number of evaluations; of several measurements the last."""
    figures: Figures = defaultdict(dict)
    for row in found:
        figures[row["settings"]["name"]][row["settings"]["solver"]["steps"]] = row["figures"]
    return dict(figures)


def table(figures: Figures, key: str, title: str) -> str:
    """One figure of all solvers as a Markdown table."""
    lines = [f"| {title} | " + " | ".join(map(str, EVALUATIONS)) + " |", "|---" * (len(EVALUATIONS) + 1) + "|"]
    form = ".3f" if key == "ssim" else ".1f" if key == "to_ode_100_db" else ".2f"
    for name, of in figures.items():
        cells = [cell(of[steps][key], form) if steps in of else "" for steps in EVALUATIONS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value: float, form: str) -> str:
    """A figure; the reference itself is at no distance."""
    return "equal" if value >= 200 else format(value, form)


def plot(figures: Figures, path: Path) -> None:
    """Distance to the 100-step solution and PSNR to the truth, over evaluations."""
    # The same figures give the same file.
    pyplot.rcParams["svg.hashsalt"] = "mrs-trt"
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    titles = (
        ("to_ode_100_db", "nearness to the 100-step ODE solution (PSNR between the two), dB"),
        ("psnr_db", "PSNR to the truth, dB"),
    )
    for axis, (key, title) in zip(axes, titles, strict=True):
        for name in SHOWN:
            points = [(n, of[key]) for n, of in sorted(figures.get(name, {}).items()) if of[key] < 200]
            if points:
                own = {"color": "black", "marker": "*", "markersize": 9} if name == "tuned" else {"marker": "o"}
                axis.plot(*zip(*points, strict=True), label=name, linewidth=1.2, **{"markersize": 3, **own})
        axis.set(xscale="log", xlabel="network evaluations", title=title)
        axis.set_xticks(EVALUATIONS, [str(n) for n in EVALUATIONS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    # Single steps and steps that are too long for their method fall out of the picture.
    axes[0].set_ylim(20, 85)
    axes[1].set_ylim(26, 32)
    axes[1].legend(fontsize=8, ncols=2)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
