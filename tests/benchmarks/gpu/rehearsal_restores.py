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
from mrs.runtime.backends.torch import Torch
from mrs.runtime.cuda.chain import CudaChain
from tests.runtime.cuda.double import Double

TINY = Architecture(width=4, enc_blocks=(1,), mid_blocks=0, dec_blocks=(1,))


def run(seconds: float = 1e6, compiler: Any = None) -> dict[str, Any]:
    rows: list[Any] = []
    bench = restores.Bench(
        Budget(seconds), lambda *row: rows.append(row), device=Double(), place="cpu", precision="fp32", arch=TINY,
        sides=(16,), steps=(2,),
        replays=2, threads=2, each=1, rounds=1, forms=("eager fp32", "eager bf16"),
    )  # fmt: skip
    found = bench.run()
    about = {"device": "a double"}
    return {
        "figures": found.figures, "wrong": found.wrong, "left_out": found.left_out, "rows": rows,
        "lines": restores.lines(found, about),
    }  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    restores.SMALL = TINY
    for name in ("torch", "torch-eager"):
        backends.BACKENDS[name] = Torch(name, compiled=False, place="cpu")
    right = run()
    hasty = run(seconds=0.0)
    whole = CudaChain.restore_into

    def spoilt(self: CudaChain, picture: Any, out: Any, *rest: Any) -> Any:
        result = whole(self, picture, out, *rest)
        # Launch by launch something else comes out.
        if not self.captured and out is not None:
            out.reshape(-1)[0] = 1 if out.reshape(-1)[0] == 0 else 0
        return result

    CudaChain.restore_into = spoilt  # type: ignore[method-assign]
    wrong = run()
    json.dump({"right": right, "hasty": hasty, "wrong": wrong}, sys.stdout)


if __name__ == "__main__":
    main()
