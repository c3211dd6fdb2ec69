"""One evaluation of the network in every graph form and on every engine: `python -m benchmarks.graph_forms`."""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks import rows
from benchmarks.networks import REFUSION, random_network
from mrs.export.graph import GATES, NORMS, GraphShape, build_graph
from mrs.export.modulation import modulation_table
from mrs.export.nafnet import Architecture
from mrs.runtime import backends, machine

NETWORKS = {"width 16": Architecture(16, (1, 1, 1, 4), 1, (1, 1, 1, 1)), "width 64": REFUSION}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="height and width, default 256")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=Path, help="append the figures to this file")
    options = parser.parse_args()
    for name, arch in NETWORKS.items():
        measure(name, arch, options.size, options.rounds, options.rows)


def measure(name: str, arch: Architecture, size: int, rounds: int, row_file: Path | None) -> None:
    net = random_network(arch)
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    modulation = modulation_table(net, [37.0])
    mu = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
    x = mu + np.float32(0.2) * np.random.default_rng(1).standard_normal(mu.shape, dtype=np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(x), torch.from_numpy(mu), 37.0).numpy()
    networks = {}
    for norm, gate in product(NORMS, GATES):
        graph = build_graph(state, arch, shape=GraphShape(norm, gate)).SerializeToString()
        for backend in backends.available():
            for precision in backend.precisions():
                network = backend.compile(graph, modulation, (1, 6, size, size), precision, machine.threads())
                network.packed[:] = np.concatenate([x - mu, mu], axis=1)
                network.evaluate(0)
                error = float(np.abs(network.output - expected).max() / np.abs(expected).max())
                networks[f"{norm} {gate} {backend.name} {precision}"] = network, error
    times: dict[str, list[float]] = {key: [] for key in networks}
    for _ in range(rounds):
        for key, (network, _) in networks.items():
            begin = time.perf_counter()
            network.evaluate(0)
            times[key].append(1e3 * (time.perf_counter() - begin))
    figures = {}
    for key, (_, error) in networks.items():
        median = statistics.median(times[key])
        figures[f"{key} ms"] = median
        print(f"{name:<10}{key:<40}{median:8.1f} ms ({min(times[key]):.1f}-{max(times[key]):.1f})  error {error:.1e}")
    if row_file is not None:
        rows.append(row_file, f"graph forms {name}", {"size": size, "rounds": rounds}, figures)


if __name__ == "__main__":
    main()
