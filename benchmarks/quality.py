"""PSNR of solvers on synthetically degraded pictures, in float32: `python -m benchmarks.quality FOLDER`.

Every picture is degraded with its own seed; each solver restores it with seed 0; PSNRs are of the uint8 pictures, in
dB, averaged over the pictures.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import rows
from mrs import degradations
from mrs.building.source import WEIGHTS, read_source
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.graph_variant import first_variant
from mrs.numerics.solver import RECOMMENDED, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.cpu_chain import CpuChain
from mrs.runtime.padding import padded_size
from mrs.runtime.pictures.writing import find_pictures, read_picture
from mrs.runtime.psnr import psnr
from mrs.runtime.system import machine

POSTERIOR = Solver(method="posterior", order=1, steps=100)
SOLVERS = {
    "default": RECOMMENDED,
    "posterior at 4": replace(POSTERIOR, steps=4),
    "posterior at 10": replace(POSTERIOR, steps=10),
    "published ode-2 at 10": Solver(steps=10),
    "published sde-2 at 10": Solver(method="sde", steps=10),
    "posterior at 100": POSTERIOR,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "rain.safetensors")
    parser.add_argument("--degradation", default="rain")
    parser.add_argument("--only", nargs="*", metavar="NAME", help=f"of {', '.join(SOLVERS)}")
    parser.add_argument("--most", type=int, help="use only the first pictures")
    parser.add_argument("--rows", type=Path, help="append the figures to this file")
    options = parser.parse_args()
    pictures = [path for path, _ in find_pictures([options.folder]).pictures][: options.most]
    chosen = {name: SOLVERS[name] for name in options.only or SOLVERS}
    measure(pictures, chosen, options.weights, options.degradation, options.rows)


def measure(
    pictures: list[Path], solvers: dict[str, Solver], weights: Path, degradation: str, row_file: Path | None
) -> dict[str, float]:
    """Mean PSNR of each solver and of the degraded pictures; prints a table, keeps a row where asked."""
    source = read_source(weights)
    net = source.network
    schedule = source.schedule
    engine = backends.available()[0]
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    graph = build_graph(state, net.arch, variant=first_variant(engine)).SerializeToString()
    degrade = degradations.get(degradation)
    pairs = []
    for index, path in enumerate(pictures):
        clean = read_picture(path).rgb
        degraded = degrade(clean.astype(np.float32) / 255, np.random.default_rng([0, index]))
        pairs.append((clean, np.rint(degraded * 255).astype(np.uint8)))
    scores = {"degraded": np.array([psnr(degraded, clean) for clean, degraded in pairs])}
    print(f"{'degraded':<26}{scores['degraded'].mean():8.2f} dB", flush=True)
    for name, solver in solvers.items():
        begin = time.perf_counter()
        table = tableau(schedule, solver)
        modulation = modulation_table(net, table.times[:-1])
        chains: dict[tuple[int, int], CpuChain] = {}
        found = []
        for clean, degraded in pairs:
            size = clean.shape[0], clean.shape[1]
            if size not in chains:
                shape = 1, 6, *padded_size(*size, net.arch.multiple)
                network = engine.compile(graph, modulation, shape, "fp32", CompileSettings(machine.threads()))
                chains[size] = CpuChain(network, table, machine.threads())
            out = np.empty_like(degraded)
            chains[size].restore_into(degraded[None], out[None], seed=0)
            found.append(psnr(out, clean))
        scores[name] = np.array(found)
        gain = scores[name] - scores["degraded"]
        print(
            f"{name:<26}{scores[name].mean():8.2f} dB  {gain.mean():+.2f} dB (worst {gain.min():+.2f})"
            f"  {solver.steps} evaluations  {time.perf_counter() - begin:.0f} s",
            flush=True,
        )
    means = {name: float(values.mean()) for name, values in scores.items()}
    worst = {f"{name}_worst_gain_db": float((values - scores["degraded"]).min()) for name, values in scores.items()}
    if row_file is not None:
        settings = {
            "pictures": len(pictures), "folder": pictures[0].parent.name, "degradation": degradation,
            "weights_sha256": source.checkpoint.sha256, "precision": "fp32",
            "solvers": {name: solver.to_dict() for name, solver in solvers.items()},
        }  # fmt: skip
        rows.append(
            row_file,
            f"quality of {weights.name}",
            settings,
            {f"{name}_db": mean for name, mean in means.items()} | worst,
        )
    return means


if __name__ == "__main__":
    sys.exit(main())
