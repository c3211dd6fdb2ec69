"""`mrs-trt presets`: the published settings that a build knows by name."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mrs.commands import arguments
from mrs.kernels.terminal import emit

if TYPE_CHECKING:
    from mrs.presets import Preset

HEAD = ("name", "restores", "network", "process", "published", "here", "source")


def add_parser(commands: arguments.SubParsers) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "presets", help="list the published settings",
        description="List the published settings, for `mrs-trt build CKPT --preset NAME`: the process that a "
        "checkpoint was trained for, its authors' sampler and evaluations, and how many the recommended solver takes.",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a table."""
    from mrs.presets import PRESETS

    rows = [HEAD, *((name, *_row(preset)) for name, preset in PRESETS.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        emit("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(preset: Preset) -> Iterator[str]:
    schedule = preset.schedule
    yield preset.task
    yield f"{preset.architecture}{f' + {preset.companion}' if preset.companion else ''}"
    noise = "" if preset.noise_sigma is None else f", from noise {preset.noise_sigma:g}"
    upscale = "" if preset.upscale == 1 else f", after x{preset.upscale}"
    yield f"max_sigma {schedule.max_sigma:g}, T {schedule.T}, eps {schedule.eps:g}{noise}{upscale}"
    yield f"{preset.sampler}, {preset.evaluations}"
    yield str(preset.recommended)
    yield preset.source
