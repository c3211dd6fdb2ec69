"""What counts as a fault: on kernels that really have one, and on figures made up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.slow(11)

THREADS = 128
GROUPS, GROUP = 128, 4


@pytest.fixture(scope="session")
def spoilt(facts: Callable[..., Any]) -> dict[str, list[str]]:
    return facts("spoilt.py")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("once", []),
        ("twice", ["twice on sm_90 moves 12 bytes for each element where 8 suffice"]),
        ("never", ["never on sm_90 moves 4 bytes for each element where 8 suffice"]),
        ("frozen", ["frozen is compiled anew for values of runs"]),
        ("any", ["step_planes_bf16_any on sm_90 has accesses of 2 bytes where 16 are possible"]),
    ],
)
def test_a_kernel_with_a_defect_has_that_fault(spoilt: dict[str, list[str]], name: str, expected: list[str]) -> None:
    assert spoilt[name] == expected


def test_arrays_off_their_alignment_are_accessed_narrowly(spoilt: dict[str, list[str]]) -> None:
    (fault,) = spoilt["aligned to 4"]
    assert re.fullmatch(r"step_planes_bf16 on sm_90 has accesses of [24] bytes where 16 are possible", fault)


def test_a_kernel_without_enough_registers_spills(spoilt: dict[str, list[str]]) -> None:
    (fault,) = spoilt["32 registers"]
    found = re.fullmatch(r"step_pixels_bf16_last on sm_90 spills (\d+) bytes of each thread to local memory", fault)
    assert found is not None
    assert int(found[1]) > 4


def figures(
    loads: dict[int, int],
    stores: dict[int, int],
    traffic: Any = (4, 4),
    interleaved: Sequence[float] = (),
    wide: bool = True,
    spilled: int = 0,
    capability: int = 80,
    name: str = "copy",
) -> Any:
    """Figures of a kernel of one plane, four elements for each thread: a load of 16 bytes is 4 bytes of an element."""
    from mrs.kernels.aot.binary import Binary
    from mrs.kernels.aot.cases import Case
    from mrs.kernels.aot.machine_code import MachineCode
    from mrs.kernels.aot.report import Figures
    from mrs.kernels.gpu.launch import Launch
    from mrs.kernels.gpu.traffic import Traffic

    launch = Launch(SimpleNamespace(__name__="copy"), (1, 1), (), {"GROUPS": GROUPS, "GROUP": GROUP}, THREADS // 32)
    case = Case(name, launch, None if traffic is None else Traffic(*traffic, tuple(interleaved)), wide)
    binary = Binary(capability, "copy", (), THREADS, 64, b"")
    return Figures(case, binary, MachineCode(40, spilled, Counter(loads), Counter(stores), 3, 0))


def test_bytes_are_those_of_all_threads_over_the_elements_of_a_tile() -> None:
    assert figures({16: 1}, {16: 1}).moved == 8
    assert figures({16: 2, 4: 4}, {8: 1}).moved == 8 + 4 + 2
    assert figures({16: 1}, {}, traffic=None).moved is None


@pytest.mark.parametrize("byte", [-1, 1])
def test_one_byte_too_many_or_too_few_is_a_fault(byte: int) -> None:
    assert figures({16: 1}, {16: 1}, traffic=(4, 4)).faults() == []
    (fault,) = figures({16: 1}, {16: 1}, traffic=(4 + byte, 4)).faults()
    assert fault == f"copy on sm_80 moves 8 bytes for each element where {8 + byte} suffice"


def test_every_fault_is_told() -> None:
    faults = figures({16: 2, 8: 1}, {16: 1}, spilled=24).faults()
    assert [fault.split()[3] for fault in faults] == ["spills", "has", "moves"]


def test_narrow_accesses_are_no_fault_where_the_layout_asks_for_them() -> None:
    assert figures({4: 4}, {4: 4}, wide=False).faults() == []
    assert figures({4: 4}, {4: 4}, wide=True).faults() != []


def test_wider_accesses_than_16_bytes_are_no_fault() -> None:
    assert figures({32: 1}, {32: 1}, traffic=(8, 8)).faults() == []


def test_no_access_at_all_is_a_fault() -> None:
    assert len(figures({}, {}).faults()) == 2
    # Counts have no traffic to compare with, but must not spill.
    assert figures({4: 1}, {}, traffic=None, wide=False).faults() == []
    assert len(figures({4: 1}, {}, traffic=None, wide=False, spilled=4).faults()) == 1


# A load of 4 bytes by each thread is 1 byte for each element: twelve of them, compared with less than that.


@pytest.mark.parametrize(
    ("minimum", "interleaved"),
    [(12, (3.0,)), (11, (3.0,)), (10, (3.0, 3.0)), (11, (3.0, 6.0)), (10, (3.0, 6.0)), (9, (3.0, 6.0))],
    ids=["not in the code", "the only array", "two arrays", "of two the smaller", "of two the larger", "of two both"],
)
def test_a_masked_fourth_of_an_interleaved_array_is_not_counted(minimum: int, interleaved: tuple[float, ...]) -> None:
    found = figures({4: 12}, {}, (minimum, 0), interleaved, wide=False)
    assert found.moved == minimum
    assert found.faults() == []


@pytest.mark.parametrize(
    ("minimum", "interleaved"),
    [(11, ()), (11, (6.0,)), (10, (3.0,)), (9, (3.0, 3.0)), (13, (3.0,))],
    ids=["nothing interleaved", "a sixth", "two thirds", "more than both", "too few"],
)
def test_any_other_surplus_is_a_fault(minimum: int, interleaved: tuple[float, ...]) -> None:
    found = figures({4: 12}, {}, (minimum, 0), interleaved, wide=False)
    assert found.moved == 12
    assert len(found.faults()) == 1


def test_the_table_shows_every_figure() -> None:
    from mrs.kernels.aot.report import table

    lines = table([figures({16: 2, 4: 1}, {}, name="one"), figures({}, {8: 2}, traffic=None, name="another")])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines.splitlines()]
    assert len({len(line) for line in lines.splitlines()}) == 1
    assert [row[0].strip("-") for row in rows] == ["kernel", "", "one", "another"]
    assert rows[2][1:] == ["40", "0", "64", "2x16 1x4", "none", "9", "8"]
    assert rows[3][1:] == ["40", "0", "64", "none", "2x8", "", ""]


def test_the_summary_has_a_line_for_each_kernel_and_the_worst_of_all_targets() -> None:
    from mrs.kernels.aot.report import summary

    good, bad = {16: 1}, {16: 1, 4: 1}
    lines = summary(
        [figures(good, good, capability=100), figures(bad, good, capability=75, spilled=8), figures(good, {}, name="b")]
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines.splitlines()]
    assert rows[0][5:] == ["sm_75", "sm_80", "sm_100"]
    assert rows[2] == ["copy", "8 or 9", "8", "4", "8", "40", "", "40"]
    assert rows[3] == ["b", "4", "8", "16", "0", "", "40", ""]
