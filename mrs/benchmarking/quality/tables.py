"""What is printed of quality."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from mrs.benchmarking.quality.measuring import QualityFound
from mrs.benchmarking.quality.metrics import METRICS
from mrs.benchmarking.results import OURS, Quality


def lines(found: QualityFound) -> list[str]:
    """Means of every metric; how sure PSNR is, and how PSNR and SSIM differ from the plan's own; notes."""
    text = [f"quality   {found.data}", "", *_means(found.quality)]
    intervals = _intervals(found.quality)
    if intervals:
        text += ["", *intervals]
    if found.notes:
        text += ["", *(f"note      {note}" for note in found.notes)]
    return text


def _means(quality: Sequence[Quality]) -> list[str]:
    names = [name for name in METRICS if name in quality[0].metrics]
    wide = _width(quality)
    head = f"{'mean':<{wide}}{'evaluations':>12}" + "".join(f"{METRICS[name].label:>11}" for name in names)
    timed = any(each.milliseconds is not None for each in quality)
    rows = [head + (f"{'ms':>10}" if timed else "")]
    for each in quality:
        row = f"{each.label:<{wide}}{each.evaluations:>12}"
        row += "".join(f"{statistics.fmean(each.metrics[name]):>11.{METRICS[name].digits}f}" for name in names)
        if timed:
            row += f"{'' if each.milliseconds is None else f'{each.milliseconds:.1f}':>10}"
        rows.append(row)
    down = [METRICS[name].label for name in names if not METRICS[name].higher_is_better]
    if down:
        rows.append(f"lower is better of {', '.join(down)}")
    return rows


def _intervals(quality: Sequence[Quality]) -> list[str]:
    """Empty where there are none."""
    ours = quality[0]
    if "psnr" not in ours.intervals:
        return []
    wide, compared = _width(quality), ("psnr", "ssim")
    titles = [f"{METRICS[name].label} to this plan" for name in compared]
    rows = [f"{'95 %':<{wide}}{METRICS['psnr'].label:>18}" + "".join(f"{title:>30}" for title in titles)]
    for each in quality:
        low, high = each.intervals["psnr"]
        row = f"{each.label:<{wide}}{f'{low:.2f} to {high:.2f}':>18}"
        for name in compared if each.by != OURS else ():
            mean, low, high = each.against_ours[name]
            digits = METRICS[name].digits
            row += f"{f'{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})':>30}"
        rows.append(row)
    if ours.between_seeds:
        spread = (f"{METRICS[name].label} {ours.between_seeds[name]:.{METRICS[name].digits}f}" for name in compared)
        rows.append(f"from one noise to the next, of {ours.seeds}, this plan's mean moves by {', '.join(spread)}")
    return rows


def _width(quality: Sequence[Quality]) -> int:
    return 2 + max(len(each.label) for each in quality)
