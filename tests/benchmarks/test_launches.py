"""Launches and bytes are counted as a hand would, and of Refusion's network there are as many as the documents say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")
import torch
import torch.nn.functional as F

from benchmarks import cost, launches
from benchmarks.launches import Call, Kernel, calls_of, fused, network_calls
from benchmarks.networks import REFUSION
from mrs.export.architectures.nafnet import NAFNet
from mrs.kernels.gpu import traffic

pytestmark = pytest.mark.slow(5)

# As deep as Refusion's: launches do not depend on the width.
NARROW = NAFNet(8, REFUSION.enc_blocks, REFUSION.mid_blocks, REFUSION.dec_blocks)
SHAPE = (1, 6, 32, 48)
BLOCKS, LEVELS = 36, 4


def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    made = torch.empty(shape, dtype=dtype, device="meta")
    return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made


@pytest.fixture(scope="module")
def graph() -> bytes:
    return cost.graph_of(NARROW)


@pytest.fixture(scope="module")
def calls(graph: bytes) -> dict[bool, list[Call]]:
    """Of one evaluation, for a compiler or not."""
    return {compiled: network_calls(graph, SHAPE, torch.bfloat16, compiled) for compiled in (False, True)}


@pytest.mark.parametrize(
    ("work", "launched", "read", "written", "operations"),
    [
        (lambda: empty(2, 4).t()[1:].unsqueeze(0), 0, 0, 0, 0),
        (lambda: empty(2, 4) + empty(4), 1, 16 + 8, 16, 0),
        (lambda: empty(2, 4).float(), 1, 16, 32, 0),
        (lambda: empty(2, 4).to(torch.bfloat16), 0, 0, 0, 0),
        (lambda: empty(2, 4) @ empty(4, 8), 1, 16 + 64, 32, 2 * 2 * 4 * 8),
        (lambda: torch.addmm(empty(8), empty(2, 4), empty(4, 8)), 1, 16 + 16 + 64, 32, 2 * 2 * 4 * 8),
        (lambda: torch.addmm(empty(8), empty(1, 4), empty(4, 8)), 2, 16 + 8 + 64 + 16, 16 + 16, 2 * 4 * 8),
        (lambda: F.conv2d(empty(1, 4, 8, 8), empty(4, 1, 3, 3), None, padding=1, groups=4),
         1, 512 + 72, 512, 2 * 9 * 256),
        (lambda: F.conv2d(empty(1, 4, 8, 8), empty(2, 4, 1, 1), empty(2)),
         2, 512 + 16 + 4 + 256, 256 + 256, 2 * 4 * 128),
        (lambda: F.layer_norm(empty(8, 4), (4,), empty(4), empty(4), 1e-5), 1, 64 + 8 + 8, 64, 0),
        (lambda: empty(1, 4, 8, 8).mean((2, 3)), 1, 512, 8, 0),
        (lambda: empty(2, 4).copy_(empty(2, 4)), 1, 16, 16, 0),
    ],
    ids=["views", "sum", "cast", "no cast", "product", "with bias", "of one row", "convolution", "and bias", "norm",
         "mean", "copy"],
)  # fmt: skip
def test_a_call(work: Callable[[], Any], launched: int, read: int, written: int, operations: int) -> None:
    with torch.no_grad():
        # Arguments are made inside too, and are none of the launches.
        found = [call for call in calls_of(work) if call.name != "empty" and call.name != "clone"]
    totals = [sum(getattr(call, name) for call in found) for name in ("launches", "read", "written", "operations")]
    assert totals == [launched, read, written, operations]


def test_an_evaluation_of_refusions_network_launches(calls: dict[bool, list[Call]]) -> None:
    counted = Counter()
    for call in calls[False]:
        counted[call.name] += call.launches
    # Each block: two norms and what makes them half precision; a convolution by cuDNN with its bias; four products with
    # theirs, and one of a single row; two gates, the mean, the product with it; two sums.
    assert counted["native_layer_norm"] == 2 * BLOCKS
    assert counted["addmm"] == (4 + 2) * BLOCKS
    assert counted["convolution"] == 2 * (BLOCKS + LEVELS + 2)
    assert counted["mul"] == 3 * BLOCKS
    assert counted["add"] == 2 * BLOCKS + LEVELS
    assert counted["mean"] == BLOCKS
    # Also: residuals are half precision for each change of level, and float32 after it.
    assert counted["_to_copy"] == 2 * BLOCKS + 1 + 3 * LEVELS + 1
    assert sum(counted.values()) == 687


def test_nothing_is_turned_round(calls: dict[bool, list[Call]]) -> None:
    """But for each level of the decoder once, where pixels are shuffled."""
    for compiled in (False, True):
        assert sum(call.name in ("clone", "contiguous") for call in calls[compiled]) == LEVELS


def test_a_compiler_needs_at_least(calls: dict[bool, list[Call]]) -> None:
    kernels = fused(calls[True])
    # Each block: five products, the convolution among them; a kernel for each norm, gate, and product with the mean;
    # the mean's second, and the product of its row. The sum between blocks is in the norm that follows, but for the
    # last of each level. Besides: the first and the last convolution, and one before and after each level.
    assert len(kernels) == (5 + 5 + 2) * BLOCKS + 2 * LEVELS + 2 + 2 * LEVELS + 2
    eager = sum(call.read + call.written for call in calls[False])
    assert sum(kernel.moved for kernel in kernels) < 0.7 * eager
    assert sum(kernel.operations for kernel in kernels) == sum(call.operations for call in calls[True])


def test_what_is_fused_is_read_and_written_once() -> None:
    x, y = empty(8, 8), empty(8, 8)

    def work() -> torch.Tensor:
        a = x + y
        b = a * y
        return (b @ x) + a

    # The first needs both and leaves both; the product; the sum.
    assert fused(calls_of(work)) == [Kernel(4 * 128, 0), Kernel(3 * 128, 2 * 8**3), Kernel(3 * 128, 0)]


def test_what_waits_for_a_mean_is_another_kernel() -> None:
    x = empty(1, 4, 8, 8)

    def work() -> torch.Tensor:
        a = x * x
        return a * a.mean((2, 3), keepdim=True)

    assert fused(calls_of(work)) == [Kernel(512 + 512 + 8, 0), Kernel(0, 0), Kernel(512 + 8 + 512, 0)]


def test_the_whole_restore() -> None:
    lines = cost.table(10, 32, NAFNet(8, (1,), 0, (1,)))
    assert lines[0].split("|")[1].strip() == "part"
    shown = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[2:]}
    # start, nine steps, audit, finish, and a copy each way.
    assert shown["sampler, 10 evaluations"][0] == "14"
    for name in ("torch", "torch-eager"):
        assert int(shown[f"{name}, a restore"][0].replace(",", "")) == 10 * int(shown[f"{name}, an evaluation"][0]) + 14
    assert {len(cells) for cells in shown.values()} == {6}


def test_the_samplers_bytes_are_those_of_its_kernels() -> None:
    rows = cost.rows_of(2)
    each = traffic.of_start(2, True, 1).moved + traffic.of_step(rows[0], True, 2, True).moved
    each += traffic.of_audit(2).moved + traffic.of_finish(rows[1], 2, True, 1).moved + 2
    assert cost.sampler_cost(2, (1, 6, 16, 16)).moved == each * 3 * 16 * 16


def test_a_kernel_takes_the_longer_of_both() -> None:
    by_bytes = cost.one(cost.BANDWIDTH, cost.PEAK / 2)
    by_operations = cost.one(cost.BANDWIDTH / 2, cost.PEAK)
    assert (by_bytes.least, by_operations.least) == (1.0, 1.0)
    assert (by_bytes + by_operations) == cost.Cost(2, 1.5 * cost.BANDWIDTH, 1.5 * cost.PEAK, 2.0)
    assert by_bytes * 3 == cost.Cost(3, 3 * cost.BANDWIDTH, 1.5 * cost.PEAK, 3.0)


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--side", "250"], ["--side", "0"]])
def test_numbers_that_no_restore_has(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cost.main(arguments) == 2
    assert "hint: use at least one" in capsys.readouterr().err


def test_the_views_launch_nothing_on_a_device_either() -> None:
    """Each of them is one: its result lies in the memory that it was given."""
    x = torch.zeros(2, 3, 4, 4)
    made = [x.permute(0, 2, 3, 1), x.view(6, 16), x.split([1, 2], 1)[0], x[0], x.flatten(1).t(), x[:, 1:]]
    assert all(each.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() for each in made)
    assert launches.PRODUCTS.isdisjoint(launches.VIEWS)
