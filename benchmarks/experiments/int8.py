"""int8 beside bfloat16 on a CPU: `python -m benchmarks.experiments.int8`.

Post-training quantisation of the blocks' 1x1 convolutions, which are most of the work: weights per output channel,
inputs per tensor with ranges over every evaluation of the calibration pictures' restores, because activations of a
diffusion network depend on the time (Q-Diffusion, arXiv 2302.04304). Each convolution's sensitivity is the error of
the network's output with that one alone in int8, over the same evaluations; those that together stay below a share of
the error of all are quantised, the others stay in bfloat16. The parity rule of a build judges each share, and whole
restores are timed interleaved. The shipped weights are real; Refusion's network has random ones, so that its parity
says little.
"""

from __future__ import annotations

import argparse
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from benchmarks import rows
from benchmarks.networks import REFUSION, random_network
from mrs import Schedule
from mrs.building.calibration import calibration_pairs
from mrs.building.loops import reference_table
from mrs.building.source import read_source
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.autotune.calibrated import feeds_of
from mrs.export.autotune.candidates import Candidate
from mrs.export.autotune.parity import judge, restore_in_float32, run_all
from mrs.export.autotune.timing import chain_of, time_interleaved
from mrs.export.autotune.workload import Target, Workload
from mrs.export.graph_variant import first_variant
from mrs.export.quantise import Feed, Reader
from mrs.numerics.solver import RECOMMENDED
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Loop
from mrs.runtime.measure import Spread, ratios
from mrs.runtime.system import machine

# Shares of the error of all that the quantised convolutions may have; 1 is all of them.
SHARES = (1.0, 0.1, 0.01)
QUANTISED = re.compile(r"\.conv[1345]\.weight")


