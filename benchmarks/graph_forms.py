"""One evaluation of the network in every graph form and on every engine: `python -m benchmarks.graph_forms`."""

from __future__ import annotations

import argparse
import io
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks import rows
from benchmarks.networks import REFUSION, random_network
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.graph_variant import GATES, NORMS, GraphVariant
from mrs.export.onnx_writer import F32, OPSET
from mrs.runtime import backends
from mrs.runtime.backends import Network, openvino
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.measure import Spread, interleaved, ratios
from mrs.runtime.system import machine
from mrs.runtime.system.libraries import import_onnxruntime

SHAPES = tuple(GraphVariant(norm, gate) for norm, gate in product(NORMS, GATES))
NETWORKS = {"width 16": NAFNet(16, (1, 1, 1, 4), 1, (1, 1, 1, 1)), "width 64": REFUSION}


def plain_export(net: torch.nn.Module, inputs: dict[str, F32]) -> bytes:
    """What torch.onnx makes of a network for inputs of these shapes."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Of the tracer: sizes become constants, as they are here.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, tuple(map(torch.from_numpy, inputs.values())), file, dynamo=False, opset_version=OPSET,
            input_names=list(inputs), output_names=["output"],
        )  # fmt: skip
    return file.getvalue()


class PlainExport:
    """What torch.onnx makes of the network, on an engine that is set as the backend of its name sets it.

    Args:
        net: the network.
        backend, precision: of the engine.
        inputs: x and mu, (N, C, H, W) each; the time is 37.
        told: what else the network takes, in its order.
    """

    def __init__(
        self, net: torch.nn.Module, backend: str, precision: str, inputs: tuple[F32, F32], **told: F32
    ) -> None:
        self.inputs = {"x": inputs[0], "mu": inputs[1], "t": np.array([37.0], np.float32), **told}
        self._run = RUNNERS[backend](plain_export(net, self.inputs), precision, self.inputs)

    def evaluate(self, step: int) -> None:
        """As a `Network` does."""
        self.output = self._run()


def _on_openvino(model: bytes, precision: str, inputs: dict[str, F32]) -> Callable[[], F32]:
    core = openvino.core()
    settings = openvino._settings(precision, machine.threads())
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer(inputs)[0]


def _on_onnxruntime(model: bytes, precision: str, inputs: dict[str, F32]) -> Callable[[], F32]:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = machine.threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)[0]


RUNNERS = {"openvino": _on_openvino, "onnxruntime": _on_onnxruntime}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="height and width, default 256")
    parser.add_argument("--network", choices=NETWORKS, help="one alone")
    parser.add_argument("--engine", default="", help="those alone with this in their name, such as `openvino bf16`")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=Path, help="append the figures to this file")
    options = parser.parse_args()
    for name, arch in NETWORKS.items():
        if options.network in (None, name):
            measure(name, arch, options.size, options.rounds, options.engine, options.rows)


def measure(name: str, arch: NAFNet, size: int, rounds: int, engine: str, row_file: Path | None) -> None:
    net = random_network(arch)
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    modulation = modulation_table(net, [37.0])
    mu = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
    x = mu + np.float32(0.2) * np.random.default_rng(1).standard_normal(mu.shape, dtype=np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(x), torch.from_numpy(mu), 37.0).numpy()
    networks: dict[str, tuple[Network | PlainExport, float]] = {}
    engines = [
        (backend, precision)
        for backend in backends.available()
        for precision in backend.precisions()
        if backend.device == "cpu" and engine in f"{backend.name} {precision}"
    ]
    for backend, precision in engines:
        plain = PlainExport(net, backend.name, precision, (x, mu))
        plain.evaluate(0)
        error = float(np.abs(plain.output - expected).max() / np.abs(expected).max())
        networks[f"torch.onnx {backend.name} {precision}"] = plain, error
    for shape in SHAPES:
        graph = build_graph(state, arch, variant=shape).SerializeToString()
        for backend, precision in engines:
            network = backend.compile(
                graph, modulation, (1, 6, size, size), precision, CompileSettings(machine.threads())
            )
            network.packed[:] = np.concatenate([x - mu, mu], axis=1)
            network.evaluate(0)
            error = float(np.abs(network.output - expected).max() / np.abs(expected).max())
            networks[f"{shape} {backend.name} {precision}"] = network, error
    times = interleaved({key: partial(network.evaluate, 0) for key, (network, _) in networks.items()}, least=rounds)
    figures = {}
    for key, (_, error) in networks.items():
        plain = "torch.onnx " + " ".join(key.split()[-2:])
        median, faster = Spread.of(times[key]).median, Spread.of(ratios(times[plain], times[key]))
        figures |= {f"{key} ms": median, f"{key} times faster than torch.onnx": faster.median}
        figures |= {f"{key} low": faster.q1, f"{key} high": faster.q3}
        spread = f"({min(times[key]):.1f}-{max(times[key]):.1f})"
        against = f"{faster.median:.2f} x plain ({faster.q1:.2f}-{faster.q3:.2f})"
        print(f"{name:<10}{key:<54}{median:8.1f} ms {spread:<18}{against}, error {error:.1e}")
    if row_file is not None:
        rows.append(row_file, f"graph forms {name}", {"size": size, "rounds": rounds}, figures)


if __name__ == "__main__":
    main()
