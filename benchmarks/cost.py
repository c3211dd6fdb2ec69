"""What a whole restore must launch, move and compute on a GPU, counted without one: `python -m benchmarks.cost`.

The network is Refusion's, in bfloat16; the sampler is MR Sampler's ODE solver of order 2 on bytes. A first measurement
is held against this: docs/kernels.md says how.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks import launches
from benchmarks.networks import REFUSION
from mrs.cli import Parser, guarded
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.graph_variant import GraphVariant
from mrs.kernels.gpu import traffic
from mrs.kernels.table import Row
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.backends import get
from mrs.runtime.errors import InputError

# NVIDIA H200 SXM, its data sheet of 2024: 4.8 TB/s, 1979 TFLOP/s in bfloat16 with sparsity, which is twice the dense.
BANDWIDTH, PEAK = 4.8e12, 1979e12 / 2
HALF, BYTE = 2, 1


@dataclass(frozen=True)
class Cost:
    """A part of a restore.

    Attributes:
        launches: kernels and copies.
        moved: bytes.
        operations: of floating point on tensor cores.
        least: seconds, where each kernel takes what its bytes or its operations take at the peak, the longer of both.
    """

    launches: int = 0
    moved: float = 0.0
    operations: float = 0.0
    least: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(one + another for one, another in zip(_fields(self), _fields(other), strict=True)))  # type: ignore[arg-type]

    def __mul__(self, times: int) -> Cost:
        return Cost(*(times * each for each in _fields(self)))  # type: ignore[arg-type]


def _fields(cost: Cost) -> tuple[float, ...]:
    return cost.launches, cost.moved, cost.operations, cost.least


def one(moved: float, operations: float = 0.0, count: int = 1) -> Cost:
    """Of a kernel, or of `count` that share its bytes."""
    return Cost(count, moved, operations, max(moved / BANDWIDTH, operations / PEAK))


def total(costs: Iterable[Cost]) -> Cost:
    """All of them, one after the other."""
    return sum(costs, Cost())


def graph_of(arch: NAFNet) -> bytes:
    """The graph that the torch backends run; its weights are zero."""
    with torch.device("meta"):
        state = ConditionalNAFNet(arch).state_dict()
    zeros = {key: np.zeros(tuple(value.shape), np.float32) for key, value in state.items()}
    return build_graph(zeros, arch, variant=GraphVariant(*get("torch").variants[0])).SerializeToString()


def network_costs(graph: bytes, shape: tuple[int, int, int, int]) -> dict[str, Cost]:
    """One evaluation by each torch backend; (N, 2C, H, W) of the input."""
    eager, given = (launches.network_calls(graph, shape, torch.bfloat16, compiled) for compiled in (False, True))
    return {
        "torch-eager": total(one(call.read + call.written, call.operations, call.launches) for call in eager),
        "torch": total(one(kernel.moved, kernel.operations) for kernel in launches.fused(given)),
    }


def weights_moved(graph: bytes) -> Cost:
    """Reading all weights once in bfloat16, which every evaluation must: no cache holds them."""
    _, arrays = launches.torch_graph.read(graph)
    return Cost(0, HALF * sum(array.size for array in arrays.values()), 0.0, 0.0)


def rows_of(steps: int) -> Sequence[Row]:
    """The solver's rows."""
    return tableau(Schedule(), Solver("ode", 2, steps=steps)).rows


def sampler_cost(steps: int, shape: tuple[int, int, int, int]) -> Cost:
    """Everything but the network in a restore of (N, 2C, H, W), with both copies between host and device."""
    rows = rows_of(steps)
    count, halves, height, width = shape
    elements = count * halves // 2 * height * width
    moved = [traffic.of_start(HALF, True, BYTE).moved]
    for index, row in enumerate(rows[:-1]):
        later = rows[index + 1]
        moved.append(traffic.of_step(row, bool(later.b1), HALF, True).moved)
    moved += [traffic.of_audit(HALF).moved, traffic.of_finish(rows[-1], HALF, True, BYTE).moved]
    # A copy writes on one side what it reads on the other.
    moved += [BYTE, BYTE]
    return total(one(elements * each) for each in moved)


def table(steps: int, side: int, arch: NAFNet = REFUSION) -> list[str]:
    """The lines of a Markdown table, for a square picture."""
    shape = (1, 2 * arch.channels, side, side)
    graph = graph_of(arch)
    networks, sampler = network_costs(graph, shape), sampler_cost(steps, shape)
    rows = {f"{name}, an evaluation": cost for name, cost in networks.items()}
    rows["of that, the weights"] = weights_moved(graph)
    rows[f"sampler, {steps} evaluations"] = sampler
    rows |= {f"{name}, a restore": cost * steps + sampler for name, cost in networks.items()}
    head = ("part", "launches", "MB", "GFLOP", "us by bytes", "us by operations", "us at least")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, cost in rows.items():
        by_bytes, by_operations = cost.moved / BANDWIDTH, cost.operations / PEAK
        times = (1e6 * each for each in (by_bytes, by_operations, max(cost.least, by_bytes)))
        figures = (cost.launches, cost.moved / 1e6, cost.operations / 1e9, *times)
        lines.append(" | ".join([f"| {name}", *map(_shown, figures)]) + " |")
    return lines


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 2 for a wrong number."""
    parser = Parser(prog="python -m benchmarks.cost", description=__doc__.partition(": `")[0])
    parser.add_argument("--steps", type=int, default=10, help="evaluations, default 10")
    parser.add_argument("--side", type=int, default=256, help="of the square picture, default 256")
    options = parser.parse_args(arguments)
    return guarded(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """See `main`."""
    if options.steps < 1 or options.side < 1 or options.side % REFUSION.multiple:
        raise InputError(
            f"{options.steps} evaluations of {options.side}x{options.side} are none that the network makes",
            hint=f"use at least one, and a multiple of {REFUSION.multiple}",
        )
    print("\n".join(table(options.steps, options.side)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
