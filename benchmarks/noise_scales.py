"""What less noise does to pictures, by several metrics: `python -m benchmarks.noise_scales FOLDER`.

Posterior sampling at few evaluations with the noise of its steps and of its start scaled, on the pictures of
`benchmarks.solvers`, over several seeds; a setting that draws nothing is run once. Of each picture the mean over the
seeds is kept, of all pictures mean and interval: docs/solvers.md says what the metrics are. Rows are appended as they
are measured, and those that stand in the file are not measured again. Twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks import rows
from benchmarks.judged import APART, Judge, over_seeds, summary
from benchmarks.solvers import picture_parser, prepared
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.system import machine
from mrs.tuning.trial import Trial, of_network

CASE = "noise scales"
EVALUATIONS = (3, 5, 10)
# Of the steps and of the start; the most interesting first.
SCALES = ((0.0, 0.0), (1.0, 1.0), (0.0, 0.5), (0.0, 1.0), (0.5, 1.0), (0.5, 0.5))
SEEDS = 4


def main() -> None:
    parser = picture_parser(__doc__)
    parser.add_argument("--evaluations", nargs="*", type=int, default=EVALUATIONS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--rows", type=Path, default=rows.RESULTS / "noise-scales.jsonl", help="file of the figures")
    options = parser.parse_args()
    measure(options)


def measure(options: argparse.Namespace) -> None:
    """All settings that the file has not got yet."""
    source, clean, degraded, about = prepared(options)
    trial = Trial(of_network(source.arch, source.network), degraded, "fp32", machine.threads())
    judge = Judge()
    done = [row["settings"] for row in rows.read(options.rows)]
    for noise, start in SCALES:
        for steps in options.evaluations:
            solver = Solver("posterior", 1, steps=steps, noise_scale=noise, start_noise=start)
            table = tableau(source.schedule, solver)
            seeds = options.seeds if table.draws or table.start else 1
            settings = {**about, "precision": "fp32", "solver": solver.to_dict(), "seeds": seeds}
            if json.loads(json.dumps(settings)) in done:
                continue
            begin = time.perf_counter()
            runs = []
            for seed in range(seeds):
                restored = np.rint(trial.run(table, seed * APART) * 255).astype(np.uint8)
                runs.append([judge.judge(*pair) for pair in zip(restored, clean, strict=True)])
            each = over_seeds(runs)
            found = summary(each)
            rows.append(options.rows, CASE, settings, {**found, "each": each})
            text = "  ".join(f"{name} {found[name]:.4f}" for name in each)
            print(f"{steps:3}  {noise:<5g}{start:<5g}{text}  {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
