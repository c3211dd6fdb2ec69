"""Kernels with known defects and one without, compiled in a process of its own; prints the faults found as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import triton
import triton.language as tl

from mrs.kernels.aot import binary
from mrs.kernels.aot.cases import Array, Case, cases
from mrs.kernels.aot.report import measure
from mrs.kernels.gpu.launch import Launch, options
from mrs.kernels.gpu.traffic import Traffic

CAPABILITY = 90


@triton.jit
def place(runs, GROUPS: tl.constexpr, GROUP: tl.constexpr):
    run = (tl.program_id(0) * GROUPS + tl.arange(0, GROUPS))[:, None]
    return run * GROUP + tl.arange(0, GROUP)[None, :], run < runs


@triton.jit(do_not_specialize=["runs"])
def once(x, y, runs, GROUPS: tl.constexpr, GROUP: tl.constexpr):
    at, mask = place(runs, GROUPS, GROUP)
    tl.store(y + at, tl.load(x + at, mask=mask), mask=mask)


@triton.jit(do_not_specialize=["runs"])
def twice(x, y, runs, GROUPS: tl.constexpr, GROUP: tl.constexpr):
    at, mask = place(runs, GROUPS, GROUP)
    total = tl.load(x + at, mask=mask, volatile=True) + tl.load(x + at, mask=mask, volatile=True)
    tl.store(y + at, total, mask=mask)


@triton.jit(do_not_specialize=["runs"])
def never(x, y, runs, GROUPS: tl.constexpr, GROUP: tl.constexpr):
    at, mask = place(runs, GROUPS, GROUP)
    tl.store(y + at, tl.zeros((GROUPS, GROUP), tl.float32), mask=mask)


@triton.jit
def frozen(x, y, runs, GROUPS: tl.constexpr, GROUP: tl.constexpr):
    at, mask = place(runs, GROUPS, GROUP)
    tl.store(y + at, tl.load(x + at, mask=mask), mask=mask)


def copy(kernel: Any) -> Case:
    """A case that should read four bytes and write four for each element."""
    arrays = Array.of("float32", 2**20), Array.of("float32", 2**20)
    launch = Launch(kernel, (2**11, 1), (*arrays, 2**18), {"GROUPS": 128, "GROUP": 4}, 4)
    return Case(kernel.__name__, launch, Traffic(4, 4), True)


def moved_by(case: Case, bytes_: int) -> Case:
    """The case with its arrays elsewhere."""
    moved = [
        replace(each, address=each.address + bytes_) if isinstance(each, Array) else each
        for each in case.launch.arguments
    ]
    return replace(case, launch=replace(case.launch, arguments=tuple(moved)))


def faults(case: Case) -> Sequence[str]:
    """What is found in the case's machine code; where it is refused, why."""
    try:
        return measure(case, CAPABILITY).faults()
    except RuntimeError as error:
        return [str(error)]


def main() -> None:
    # None of this may have needed torch.
    assert "torch" not in sys.modules
    by_name = {case.name: case for case in cases()}
    found = {kernel.__name__: faults(copy(kernel)) for kernel in (once, twice, never, frozen)}
    found["any"] = faults(replace(by_name["step_planes_bf16_any"], wide=True))
    found["aligned to 4"] = faults(moved_by(by_name["step_planes_bf16"], 4))
    binary.options = lambda warps: {**options(warps), "maxnreg": 32}
    found["32 registers"] = faults(by_name["step_pixels_bf16_last"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
