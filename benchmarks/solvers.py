"""Every solver at many numbers of evaluations, on degraded pictures: `python -m benchmarks.solvers FOLDER`.

Each picture is cropped in its middle and degraded with its own seed; every solver restores it in float32 from the same
noise. Of each solver and number of evaluations: mean PSNR and SSIM to the clean pictures (uint8), and the distance to
the solution of the ODE at 100 evaluations (MR Sampler's ODE-2 as published), as the PSNR between the two.

Rows are appended as they are measured, and those that stand in the file are not measured again. Solvers that are one
table, such as ode-2 and dpm++-2 from 10 evaluations on, are run once.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from benchmarks import rows
from benchmarks.judged import degraded
from mrs.building.source import WEIGHTS, Source, read_source
from mrs.kernels.table import Table
from mrs.kernels.update import F32
from mrs.numerics.solver import Solver
from mrs.numerics.solver_file import read_solver
from mrs.numerics.tableau import tableau
from mrs.runtime.errors import InputError
from mrs.runtime.pictures.writing import find_pictures, read_picture
from mrs.runtime.psnr import psnr
from mrs.runtime.system import machine
from mrs.tuning.trial import Trial, of_network

Levels = NDArray[np.uint8]
CASE = "solvers"
EVALUATIONS = (3, 4, 5, 6, 8, 10, 15, 20, 50, 100)
REFERENCE = Solver("ode", 2, steps=100)
# Nothing but the solver differs: equal steps of t, falling order at the end, no clamp; named where it does.
PLAIN = Solver("dpm++", 2, last_step="lower-order")
SOLVERS = {
    "ode-2 published": Solver("ode", 2),
    "ode-3 published": Solver("ode", 3),
    "sde-1 published": Solver("sde", 1),
    "sde-2 published": Solver("sde", 2),
    "posterior published": Solver("posterior-published", 1),
    "euler-sde published": Solver("euler-sde", 1),
    "euler-ode published": Solver("euler-ode", 1),
    "posterior": Solver("posterior", 1),
    "sde-2": replace(PLAIN, method="sde"),
    "sde-2m": replace(PLAIN, method="sde-2m"),
    "sa-2 (0.5)": replace(PLAIN, method="sa", stochasticity=0.5),
    "heun": replace(PLAIN, method="heun"),
    "dpm++-1": replace(PLAIN, order=1),
    "dpm++-2": PLAIN,
    "dpm++-2m": replace(PLAIN, method="dpm++-2m"),
    "dpm++-3": replace(PLAIN, order=3),
    "deis-2": replace(PLAIN, method="deis", prediction="noise"),
    "deis-3": replace(PLAIN, method="deis", order=3, prediction="noise"),
    "unipc-b1-2": replace(PLAIN, method="unipc-b1"),
    "unipc-b2-2": replace(PLAIN, method="unipc-b2"),
    "unipc-b2-3": replace(PLAIN, method="unipc-b2", order=3),
    "ipndm-2": replace(PLAIN, method="ipndm", prediction="noise"),
    "ipndm-4": replace(PLAIN, method="ipndm", order=4, prediction="noise"),
    "ghvb-2 (0.2)": replace(PLAIN, method="ghvb", momentum=0.2, prediction="noise"),
}


# What `mrs-trt tune` found on other photographs; the files say how.
TUNED = sorted((Path(__file__).parent / "tuned").glob("*.json"))


def key_of(settings: Mapping[str, Any]) -> str:
    """Settings as text, so that equal ones are found; a row from before the solver had a setting has its default."""
    return json.dumps({**settings, "solver": Solver(**settings["solver"]).to_dict()}, sort_keys=True)


def main() -> None:
    parser = picture_parser(__doc__)
    parser.add_argument("--only", nargs="*", metavar="NAME", help=f"of {', '.join(SOLVERS)}, tuned")
    parser.add_argument("--evaluations", nargs="*", type=int, default=EVALUATIONS)
    parser.add_argument("--rows", type=Path, default=rows.RESULTS / "solvers.jsonl", help="file of the figures")
    options = parser.parse_args()
    source, clean, degraded, about = prepared(options)
    shared = {**about, "precision": "fp32"}
    schedule = source.schedule
    trial = Trial(of_network(source.arch, source.network), degraded, "fp32", machine.threads())
    done = {key_of(row["settings"]): row["figures"] for row in read(options.rows)}
    reference = None
    known: dict[Hashable, dict[str, float]] = {}
    print(f"degraded {np.mean([psnr(*pair) for pair in zip(degraded, clean, strict=True)]):.2f} dB", flush=True)
    # Few evaluations first: an interrupted run has measured what matters most.
    for steps in options.evaluations:
        for name in options.only or (*SOLVERS, "tuned"):
            solver = choose(name, steps, source.checkpoint.sha256)
            if solver is None:
                continue
            settings = {**shared, "name": name, "solver": solver.to_dict()}
            try:
                table = tableau(schedule, solver)
            except InputError as error:
                print(f"{name} at {steps}: {error}", flush=True)
                continue
            key = same(table)
            text = key_of(settings)
            if text in done:
                known[key] = done[text]
                continue
            if reference is None:
                whole = tableau(schedule, REFERENCE)
                reference = trial.run(whole)
            begin = time.perf_counter()
            if key not in known:
                known[key] = judge(trial.run(table), clean, reference)
            figures = known[key]
            rows.append(options.rows, CASE, settings, figures)
            text = "  ".join(f"{key} {value:.4f}" for key, value in figures.items())
            print(f"{name:<22}{steps:4} {text}  {time.perf_counter() - begin:.0f} s", flush=True)


def picture_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of weights and pictures, which `benchmarks.experiments.policies` has too."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "rain.safetensors")
    parser.add_argument("--degradation", default="rain")
    parser.add_argument("--size", type=int, default=256, help="side of the crops, default 256")
    parser.add_argument("--most", type=int, help="use only the first pictures")
    return parser


def prepared(options: argparse.Namespace) -> tuple[Source, Levels, Levels, dict[str, object]]:
    """What these options name: weights, clean and degraded crops, and the settings that a row says of them."""
    source = read_source(options.weights)
    paths = [path for path, _ in find_pictures([options.folder]).pictures][: options.most]
    clean, degraded = crops(paths, options.size, options.degradation)
    about = {
        "pictures": len(paths), "folder": options.folder.name, "crop": options.size,
        "degradation": options.degradation, "weights_sha256": source.checkpoint.sha256,
    }  # fmt: skip
    return source, clean, degraded, about


def choose(name: str, steps: int, weights: str) -> Solver | None:
    """The solver of this name at this number of evaluations; None where none was tuned for these weights."""
    if name != "tuned":
        return replace(SOLVERS[name], steps=steps)
    for path in TUNED:
        about, solver = json.loads(path.read_text()), read_solver(path)[0]
        if solver.steps == steps and about["checkpoint"]["sha256"] == weights:
            return solver
    return None


def same(table: Table) -> Hashable:
    """What tables that differ by rounding alone have in common; float32 has 7 digits."""
    rounded = tuple(tuple(round(weight, 9) + 0.0 for weight in row) for row in table.rows)
    return table.times, rounded, round(table.start, 9), table.clamp


def crops(paths: list[Path], side: int, degradation: str) -> tuple[Levels, Levels]:
    """Clean and degraded crops, (N, side, side, 3) uint8 each."""
    clean, worse = [], []
    for index, path in enumerate(paths):
        picture = read_picture(path).rgb
        y, x = ((whole - side) // 2 for whole in picture.shape[:2])
        clean.append(picture[y : y + side, x : x + side])
        worse.append(degraded(clean[-1], degradation, index))
    return np.stack(clean), np.stack(worse)


def judge(restored: F32, clean: Levels, reference: F32) -> dict[str, float]:
    """Mean figures of pictures, (N, H, W, 3) float32 in [0, 1], but clean ones uint8."""
    rounded = np.rint(restored * 255).astype(np.uint8)
    pairs = list(zip(rounded, clean, strict=True))
    return {
        "psnr_db": float(np.mean([psnr(one, other) for one, other in pairs])),
        "ssim": float(np.mean([structural_similarity(one, other, channel_axis=-1) for one, other in pairs])),
        "to_ode_100_db": distance(restored, reference),
    }


def distance(one: F32, other: F32) -> float:
    """PSNR of the mean squared error over all pictures: one bad picture counts; 200 dB where they are equal."""
    error = float(np.mean(np.square(one.astype(np.float64) - other)))
    return -10 * math.log10(error) if error > 1e-20 else 200.0


def read(path: Path) -> list[rows.Row]:
    """The rows of this benchmark in a file."""
    if not path.exists():
        return []
    return [row for row in map(json.loads, path.read_text().splitlines()) if row["case"] == CASE]


if __name__ == "__main__":
    sys.exit(main())
