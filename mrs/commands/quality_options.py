"""The options of `mrs-trt bench` on quality."""

from __future__ import annotations

import argparse
from pathlib import Path

from mrs.benchmarking.quality.wanted import Wanted
from mrs.commands import arguments
from mrs.runtime.errors import InputError

DEPENDENT = (
    "clean", "degradation", "severity", "data_seed", "pictures", "middle", "crop_border", "seeds", "solvers",
    "lpips_weights",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options from which `wanted` reads; all but --data need it."""
    group = parser.add_argument_group(
        "quality", "PSNR, SSIM and perceptual metrics on pictures whose clean ones are known (docs/benchmarks.md)"
    )
    group.add_argument(
        "--data", type=Path, metavar="FOLDER",
        help="clean pictures, which are degraded as the plan's are; or a folder with LQ and GT in it, or the like",
    )  # fmt: skip
    group.add_argument(
        "--clean", type=Path, metavar="FOLDER", help="the clean ones, where --data has the degraded ones"
    )
    group.add_argument("--degradation", metavar="NAME", help="of clean pictures, by its name in docs/tasks.md")
    group.add_argument("--severity", type=float, metavar="S", help="of it, 0 to 1; by default drawn for each picture")
    group.add_argument("--data-seed", type=arguments.seed, metavar="N", help="of it, default 0")
    group.add_argument("--pictures", type=arguments.positive, metavar="N", help="at most, default 24")
    group.add_argument("--middle", type=arguments.positive, metavar="N", help="use the middle NxN pixels of each")
    group.add_argument(
        "--crop-border", type=arguments.natural, metavar="N",
        help="pixels at the border that do not count; by default the factor of super-resolution, else 0",
    )  # fmt: skip
    group.add_argument("--seeds", type=arguments.positive, metavar="N", help="noises for each picture, default 1")
    group.add_argument(
        "--solvers", nargs="+", metavar="NAME:N,N",
        help="others on the plan's network, with their evaluations, such as ode-2:3,5,10 posterior:100 "
        "published-ode-2:10, or files of mrs-trt tune",
    )  # fmt: skip
    group.add_argument("--lpips-weights", type=Path, metavar="FILE", help="measure LPIPS too (docs/benchmarks.md)")
    group.add_argument("--fid-weights", action=arguments.Elsewhere, refusal=_no_fid)


def wanted(options: argparse.Namespace) -> Wanted | None:
    """What was asked for; None where no quality was.

    Raises:
        InputError: for options that need --data, or libraries that are missing.
    """
    given = arguments.given(options, *DEPENDENT)
    if options.data is None:
        if given:
            flag = next(iter(given)).replace("_", "-")
            raise InputError(f"--{flag} needs pictures to measure quality on", hint="give --data FOLDER")
        return None
    if options.lpips_weights is not None:
        arguments.require("build", "torch", "safetensors")
    names = {"crop_border": "border", "lpips_weights": "lpips"}
    settings = {names.get(name, name): value for name, value in given.items()}
    return Wanted(data=options.data, **{**settings, "solvers": tuple(settings.get("solvers", ()))})


def _no_fid(flag: str, value: str | None) -> InputError:
    return InputError(
        "FID is not measured here: some dozens of pictures do not settle it",
        hint="restore a whole test set into a folder with mrs-trt restore, and give both folders to torch-fidelity",
    )
