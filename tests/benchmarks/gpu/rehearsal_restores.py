"""The part `restores` on a double of the GPU, in a process of its own: once as it is, once with a broken runtime.

Prints, as JSON, what was found and the rows that were kept.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import torch

from benchmarks.gpu import restores
from benchmarks.gpu.budget import Budget
from mrs.export.nafnet import Architecture
from mrs.runtime import backends
from mrs.runtime.backends.onnxruntime_gpu import OnnxRuntimeGpu
from mrs.runtime.backends.torch import Torch
from mrs.runtime.cuda.chain import CudaChain
from mrs.runtime.errors import BackendError
from tests.runtime.backends.onnxruntime_double import CUDA, Gpu, module_for

TINY = Architecture(width=4, enc_blocks=(1,), mid_blocks=0, dec_blocks=(1,))


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


def run(seconds: float = 1e6, expected: dict[str, float] | None = None) -> dict[str, Any]:
    rows: list[Any] = []
    gpu = Gpu()
    sys.modules["onnxruntime"] = module_for(gpu)
    backends.BACKENDS["onnxruntime-cuda"] = Installed("onnxruntime-cuda", CUDA, lambda: gpu)
    bench = restores.Bench(
        Budget(seconds, expected), lambda *row: rows.append(row), device=gpu, place="cpu", precision="fp32", arch=TINY,
        sides=(16,), steps=(2,),
        replays=2, threads=2, each=1, rounds=1, forms=("eager fp32", "eager bf16"),
    )  # fmt: skip
    found = bench.run()
    about = {"device": "a double"}
    return {
        "figures": found.figures, "wrong": found.wrong, "left_out": found.left_out, "skipped": found.skipped,
        "rows": rows,
        "lines": restores.lines(found, about),
    }  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    restores.SMALL = TINY
    for name in ("torch", "torch-eager"):
        backends.BACKENDS[name] = Available(name, compiled=False, place="cpu")
    right = run()
    hasty = run(seconds=0.0)
    short = run(expected={"torch": 1e9})
    whole = CudaChain.restore_into

    def spoilt(self: CudaChain, picture: Any, out: Any, *rest: Any) -> Any:
        result = whole(self, picture, out, *rest)
        # Launch by launch something else comes out.
        if not self.captured and out is not None:
            out.reshape(-1)[0] = 1 if out.reshape(-1)[0] == 0 else 0
        return result

    CudaChain.restore_into = spoilt  # type: ignore[method-assign]
    for engine in (Wrong("wrong", compiled=False, place="cpu"), Broken("broken", compiled=False, place="cpu")):
        backends.BACKENDS[engine.name] = engine
    wrong = run()
    json.dump({"right": right, "hasty": hasty, "short": short, "wrong": wrong}, sys.stdout)


if __name__ == "__main__":
    main()
