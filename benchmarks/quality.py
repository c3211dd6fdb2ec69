"""Whole pictures restored by a few solvers, in float32, by several metrics: `python -m benchmarks.quality FOLDER`.

Every picture is degraded with its own seed and restored with several seeds (once where nothing is drawn, and by the
slow solvers, of which one says enough). Of each picture the mean over the seeds counts; PSNRs are of the uint8
pictures, in dB. Rows are appended as they are measured, and those that stand in the file are not measured again: a
quarter of an hour on two cores for the few-step solvers, as long again for `posterior at 100`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import rows
from benchmarks.judged import APART, U8, Judge, degraded, over_seeds, summary
from mrs.building.source import WEIGHTS, Source, read_source
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.graph_variant import first_variant
from mrs.kernels.table import Table
from mrs.numerics.intents import INTENTS
from mrs.numerics.solver import RECOMMENDED, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.cpu_chain import CpuChain
from mrs.runtime.padding import padded_size
from mrs.runtime.pictures.writing import find_pictures, read_picture
from mrs.runtime.psnr import psnr
from mrs.runtime.system import machine

CASE = "quality of whole pictures"
POSTERIOR = Solver(method="posterior", order=1, steps=100)
SOLVERS = {
    "default": RECOMMENDED,
    "default at 3": replace(RECOMMENDED, steps=3),
    "faithful": INTENTS["faithful"].solver,
    "vivid": INTENTS["vivid"].solver,
    "posterior at 10": replace(POSTERIOR, steps=10),
    "published ode-2 at 10": Solver(steps=10),
    "published sde-2 at 10": Solver(method="sde", steps=10),
    "posterior at 100": POSTERIOR,
}
SEEDS = {name: 1 if solver.steps == 100 or "published" in name else 4 for name, solver in SOLVERS.items()}


@dataclass(frozen=True)
class Pictures:
    """Clean and degraded ones, (H, W, 3) each, and what rows say of them."""

    clean: list[U8]
    degraded: list[U8]
    about: dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clean pictures")
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "rain.safetensors")
    parser.add_argument("--degradation", default="rain")
    parser.add_argument("--only", nargs="*", metavar="NAME", help=f"of {', '.join(SOLVERS)}")
    parser.add_argument("--most", type=int, help="use only the first pictures")
    parser.add_argument("--rows", type=Path, default=rows.RESULTS / "quality.jsonl", help="file of the figures")
    options = parser.parse_args()
    source = read_source(options.weights)
    pictures = prepared(options.folder, options.degradation, options.most)
    about = {**pictures.about, "weights_sha256": source.checkpoint.sha256, "precision": "fp32"}
    done = [row["settings"] for row in rows.read(options.rows) if row["case"] == CASE]
    before = [psnr(*pair) for pair in zip(pictures.degraded, pictures.clean, strict=True)]
    print(f"{'degraded':<24}{np.mean(before):8.2f} dB", flush=True)
    judge = Judge()
    for name in options.only or SOLVERS:
        table = tableau(source.schedule, SOLVERS[name])
        seeds = SEEDS[name] if table.draws or table.start else 1
        settings = {**about, "name": name, "solver": SOLVERS[name].to_dict(), "seeds": seeds}
        if json.loads(json.dumps(settings)) in done:
            continue
        begin = time.perf_counter()
        runs = [
            [judge.judge(*pair) for pair in zip(several, pictures.clean, strict=True)]
            for several in restored(source, table, pictures, seeds)
        ]
        each = over_seeds(runs)
        gains = np.array(each["psnr"]) - before
        figures = {**summary(each), "degraded": float(np.mean(before)), "worst_gain": float(gains.min())}
        rows.append(options.rows, CASE, settings, {**figures, "each": each})
        text = "  ".join(f"{metric} {figures[metric]:.4f}" for metric in each)
        print(f"{name:<24}{text}  worst {gains.min():+.2f} dB  {time.perf_counter() - begin:.0f} s", flush=True)


def prepared(folder: Path, degradation: str, most: int | None) -> Pictures:
    """A folder's pictures, each degraded with its own seed."""
    paths = [path for path, _ in find_pictures([folder]).pictures][:most]
    clean, worse = [], []
    for index, path in enumerate(paths):
        clean.append(read_picture(path).rgb)
        worse.append(degraded(clean[-1], degradation, index))
    return Pictures(clean, worse, {"pictures": len(paths), "folder": folder.name, "degradation": degradation})


def restored(source: Source, table: Table, pictures: Pictures, seeds: int) -> Iterator[Iterator[U8]]:
    """For each seed the pictures, restored one by one. Pictures of one size share a chain."""
    net = source.network
    engine = backends.available()[0]
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    graph = build_graph(state, net.arch, variant=first_variant(engine)).SerializeToString()
    modulation = modulation_table(net, table.times[:-1])
    chains: dict[tuple[int, int], CpuChain] = {}

    def chain_of(size: tuple[int, int]) -> CpuChain:
        if size not in chains:
            shape = 1, 6, *padded_size(*size, net.arch.multiple)
            network = engine.compile(graph, modulation, shape, "fp32", CompileSettings(machine.threads()))
            chains[size] = CpuChain(network, table, machine.threads())
        return chains[size]

    def of_seed(seed: int) -> Iterator[U8]:
        for index, picture in enumerate(pictures.degraded):
            out = np.empty_like(picture)
            chain = chain_of((picture.shape[0], picture.shape[1]))
            chain.restore_into(picture[None], out[None], seed=seed * APART + index)
            yield out

    return map(of_seed, range(seeds))


if __name__ == "__main__":
    sys.exit(main())
