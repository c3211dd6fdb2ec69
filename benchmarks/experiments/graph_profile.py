"""Where an evaluation spends its time on OpenVINO, by kind of node: `python -m benchmarks.experiments.graph_profile`.

Beside each other: what torch.onnx makes of Refusion's network, and the form that runs fastest.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator

import numpy as np

from benchmarks.graph_forms import plain_export
from benchmarks.networks import REFUSION, random_network
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.graph_variant import GraphVariant
from mrs.export.onnx_writer import F32
from mrs.runtime.backends import openvino
from mrs.runtime.system import machine

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="height and width, default 256")
    parser.add_argument("--precision", default="bf16", help="fp32 or bf16, default bf16")
    options = parser.parse_args()
    columns = {name: profile(*given, options.precision) for name, given in models(options.size)}
    kinds = sorted(set().union(*columns.values()), key=lambda kind: -max(each[kind] for each in columns.values()))
    print(f"{'ms, ' + options.precision:<42}" + "".join(f"{name:>14}" for name in columns))
    for kind in kinds:
        cells = [each[kind] for each in columns.values()]
        if max(cells) >= 0.1:
            print(f"{kind:<42}" + "".join(f"{cell:>14.2f}" for cell in cells))
    print(f"{'all':<42}" + "".join(f"{each.total():>14.2f}" for each in columns.values()))


def models(size: int) -> Iterator[tuple[str, tuple[bytes, dict[str, F32]]]]:
    """Name, and ONNX model with its inputs."""
    random = np.random.default_rng(0)
    mu = random.random((1, 3, size, size), np.float32)
    x = mu + np.float32(0.2) * random.standard_normal(mu.shape, np.float32)
    net = random_network(REFUSION)
    inputs = {"x": x, "mu": mu, "t": np.array([37.0], np.float32)}
    yield "torch.onnx", (plain_export(net, inputs), inputs)
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    graph = build_graph(state, REFUSION, (size, size), 1, GraphVariant("raw", "weights")).SerializeToString()
    modulation = modulation_table(net, [37.0])[0].reshape(1, -1, 1, 1)
    yield "ours", (graph, {"packed": np.concatenate([x - mu, mu], axis=1), "modulation": modulation})


def profile(model: bytes, inputs: dict[str, F32], precision: str) -> Counter[str]:
    """Milliseconds by kind of node and its kernel: each kind's median of some rounds."""
    core = openvino.core()
    settings = {**openvino._settings(precision, machine.threads()), "PERF_COUNT": True}
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    request.infer(inputs)
    rounds: list[Counter[str]] = []
    for _ in range(ROUNDS):
        request.infer()
        rounds.append(Counter())
        for node in request.get_profiling_info():
            rounds[-1][f"{node.node_type} {node.exec_type}"] += 1e3 * node.real_time.total_seconds()
    kinds = set().union(*rounds)
    return Counter({kind: float(np.median([each[kind] for each in rounds])) for kind in kinds})


if __name__ == "__main__":
    main()
