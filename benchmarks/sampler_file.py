"""The whole sampler as one ONNX file against the runtime's own loop: `python -m benchmarks.sampler_file`.

Both in float32 on the same engine with the same threads and noise, interleaved in one process, engines loaded before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from benchmarks import rows
from benchmarks.graph_forms import NETWORKS
from benchmarks.networks import random_network
from mrs import Schedule, Solver, tableau
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.graph_variant import first_variant
from mrs.export.sampler_graph import build_sampler
from mrs.kernels.noise import normal
from mrs.kernels.update import Pixels
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Loop
from mrs.runtime.cpu_chain import CpuChain
from mrs.runtime.measure import interleaved, ratios
from mrs.runtime.system import machine
from mrs.runtime.system.libraries import import_onnxruntime

Restore = Callable[[], Pixels]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=tuple(NETWORKS), default="width 16")
    parser.add_argument("--size", type=int, default=256, help="height and width, default 256")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="bf16 on OpenVINO alone")
    parser.add_argument("--rows", type=Path, help="append the figures to this file")
    options = parser.parse_args()
    for name in ("openvino", "onnxruntime"):
        if options.precision in backends.get(name).precisions():
            measure(name, options)


def measure(engine: str, options: argparse.Namespace) -> None:
    net = random_network(NETWORKS[options.network])
    table = tableau(Schedule(), Solver(steps=options.steps))
    loop = Loop(table, modulation_table(net, table.times[:-1]))
    backend, sides = backends.get(engine), (options.size, options.size)
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    own = build_graph(state, net.arch, variant=first_variant(backend))
    # As `mrs-trt export` writes it.
    form = first_variant(backends.get("openvino"))
    model = build_sampler(build_graph(state, net.arch, variant=form), loop, net.arch.multiple).SerializeToString()
    picture = np.random.default_rng(0).integers(0, 256, (1, *sides, 3), np.uint8)
    feeds = {"picture": picture, "noise": normal(0, 0, (1, 3, *sides))[None]}

    begin = time.perf_counter()
    restore_file = load_file(engine, model, feeds, options.precision)
    loaded = time.perf_counter()
    network = backend.compile(own.SerializeToString(), loop.modulation, (1, 6, *sides), options.precision,
                              CompileSettings(machine.threads()))  # fmt: skip
    compiled = time.perf_counter()
    chain = CpuChain(network, table, machine.threads())
    turns: dict[str, Restore] = {"loop": lambda: chain.restore_into(picture, None, 0), "file": restore_file}
    results = {key: turn().astype(int) for key, turn in turns.items()}
    times = interleaved(turns, least=options.rounds)
    against = ratios(times["file"], times["loop"])
    low, _, high = statistics.quantiles(against, n=4)
    different = np.abs(results["file"] - results["loop"])
    figures = {
        "file_mb": len(model) / 1e6, "load_file_s": loaded - begin, "load_loop_s": compiled - loaded,
        "loop_ms": statistics.median(times["loop"]), "file_ms": statistics.median(times["file"]),
        "ratio": statistics.median(against), "ratio_low": low, "ratio_high": high,
        "largest_difference": int(different.max()), "different_values": int((different > 0).sum()),
    }  # fmt: skip
    print(f"{options.network} {engine} {options.precision}", *(f"{key} {value:.4g}" for key, value in figures.items()))
    if options.rows is not None:
        settings = {"size": options.size, "steps": options.steps, "rounds": options.rounds}
        rows.append(options.rows, f"sampler file {options.network} {engine} {options.precision}", settings, figures)


def load_file(engine: str, model: bytes, feeds: dict[str, NDArray[np.generic]], precision: str) -> Restore:
    """The file as docs/export.md loads it."""
    if engine == "onnxruntime":
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = machine.threads()
        # As the runtime does: threads that spin starve other programs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(["restored"], feeds)[0]
    read = openvino.Core().read_model(model)
    read.reshape({name: list(array.shape) for name, array in feeds.items()})
    settings = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
                "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": machine.threads()}  # fmt: skip
    compiled = openvino.Core().compile_model(read, "CPU", settings)
    return lambda: np.array(compiled(feeds)["restored"])


if __name__ == "__main__":
    main()
