"""What folds that are not taken could gain at most: `python -m benchmarks.experiments.untaken_folds`.

Each is timed against the form that is taken, interleaved, as if what it needs elsewhere cost nothing; so these graphs
do not compute the network's function.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import rows
from benchmarks.graph_forms import NETWORKS, RUNNERS
from benchmarks.networks import random_network
from mrs.export.architectures.nafnet import NAFNet, graph
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.graph_variant import GraphVariant
from mrs.export.onnx_writer import F32
from mrs.runtime.measure import interleaved, ratios

TAKEN = GraphVariant("raw", "weights")


class _Uncentred(graph._Emitter):
    """Norms of values that are taken for centred: the convolutions before would have to centre them."""

    def norm(self, x: str, key: str, gain: str, shift: str) -> str:
        epsilon = self.constant("norm_eps", np.array(graph.NORM_EPS, np.float32))
        variance = self.mean_square(x, self.state[f"{key}.g"].size)
        y = self("Div", [x, self("Sqrt", [self("Add", [variance, epsilon])])])
        return self("Add", [self("Mul", [y, gain]), shift])


# Name, how the graph is written, and whether mu's half of the first convolution is in it.
FOLDS: dict[str, tuple[Callable[..., graph._Emitter], bool]] = {
    "taken": (graph._Emitter, True),
    "centring folded into convolutions": (_Uncentred, True),
    "mu's half of the first convolution once per picture": (graph._Emitter, False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=tuple(NETWORKS), default="width 64")
    parser.add_argument("--size", type=int, default=256, help="height and width, default 256")
    parser.add_argument("--backend", choices=tuple(RUNNERS), default="openvino")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16", help="bf16 on OpenVINO alone")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--rows", type=Path, help="append the figures to this file")
    options = parser.parse_args()
    net = random_network(NETWORKS[options.network])
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    modulation = modulation_table(net, [37.0])
    packed = np.random.default_rng(0).random((1, 6, options.size, options.size), np.float32)
    runs = {}
    for name, (emitter, whole) in FOLDS.items():
        channels = 6 if whole else 3
        model = _written(emitter, state, net.arch, options.size, channels)
        inputs = {"packed": packed[:, :channels].copy(), "modulation": modulation[:, :, None, None]}
        runs[name] = RUNNERS[options.backend](model, options.precision, inputs)
        runs[name]()
    times = interleaved(runs, least=options.rounds)
    figures = {}
    for name, each in times.items():
        low, median, high = statistics.quantiles(ratios(times["taken"], each), n=4)
        figures |= {f"{name} ms": statistics.median(each), f"{name} gain": median}
        print(f"{name:<54}{statistics.median(each):8.1f} ms, {median:.3f} times faster ({low:.3f}-{high:.3f})")
    if options.rows is not None:
        case = {"network": options.network, "engine": f"{options.backend} {options.precision}", "size": options.size}
        rows.append(options.rows, "untaken folds", {**case, "rounds": options.rounds}, figures)


def _written(
    emitter: Callable[..., graph._Emitter], state: dict[str, F32], arch: NAFNet, size: int, channels: int
) -> bytes:
    """The network as an emitter writes it, with this many channels of its input."""
    kept = graph._Emitter
    graph._Emitter = emitter  # type: ignore[assignment,misc]
    try:
        part = {**state, "intro.weight": state["intro.weight"][:, :channels]}
        model = build_graph(part, arch, (size, size), 1, TAKEN)
    finally:
        graph._Emitter = kept  # type: ignore[misc]
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = channels
    return model.SerializeToString()


if __name__ == "__main__":
    main()
