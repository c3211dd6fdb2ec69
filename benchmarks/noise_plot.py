"""Plot of what `benchmarks.noise_scales` measured, docs/images/noise-scales.svg: `python -m benchmarks.noise_plot`."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

from benchmarks import rows
from benchmarks.noise_scales import CASE

matplotlib.use("svg")
from matplotlib import pyplot

PLOT = Path(__file__).parent.parent / "docs" / "images" / "noise-scales.svg"
# By evaluations.
MARKERS = {3: "v", 5: "o", 10: "s"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, default=rows.RESULTS / "noise-scales.jsonl", help="file of the figures")
    parser.add_argument("--plot", type=Path, default=PLOT, help="the picture to write")
    options = parser.parse_args()
    plot([row for row in rows.read(options.rows) if row["case"] == CASE], options.plot)


def plot(found: list[rows.Row], path: Path) -> None:
    """PSNR against HaarPSI: a line for each pair of scales, along the evaluations."""
    # The same figures give the same file.
    pyplot.rcParams["svg.hashsalt"] = "mrs-trt"
    lines: dict[tuple[float, float], dict[int, tuple[float, float]]] = defaultdict(dict)
    for row in found:
        solver, figures = row["settings"]["solver"], row["figures"]
        point = figures["psnr"], figures["haarpsi"]
        lines[solver["noise_scale"], solver["start_noise"]][solver["steps"]] = point
    figure, axis = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for (noise, start), points in sorted(lines.items()):
        steps = sorted(points)
        (line,) = axis.plot(*zip(*(points[n] for n in steps), strict=True), linewidth=1, label=f"{noise:g}, {start:g}")
        for n in steps:
            axis.plot(*points[n], MARKERS.get(n, "x"), color=line.get_color(), markersize=6)
    axis.set(xlabel="PSNR to the truth, dB", ylabel="HaarPSI")
    axis.grid(alpha=0.3)
    scales = axis.legend(title="noise scale, start noise", fontsize=8, loc="upper left")
    axis.add_artist(scales)
    shapes = [
        axis.plot([], [], marker, color="gray", label=f"{n} evaluations")[0]
        for n, marker in MARKERS.items()
        if any(n in points for points in lines.values())
    ]
    axis.legend(handles=shapes, fontsize=8, loc="lower right")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
