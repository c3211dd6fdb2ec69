"""What order at the end, clamping and a later start do: `python -m benchmarks.experiments.policies FOLDER`.

Pictures as in `benchmarks.solvers`. Of each setting: PSNR to the truth in float32, distance to the ODE's solution at
100 evaluations, and the distance between bfloat16 and float32, all in dB.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

from benchmarks import rows
from benchmarks.solvers import REFERENCE, distance, judge, picture_parser, prepared
from mrs.kernels.table import CLAMPS
from mrs.numerics.solver import LAST_STEPS, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.system import machine
from mrs.tuning.trial import Trial, of_network

POSTERIOR = Solver("posterior", 1)
STARTS = (100.0, 95.0, 90.0, 80.0, 70.0, 60.0, 50.0)


def main() -> None:
    parser = picture_parser(__doc__)
    parser.add_argument("--rows", type=Path, help="append the figures to this file")
    options = parser.parse_args()
    source, clean, degraded, about = prepared(options)
    schedule = source.schedule
    network = of_network(source.arch, source.network)
    trials = {
        precision: Trial(network, degraded, precision, machine.threads()) for precision in network.backend.precisions()
    }

    def run(solver: Solver, precision: str = "fp32"):  # type: ignore[no-untyped-def]
        table = tableau(schedule, solver)
        return trials[precision].run(table)

    reference = run(REFERENCE)
    figures = {}
    for name, solver in settings().items():
        exact = run(solver)
        found = judge(exact, clean, reference)
        line = {"psnr": found["psnr_db"], "distance": found["to_ode_100_db"]}
        if "bf16" in trials:
            line["bf16"] = distance(run(solver, "bf16"), exact)
        figures |= {f"{name} {key} db": value for key, value in line.items()}
        print(f"{name:<42}" + "".join(f"  {key} {value:6.2f}" for key, value in line.items()), flush=True)
    if options.rows is not None:
        rows.append(options.rows, "policies", about, figures)


def settings() -> dict[str, Solver]:
    """Every setting by name."""
    found = {}
    for steps, order, last_step, clamp in product((3, 5, 10), (2, 3), LAST_STEPS, CLAMPS):
        if order == 2 or clamp == "none":
            found[f"dpm++-{order} at {steps}, {last_step}, clamp {clamp}"] = Solver(
                "dpm++", order, steps=steps, last_step=last_step, clamp=clamp
            )
    for steps, clamp in product((3, 5, 10), CLAMPS):
        found[f"posterior at {steps}, clamp {clamp}"] = replace(POSTERIOR, steps=steps, clamp=clamp)
    for steps, start in product((3, 4, 5), STARTS):
        found[f"posterior at {steps}, from t = {start:g}"] = replace(POSTERIOR, steps=steps, start_time=start)
    return found


if __name__ == "__main__":
    sys.exit(main())
