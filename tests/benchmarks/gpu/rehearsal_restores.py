"""Restores timed on a double of the GPU, in a process of its own: as it is, without time, and with broken engines.

Prints, as JSON, what was found and the rows that were kept.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import torch

from benchmarks.gpu import restores, restores_report
from benchmarks.gpu.budget import Budget
from mrs.export.architectures.nafnet import NAFNet
from mrs.runtime import backends
from mrs.runtime.backends.onnxruntime_gpu import OnnxRuntimeGpu
from mrs.runtime.backends.torch import Torch
from mrs.runtime.errors import BackendError
from tests.benchmarks.gpu.virtual import Memory
from tests.runtime.backends.onnxruntime_double import CUDA, Gpu, module_for

TINY = NAFNet(width=4, enc_blocks=(1,), mid_blocks=0, dec_blocks=(1,))
ENGINES = ["onnxruntime-cuda", "torch", "torch-eager"]


class Available(Torch):
    """torch on a machine that has Triton."""

    def missing(self) -> str | None:
        return None


class Wrong(Available):
    """An engine that evaluates the network at other times."""

    def compile(self, graph: bytes, modulation: Any, *rest: Any) -> Any:
        return super().compile(graph, 3 * modulation, *rest)


class Broken(Available):
    """An engine that compiles nothing."""

    def compile(self, *_: Any) -> Any:
        raise BackendError("no such kernel")


class Installed(OnnxRuntimeGpu):
    """ONNX Runtime on a machine that has it."""

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return "1.31.1"


def device() -> Gpu:
    """A double, which ONNX Runtime knows too."""
    gpu = Gpu()
    sys.modules["onnxruntime"] = module_for(gpu)
    backends.BACKENDS["onnxruntime-cuda"] = Installed("onnxruntime-cuda", CUDA, lambda: gpu)
    return gpu


def run(
    engines: list[str], rivals: list[str], seconds: float = 1e6, expected: Any = None, known: Any = None
) -> dict[str, Any]:
    memory, said, wrong, left_out, lines, figures = Memory(known=known), [], [], [], [], {}  # type: ignore[var-annotated]
    for engine in engines:
        bench = restores.Bench(
            Budget(seconds, expected), memory, said.append, device=device(), place="cpu", precision="fp32", arch=TINY,
            replays=2, rounds=1, compiler=lambda network, **_: network,
        )  # fmt: skip
        found = bench.run([restores.Case(16, 2, engine)], rivals, whole=True)
        wrong += found.wrong
        left_out += found.left_out
        lines += restores_report.lines(found)
        figures |= {str(case): value for case, value in found.figures.items()}
    return {"figures": figures, "wrong": wrong, "left_out": left_out, "lines": lines, "said": said,
            "kept": memory.rows, "rows": [row[1:] for row in memory.rows]}  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    for name in ("torch", "torch-eager"):
        backends.BACKENDS[name] = Available(name, compiled=False, place="cpu")
    forms = ["eager fp32", "eager bf16", "compile bf16"]
    right = run(ENGINES, [*forms, "torch-eager"])
    found = {
        "right": right,
        "hasty": run(["torch"], forms, seconds=0.0),
        "short": run(["torch-eager"], forms, expected={"compiling": 1e9}),
        "unloaded": run(["torch"], forms, expected={"compiling": 1e9}),
        "resumed": run(["torch"], forms, known=[row for row in right["kept"] if "eager fp32" not in row[1]]),
    }
    for engine in (Wrong("wrong", compiled=False, place="cpu"), Broken("broken", compiled=False, place="cpu")):
        backends.BACKENDS[engine.name] = engine
    found["wrong"] = run(["wrong", "broken", "torch"], ["wrong", "eager fp32"])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
