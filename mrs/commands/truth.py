"""`mrs-trt tune --target truth`: few evaluations that restore best, judged on pictures not searched on."""

from __future__ import annotations

import argparse
import json
import statistics
from typing import TYPE_CHECKING

from mrs.commands.terminal import progress
from mrs.kernels.terminal import emit
from mrs.runtime.errors import InputError

if TYPE_CHECKING:
    from mrs.numerics.schedule import Schedule
    from mrs.numerics.solver import Solver
    from mrs.tuning.pairs import Pairs
    from mrs.tuning.trial import TimedNetwork
    from mrs.tuning.truth import Judged, Truest

PICTURES, SEEDS, BATCH = 48, 2, 4


def check(options: argparse.Namespace) -> None:
    """Refuse what needs no network to be seen."""
    from mrs.tuning.scoring import check_metric

    check_metric(options.metric or "psnr")
    if not options.fit:
        raise InputError("--no-fit is for the many-step solution", hint="leave it out")
    if options.clean is not None and options.data is None:
        raise InputError("--clean stands beside --data", hint="give the degraded pictures too")
    if options.clean is not None and not options.clean.is_dir():
        raise InputError(f"folder {options.clean} does not exist", hint="give a folder of pictures")
    if options.resume and not options.output.is_file():
        raise InputError(f"{options.output} does not exist: nothing to go on from", hint="leave --resume out")


def run(
    options: argparse.Namespace,
    network: TimedNetwork,
    schedule: Schedule,
    output: str,
    about: dict[str, object],
    degradation: str | None,
) -> int:
    """Search, write the file at each better solver, print the table.

    Args:
        options: the command's.
        network: in which times and weights are searched.
        schedule: its process.
        output: what it predicts.
        about: where it comes from.
        degradation: what it was trained against, where that is known: clean pictures are degraded so.
    """
    from mrs.numerics.solver_file import write_solver
    from mrs.runtime.system import machine
    from mrs.tuning.judging import Judge
    from mrs.tuning.pairs import read_pairs
    from mrs.tuning.scoring import metric
    from mrs.tuning.trial import Trial
    from mrs.tuning.truth import tune_truth

    pairs = read_pairs(
        options.data, options.clean, options.crop, options.pictures or PICTURES, network.multiple,
        options.degradation, degradation,
    )  # fmt: skip
    judged_by = metric(options.metric or "psnr")
    about |= {
        "target": "truth", "metric": judged_by.name, "evaluations": options.evaluations,
        "degradation": pairs.degradation, "pictures": list(pairs.clean.shape), "pictures_sha256": pairs.digest,
    }  # fmt: skip
    begin = _earlier(options, schedule, about) if options.resume else None
    threads = options.threads or machine.threads()
    searched, unseen = (
        Judge(Trial(network, part.degraded, "fp32", threads, BATCH), part.clean, judged_by, options.seeds or SEEDS)
        for part in pairs.divided()
    )
    say = progress(options.quiet)
    say(f"{_counted(pairs)}, {len(unseen.truth)} crops of them kept back")
    overwrite = options.overwrite or options.resume

    def keep(solver: Solver) -> None:
        # A search that is interrupted goes on from here with --resume.
        nonlocal overwrite
        write_solver(options.output, solver, schedule, {**about, "finished": False}, overwrite)
        overwrite = True

    found = tune_truth(
        searched, unseen, schedule, options.evaluations, output,
        begin=begin, seconds=options.seconds, report=say, kept=keep,
    )  # fmt: skip
    about |= {
        "finished": True, "best": _told(found.best), "plain": _told(found.plain),
        "gain_unseen_db": _rounded(_gains(found)), "gain_unseen_interval": _interval(found),
        "plain_settings": [
            {"noise_scale": solver.noise_scale, "start_noise": solver.start_noise, "searched_db": round(score, 3)}
            for solver, score in found.tried
        ],
    }  # fmt: skip
    write_solver(options.output, found.best.solver, schedule, about, overwrite)
    emit(table(found, judged_by.name))
    return 0


def table(found: Truest, metric: str) -> str:
    """The plain setting and what was found, on both kinds of pictures."""
    lines = [f"{metric + ', dB':<58}{'searched on':>12}{'unseen':>9}"]
    lines += [_line(found.plain), _line(found.best)]
    ends = _interval(found)
    sure = "" if ends is None else f", 95 % {ends[0]:+.2f} to {ends[1]:+.2f}"
    lines.append(f"gain on {len(found.best.unseen)} unseen pictures {_rounded(_gains(found)):+.2f} dB{sure}")
    return "\n".join(lines)


def _line(judged: Judged) -> str:
    from mrs.tuning.truth import spoken

    times = " ".join(f"{time:g}" for time in judged.solver.times) or judged.solver.spacing
    mean = statistics.fmean(judged.unseen)
    return f"{spoken(judged.solver):<58}{judged.searched:>12.2f}{mean:>9.2f}  {times}"


def _gains(found: Truest) -> list[float]:
    return [best - plain for best, plain in zip(found.best.unseen, found.plain.unseen, strict=True)]


def _rounded(values: list[float]) -> float:
    return round(statistics.fmean(values), 3)


def _interval(found: Truest) -> list[float] | None:
    from mrs.benchmarking.quality.intervals import interval

    ends = interval(_gains(found))
    return None if ends is None else [round(end, 3) for end in ends]


def _told(judged: Judged) -> dict[str, object]:
    return {
        "searched_db": round(judged.searched, 3), "unseen_db": _rounded(list(judged.unseen)),
        "solver": judged.solver.to_dict(),
    }  # fmt: skip


def _counted(pairs: Pairs) -> str:
    side = pairs.clean.shape[1]
    return f"{len(pairs.clean)} crops of {side}x{side} of {len(set(pairs.pictures))} pictures"


def _earlier(options: argparse.Namespace, schedule: Schedule, about: dict[str, object]) -> Solver:
    """The solver that an earlier search left in the output's file, where that searched for the same."""
    from mrs.numerics.solver_file import read_solver

    solver, found_for = read_solver(options.output)
    said = json.loads(options.output.read_text(encoding="utf-8"))
    same = ("target", "metric", "evaluations", "pictures_sha256", "checkpoint")
    wrong = next((name for name in same if said.get(name) != about[name]), None)
    if found_for != schedule:
        wrong = "schedule"
    if wrong is not None:
        raise InputError(
            f"{options.output} was found for another {wrong.removesuffix('_sha256')}",
            hint="give the same options as then, or leave --resume out and pass --overwrite",
        )
    return solver
