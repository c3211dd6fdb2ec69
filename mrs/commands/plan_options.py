"""The options of what a plan is compiled and measured for, for commands that make plans."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from mrs.commands import arguments
from mrs.commands.solver_options import read_by_solver, solver_and_schedule
from mrs.runtime.errors import InputError

if TYPE_CHECKING:
    from mrs.runtime.plan import Plan

# Flags, and what argparse is to know of them.
OPTIONS: dict[str, dict[str, Any]] = {
    "--size": {
        "type": arguments.size, "action": "append", "metavar": "HxW",
        "help": "size to compile ahead for, default 256x256; may be repeated, everything is measured at the first; "
        "every other size works too and is compiled when first met",
    },
    "--batch": {"type": arguments.positive, "default": 1, "metavar": "N", "help": "pictures at once, default 1"},
    "--backend": {
        "default": "auto", "metavar": "NAME",
        "help": "auto (default), openvino, onnxruntime, tensorrt, onnxruntime-cuda, onnxruntime-tensorrt, torch, "
        "torch-eager",
    },
    "--precision": {
        "default": "auto", "metavar": "P", "help": "auto (default), fp32, bf16, fp16, int8, fp8, bf16-after-2",
    },
    "--device": {"default": "auto", "metavar": "D", "help": "auto (default), cpu, cuda (an NVIDIA GPU)"},
    "--max-latency": {
        "type": float, "metavar": "MS",
        "help": "milliseconds for a restore of this size: the number of evaluations within it that restores best",
    },
    "--calibration": {"metavar": "FOLDER", "help": "degraded pictures to measure rounding on"},
    "--size-range": {
        "nargs": 2, "type": arguments.size, "metavar": ("MIN", "MAX"),
        "help": "tensorrt: let one engine serve every size between these; fastest at --size, slower than one for it "
        "alone",
    },
    "--engine-option": {
        "action": "append", "metavar": "NAME=VALUE",
        "help": "tensorrt: optimization-level=0..5, workspace-mib=N, hardware=same, capability or ampere, "
        "auxiliary-streams=N (docs/engines.md); may be repeated",
    },
    "--threads": arguments.THREADS,
    "--measure-again": {"action": "store_true", "help": "measure even what an equal build measured here before"},
}  # fmt: skip


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """What a plan is compiled and measured for."""
    group = parser.add_argument_group("engine", "by default the fastest of this machine whose rounding does no harm")
    for flag, how in OPTIONS.items():
        group.add_argument(flag, **how)


def inputs_of(checkpoint: str, options: argparse.Namespace) -> list[object]:
    """The paths of all that a plan is made from, None among them."""
    return [*read_by_solver(checkpoint, options), options.calibration]


def plan_builder(checkpoint: str, options: argparse.Namespace, report: Callable[[str], None]) -> Callable[..., Plan]:
    """`mrs.build` with all that the options say, but for the path of the plan and whether it may be replaced.

    Raises:
        InputError: for options that are wrong together or by themselves, or where torch is not installed.
        CheckpointError: for a checkpoint that cannot be read.
    """
    if options.max_latency is not None and options.steps is not None:
        raise InputError("--max-latency chooses the number of evaluations", hint="leave out --steps or --max-latency")
    if options.calibration is not None and not os.path.isdir(options.calibration):
        raise InputError(
            f"calibration folder {options.calibration} does not exist", hint="give a folder of degraded pictures"
        )
    solver, schedule = solver_and_schedule(checkpoint, options)
    from mrs.building.build import build

    size, *further_sizes = options.size or [(256, 256)]
    return partial(
        build,
        checkpoint,
        size=size,
        further_sizes=further_sizes,
        batch=options.batch,
        solver=solver,
        schedule=schedule,
        output=options.network_output,
        override_checkpoint=options.override_checkpoint,
        **arguments.given(options, *arguments.NETWORK),
        backend=options.backend,
        precision=options.precision,
        device=options.device,
        max_latency=options.max_latency,
        calibration=options.calibration,
        threads=options.threads,
        measure_again=options.measure_again,
        builder_options=options.engine_option or (),
        size_range=options.size_range and tuple(options.size_range),
        report=report,
    )
