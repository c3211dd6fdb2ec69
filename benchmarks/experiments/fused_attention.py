"""DA-CLIP's network on ONNX Runtime with its attention as one node and as three, random weights:
`python -m benchmarks.experiments.fused_attention --size 512`.

Times are of turns, peaks of a process for each form (`--only`): the memory of one evaluation beyond that of the
compiled network. The answer stands in docs/networks.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.published import NETWORKS
from mrs.export.graph_variant import GraphVariant
from mrs.runtime.backends import onnxruntime as engine
from mrs.runtime.backends.protocol import F32
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.measure import Spread, interleaved, ratios
from mrs.runtime.system import machine

FORMS: dict[str, Callable[[bytes], bytes]] = {"one node": engine.fused, "three nodes": lambda graph: graph}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="height and width, default 512")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=FORMS, help="one evaluation of one form: its peak of memory alone")
    options = parser.parse_args()
    if options.only is not None:
        graph, modulation = written()
        network = compiled(options.only, graph, modulation, options.size)
        before = peak()
        network.evaluate(0)
        print(f"{options.only:<12} {options.size}: {peak() - before} MB beyond the compiled network")
        return
    graph, modulation = written()
    networks = {form: compiled(form, graph, modulation, options.size) for form in FORMS}
    times = interleaved({form: partial(each.evaluate, 0) for form, each in networks.items()}, least=options.rounds)
    one, three = (np.asarray(each.output) for each in networks.values())
    faster = Spread.of(ratios(times["three nodes"], times["one node"]))
    print(f"{options.size}: one node {faster.median:.2f} times as fast ({faster.q1:.2f}-{faster.q3:.2f}), "
          f"{', '.join(f'{form} {Spread.of(each).median:.0f} ms' for form, each in times.items())}, "
          f"largest difference {np.abs(one - three).max():.1e} of {np.abs(three).max():.1e}")  # fmt: skip
    del networks
    for form in FORMS:
        command = [sys.executable, "-m", "benchmarks.experiments.fused_attention", "--only", form]
        subprocess.run([*command, "--size", str(options.size)], check=True)


def written() -> tuple[bytes, F32]:
    """The network's graph and modulation."""
    arch = NETWORKS["DA-CLIP"]
    torch.manual_seed(0)
    net = arch.module().eval()
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    return arch.graph(state, GraphVariant("moments", "weights")).SerializeToString(), arch.modulation(net, [37.0])


def compiled(form: str, graph: bytes, modulation: F32, size: int) -> engine.OnnxRuntimeNetwork:
    """The network in one form, on random numbers."""
    fused, engine.fused = engine.fused, FORMS[form]
    try:
        settings = CompileSettings(machine.threads())
        network = engine.OnnxRuntime().compile(graph, modulation, (1, 6, size, size), "fp32", settings)
    finally:
        engine.fused = fused
    random = np.random.default_rng(0)
    network.packed[:] = 0.3 * random.standard_normal(network.packed.shape, np.float32)
    if network.context is not None:
        network.context[:] = random.standard_normal(network.context.shape, np.float32)
    return network


def peak() -> int:
    """Most memory that this process had so far, in MB; on Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) // 1024


if __name__ == "__main__":
    main()