class Quantiser:
    """A network whose convolutions can be put into int8, each by its name.

    Args:
        model: from `build_graph`.
        feeds: what it is given in the calibration pictures' restores.
    """

    def __init__(self, model: onnx.ModelProto, feeds: Sequence[Feed]) -> None:
        self.model = model
        self.weights = {
            node.name: node.input[1]
            for node in model.graph.node
            if node.op_type == "Conv" and QUANTISED.search(node.input[1])
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            onnx.save(model, path)
            calibrator = create_calibrator(
                path, ["Conv"], str(Path(folder) / "augmented.onnx"), calibrate_method=CalibrationMethod.MinMax
            )
            calibrator.collect_data(Reader(feeds))
            self._ranges = calibrator.compute_data()

    def quantised(self, names: Sequence[str]) -> bytes:
        """The network with these convolutions between QuantizeLinear and DequantizeLinear nodes."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        quantizer = QDQQuantizer(
            copy, True, False, QuantType.QInt8, QuantType.QUInt8, self._ranges, list(names), [], ["Conv"],
            {"WeightSymmetric": True, "ActivationSymmetric": False},
        )  # fmt: skip
        quantizer.quantize_model()
        return quantizer.model.model.SerializeToString()


def sensitivities(quantiser: Quantiser, feeds: Sequence[Feed], whole_blocks: bool) -> dict[tuple[str, ...], float]:
    """Mean squared error of the output with one convolution, or those of one block, alone in int8, of each."""
    exact = list(_outputs(quantiser.model.SerializeToString(), feeds))
    groups: dict[str, list[str]] = {}
    for name, weight in quantiser.weights.items():
        groups.setdefault(QUANTISED.split(weight)[0] if whole_blocks else name, []).append(name)
    found = {}
    for names in groups.values():
        outputs = _outputs(quantiser.quantised(names), feeds)
        errors = [float(np.mean((one - other) ** 2)) for one, other in zip(outputs, exact, strict=True)]
        found[tuple(names)] = sum(errors) / len(errors)
    return found


def _outputs(graph: bytes, feeds: Sequence[Feed]) -> Iterator[NDArray[np.float32]]:
    modulation = np.concatenate([feed["modulation"].reshape(1, -1) for feed in feeds])
    shape = feeds[0]["packed"].shape
    network = backends.get("openvino").compile(graph, modulation, shape, "fp32", CompileSettings(machine.threads()))
    for index, feed in enumerate(feeds):
        network.packed[...] = feed["packed"]
        network.evaluate(index)
        yield network.output.copy()


def insensitive(errors: Mapping[tuple[str, ...], float], share: float) -> list[str]:
    """The most convolutions whose errors, taken for independent, add up to at most a share of all."""
    allowed, chosen = share * sum(errors.values()), list[str]()
    for names in sorted(errors, key=lambda names: errors[names]):
        allowed -= errors[names]
        if allowed < 0 and share < 1:
            break
        chosen += names
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("rain", "width 64"), default="rain")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calibrations", type=int, default=3, help="pictures, at most 3")
    parser.add_argument("--whole-blocks", action="store_true", help="sensitivity of blocks, not of each convolution")
    parser.add_argument("--rows", type=Path, help="append the figures to this file")
    options = parser.parse_args()
    # What it advises is done here, or would change the graph that is compared.
    logging.disable(logging.WARNING)
    if options.network == "rain":
        source = read_source("rain")
        net, schedule, output = source.network, source.schedule, source.output
    else:
        net, schedule, output = random_network(REFUSION), Schedule(), "noise"
    measure(options, net, schedule, output)


def measure(options: argparse.Namespace, net: ConditionalNAFNet, schedule: Schedule, output: str) -> None:
    engine, target = backends.get("openvino"), Target("openvino")
    loop, reference = (
        Loop(table, modulation_table(net, table.times[:-1]))
        for table in (tableau(schedule, RECOMMENDED, output), reference_table(schedule, RECOMMENDED, output))
    )
    pairs = calibration_pairs(None, "rain", net.arch.multiple)[: options.calibrations]
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    model = build_graph(state, net.arch, variant=first_variant(engine))
    plain = model.SerializeToString()
    workload = Workload({first_variant(engine): plain}, pairs, (1, 256, 256), reference)
    exact = restore_in_float32(workload, target, loop)
    feeds = feeds_of(engine, plain, loop, pairs, target.settings)
    quantiser = Quantiser(model, feeds)
    errors = sensitivities(quantiser, feeds, options.whole_blocks)
    graphs = {"fp32": (plain, "fp32"), "bf16": (plain, "bf16")}
    for share in SHARES:
        names = insensitive(errors, share)
        graphs[f"int8 in {len(names)} of {len(quantiser.weights)}, bf16"] = quantiser.quantised(names), "bf16"
    picture = workload.picture
    chains, judged = {}, {}
    for name, (graph, precision) in graphs.items():
        outputs = run_all(engine, graph, precision, loop, pairs, target.settings)
        judged[name] = judge(Candidate("openvino", name), outputs, exact)
        chain = chain_of(engine, graph, precision, loop, picture.shape, target.settings)
        chain.restore_into(picture, np.empty_like(picture), seed=0)
        chains[name] = chain, picture
    times = time_interleaved(chains, rounds=(options.rounds, options.rounds))
    figures: dict[str, object] = {}
    for name, spent in times.items():
        median, ratio = Spread.of(spent).median, Spread.of(ratios(times["bf16"], spent))
        figures |= {f"{name} ms": median, f"{name} against bf16": ratio.median}
        figures[f"{name} verdict"] = judged[name].reason
        against = f"{ratio.median:.2f} times bf16's speed ({ratio.q1:.2f}-{ratio.q3:.2f})"
        print(f"{name:<30}{median:9.1f} ms, {against}; {judged[name].reason}")
    if options.rows is not None:
        case = {"network": options.network, "size": 256, "evaluations": len(loop.table.rows), "rounds": options.rounds}
        rows.append(options.rows, "int8", case, figures)


if __name__ == "__main__":
    main()
