"""What half precision, int8 and fp8 round in typed graphs, on a CPU: `python -m benchmarks.experiments.typed_rounding`.

The graphs that engines for GPUs get (`runtime/backends/typed_graph.py`), of the shipped weights, carried out by the
tests' interpreter, which mixes no types: the error of one evaluation, and the parity rule on whole restores of the
calibration pictures. int8 and fp8 need NVIDIA ModelOpt (`pip install 'mrs-trt[modelopt]'`) and are left out without.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

import mrs
from mrs.building.calibration import calibration_pairs
from mrs.building.loops import loop_of, reference_table
from mrs.building.source import read_source
from mrs.export import quantise
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.autotune.calibrated import feeds_of
from mrs.export.autotune.candidates import Candidate
from mrs.export.autotune.parity import Float32, judge
from mrs.export.autotune.verdict import verdict_of
from mrs.export.autotune.workload import Pair
from mrs.export.graph_variant import first_variant
from mrs.numerics.solver import RECOMMENDED
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.backends.tensorrt.backend import TensorRt
from mrs.runtime.backends.typed_graph import typed_graph
from mrs.runtime.psnr import mean_psnr
from mrs.runtime.system import machine
from tests.runtime.backends.tensorrt import reference

F32 = NDArray[np.float32]
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Evaluate = Callable[[F32, int], F32]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    source = read_source("rain")
    net, schedule, output = source.network, source.schedule, source.output
    table = mrs.tableau(schedule, RECOMMENDED, output)
    many = reference_table(schedule, RECOMMENDED, output)
    pairs = calibration_pairs(None, "rain", net.arch.multiple)
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    graph = build_graph(state, net.arch, variant=first_variant(TensorRt)).SerializeToString()
    graphs = dict.fromkeys(("fp32", "fp16", "bf16"), graph)
    loop = loop_of(source, table)
    for precision in ("int8", "fp8"):
        reason = quantise.missing(precision)
        if reason is not None:
            print(f"{precision} is left out: {reason}")
            continue
        engine = backends.get("onnxruntime")
        plain = build_graph(state, net.arch, variant=first_variant(engine)).SerializeToString()
        feeds = feeds_of(engine, plain, loop, pairs, CompileSettings(machine.threads()))
        graphs[precision] = quantise.quantised(graph, precision, feeds)
    packed = np.random.default_rng(0).random((1, 6, 64, 64), np.float32)
    outputs: dict[str, list[F32]] = {}
    single: dict[str, F32] = {}
    for precision, each in graphs.items():
        evaluate = _evaluation(each, precision, loop.modulation)
        single[precision] = evaluate(packed, len(table.rows) // 2)
        outputs[precision] = _restored(evaluate, table, pairs)
    in_many = _restored(_evaluation(graph, "fp32", loop_of(source, many).modulation), many, pairs)
    clean = [np.asarray(pair.clean) / np.float32(255) for pair in pairs]
    verdict = verdict_of([pair.degraded / np.float32(255) for pair in pairs], clean, outputs["fp32"], in_many)
    exact = Float32(pairs, outputs["fp32"], mean_psnr(outputs["fp32"], in_many), verdict)
    for precision, restored in outputs.items():
        error = single[precision] - single["fp32"]
        relative = float(np.sqrt(np.mean(error**2) / np.mean(single["fp32"] ** 2)))
        judged = judge(Candidate("typed", precision), restored, exact)
        truth = f"{judged.truth_db:+.3f} dB to the clean pictures" if judged.truth_db is not None else ""
        print(f"{precision:<6} error of an evaluation {relative:.1e}; {truth}; {judged.reason}")


def _evaluation(graph: bytes, precision: str, modulation: F32) -> Evaluate:
    """A typed graph as a function of `packed` and the step."""
    models: dict[tuple[int, ...], onnx.ModelProto] = {}
    dtype = TYPES.get(precision, torch.float16)

    def evaluate(packed: F32, step: int) -> F32:
        sides = packed.shape[0], *packed.shape[2:]
        if sides not in models:
            models[sides] = onnx.load_from_string(typed_graph(graph, precision, sides))
        vectors = torch.from_numpy(modulation[step][None, :, None, None].copy())
        with torch.inference_mode():
            made = reference.evaluate(models[sides], torch.from_numpy(packed).to(dtype), vectors)
        return np.asarray(made.float().numpy())

    return evaluate


def _restored(evaluate: Evaluate, table: mrs.Table, pairs: Sequence[Pair]) -> list[F32]:
    """The calibration pictures restored by the reference loop, (H, W, C) in [0, 1] each."""
    steps = {time: step for step, time in enumerate(table.times[:-1])}

    def denoiser(x: F32, mu: F32, t: float) -> F32:
        return evaluate(np.concatenate([x - mu, mu], axis=1), steps[t])

    found = []
    for pair in pairs:
        mu = pair.degraded[None].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        found.append(mrs.sample(denoiser, mu, table)[0].transpose(1, 2, 0))
    return found


if __name__ == "__main__":
    main()
