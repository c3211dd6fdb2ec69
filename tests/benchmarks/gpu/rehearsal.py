"""A run of the measurements on a CPU: kernels through triton's interpreter, a double in place of CUDA's events.

Started by test_rehearsal.py in a process of its own, as the interpreter is chosen when triton is loaded. Writes what it
found to standard output as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.gpu import gate, kernels, report
from benchmarks.gpu.budget import Budget
from benchmarks.gpu.cases import Case
from mrs.kernels.gpu import reference
from tests import interpreter
from tests.benchmarks.gpu.virtual import Memory

ABOUT = {"device": "CPU", "driver": "", "commit": "", "versions": {"cuda": "none", "torch": "any", "triton": "any"}}
FIRST = [
    Case("start", "posterior", "bfloat16", "last", 16, 1),
    Case("step", "order 3", "float16", "planes", 16, 1),
    Case("step", "posterior", "bfloat16", "last", 16, 2),
    Case("threshold", "order 2", "bfloat16", "last", 16, 1),
]
COMPARED = [Case("step", "order 2", "bfloat16", "planes", 16, 1)]
REST = [
    Case("finish", "posterior", "bfloat16", "planes", 16, 1),
    Case("finish", "order 2", "float32", "last", 16, 1),
    Case("audit", "posterior", "bfloat16", "planes", 16, 1),
]


class Event:
    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = time.perf_counter()

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, other: Any) -> float:
        return 1e3 * (other.at - self.at)


CUDA = SimpleNamespace(
    Event=Event,
    _sleep=lambda cycles: None,
    synchronize=lambda: None,
    get_device_properties=lambda device: SimpleNamespace(L2_cache_size=4096),
)


def run(
    first: list[Case], compared: list[Case], rest: list[Case], seconds: float = 300.0, known: Any = None
) -> dict[str, Any]:
    memory, said = Memory(known=known), []  # type: tuple[Memory, list[str]]
    bench = kernels.Bench(
        kernels.clock_of(CUDA, "cpu"), Budget(seconds), memory, said.append,
        device="cpu", compiler=lambda function: function, copy_bytes=1 << 16, rounds=1,
    )  # fmt: skip
    found = bench.run(first, compared, rest)
    return {
        "rows": [row[1:] for row in memory.rows],
        "kept": memory.rows,
        "said": said,
        "left_out": found.left_out,
        "wrong": found.wrong,
        "lines": report.lines(found, ABOUT),
    }


def main() -> None:
    interpreter.hasten()
    torch.set_num_threads(1)
    # The interpreter takes a second for each draw of noise on larger ones.
    gate.small = lambda case: case
    # Of the smallest alone, which draws no noise twice more.
    kernels.WARM_BYTES = 12_000
    torch.manual_seed(0)
    right = run(FIRST, COMPARED, REST)
    hasty = run(FIRST, [], REST, seconds=0.0)
    # One row is missing, and what is there must not be measured again.
    resumed = run(FIRST, COMPARED, REST[2:], known=[row for row in right["kept"] if "audit" not in row[1]])
    finish = reference.finish

    def spoiled(*arguments: Any) -> None:
        finish(*arguments)
        arguments[4][0, 3, 5] += 40

    reference.finish = spoiled
    wrong = run(FIRST[:1], [], REST)

    def broken(*arguments: Any) -> None:
        raise RuntimeError("a bug")

    reference.step = broken
    failing = run([*FIRST[1:3], *COMPARED, FIRST[1]], [], FIRST[:1])
    json.dump({"right": right, "hasty": hasty, "resumed": resumed, "wrong": wrong, "failing": failing}, sys.stdout)


main()
