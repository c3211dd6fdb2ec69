"""Metrics of quality by name: titles, order, and what a row has of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrs.benchmarking.results import OURS, Quality
from mrs.reporting.parts import Cell
from mrs.reporting.text import between

# Of which less is better.
LESS = {"dists", "fid", "gmsd", "lpips", "mae", "mse"}
# Restored by this program: with the plan's solver, and with others on its network.
OWN = (OURS, "solver")
TITLES = {
    "psnr": "PSNR, dB", "psnr_y": "PSNR on Y, dB", "ssim": "SSIM", "ssim_y": "SSIM on Y", "haarpsi": "HaarPSI",
    "gmsd": "GMSD", "fsim": "FSIM", "lpips": "LPIPS", "fid": "FID",
}  # fmt: skip


def title(metric: str) -> str:
    """With its direction where that is not the usual one."""
    return TITLES.get(metric, metric) + (", less is better" if metric in LESS else "")


def names(rows: Sequence[Quality]) -> list[str]:
    """Those that papers give first, then others by name."""
    found = sorted({name for row in rows for name in row.metrics})
    return sorted(found, key=lambda name: [*TITLES, name].index(name))


def mean(row: Quality, metric: str) -> float:
    """Over the pictures."""
    return float(np.mean(row.metrics[metric]))


def bounds(row: Quality, metric: str) -> tuple[float, float]:
    """Of the mean, as they were measured; the mean itself where there were too few pictures for an interval."""
    return row.intervals.get(metric, 2 * (mean(row, metric),))


def bounds_cell(row: Quality, metric: str) -> Cell:
    """The bounds as text."""
    if metric not in row.intervals:
        return Cell.of(None)
    low, high = row.intervals[metric]
    return Cell(between(low, high), low)


def who(row: Quality) -> str:
    """Who and how; the solver is not said twice."""
    solver = f", {row.solver}" if row.solver and row.solver not in row.label else ""
    return f"{row.label}{solver}" + (f", {row.evaluations} evaluations" if row.evaluations else "")
