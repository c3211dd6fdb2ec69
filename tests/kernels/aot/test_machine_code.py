"""Reading disassemblies: every spelling of an access from Turing to Blackwell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.together import together


def parse(*lines: str, local: int = 0) -> Any:
    from mrs.kernels.aot import machine_code

    code = "\n".join(f"        /*{16 * number:04x}*/   {line} ;" for number, line in enumerate(lines))
    return machine_code.parse(code, 40, local)


@together(
    ("line", "width"),
    [
        ("LDG.E.128.SYS R8, [R2]", 16),
        ("@!P0 LDG.E.64.SYS R8, [R2+0x10]", 8),
        ("LDG.E.SYS R8, [R2]", 4),
        ("LDG.E.U8.SYS R8, [R2]", 1),
        ("@P3 LDG.E.128 R12, desc[UR8][R44.64]", 16),
        ("@!UP0 LDG.E.128.CONSTANT R12, [R44.64]", 16),
        ("LDG.E.LTC128B.64 R12, desc[UR8][R44.64]", 8),
        ("LDG.E.LTC128B R12, desc[UR8][R44.64]", 4),
        ("LDG.E.STRONG.GPU R12, desc[UR8][R44.64]", 4),
        ("LDG.E.128.STRONG.SYS R12, desc[UR8][R44.64]", 16),
        ("LDG.E.EF.128 R12, desc[UR8][R44.64]", 16),
        ("LDG.E.U16 R31, desc[UR8][R12.64]", 2),
        ("LDG.E.S16.CONSTANT R31, desc[UR8][R12.64]", 2),
        ("LDG.E.S8 R31, desc[UR8][R12.64]", 1),
        ("LDG.E.ENL2.256 R8, R4, desc[UR4][R4.64], 0xfe", 32),
        ("LDG.E.ENL2.256.CONSTANT R16, R12, desc[UR4][R24.64+0x20]", 32),
        ("LD.E R25, desc[UR4][R24.64+0x100]", 4),
        ("LD.E.128.SYS R24, [R2]", 16),
        ("LDGSTS.E.BYPASS.128 [R5], desc[UR4][R2.64]", 16),
        ("LDGSTS.E [R5], [R2.64]", 4),
    ],
)
def test_loads(line: str, width: int) -> None:
    found = parse(line)
    assert found.loads == Counter({width: 1})
    assert (found.stores, found.shared_numbers, found.atomics, found.spilled) == (Counter(), 0, 0, 0)


@together(
    ("line", "width"),
    [
        ("STG.E.128.SYS [R2], R8", 16),
        ("@P0 STG.E.64 [R2.64], R8", 8),
        ("@!P2 STG.E.128 desc[UR8][R44.64], R8", 16),
        ("STG.E desc[UR4][R2.64+0x40], R16", 4),
        ("STG.E.U16 desc[UR8][R8.64], R15", 2),
        ("STG.E.U8.SYS [R8], R15", 1),
        ("STG.E.ENL2.256 desc[UR4][R2.64], R20, R8", 32),
        ("STG.E.EF.128 desc[UR4][R2.64], R20", 16),
        ("ST.E desc[UR4][R2.64+0x12c], R25", 4),
        ("ST.E.U8.SYS [R8], R15", 1),
    ],
)
def test_stores(line: str, width: int) -> None:
    found = parse(line)
    assert found.stores == Counter({width: 1})
    assert (found.loads, found.shared_numbers, found.atomics, found.spilled) == (Counter(), 0, 0, 0)


@together(
    ("line", "bytes_"),
    [
        ("STL [R1], R10", 4),
        ("STL.64 [R1+0x8], R10", 8),
        ("STL.128 [R1+0x10], R8", 16),
        ("LDL.LU R2, [R1]", 4),
        ("@!P1 LDL.LU.64 R2, [R1+0x8]", 8),
        ("LDL.U8 R2, [UR4]", 1),
    ],
)
def test_local_memory_is_spilling(line: str, bytes_: int) -> None:
    found = parse(line)
    assert found.spilled == bytes_
    assert parse(line, line, local=100).spilled == 100 + 2 * bytes_
    assert found.loads == found.stores == Counter()


@together(
    "line",
    [
        "LDG.E.EL R29, desc[UR6][R42.64+0x8]",
        "LDG.E.EL.SYS R29, [R42+0x8]",
        "@P0 LDG.E.EL.128 R8, desc[UR6][R42.64]",
        "LDG.E.EL.CONSTANT R29, [R42.64]",
        "LD.E.EL R29, [R42.64]",
    ],
)
def test_numbers_that_all_programs_read_are_no_pixels(line: str) -> None:
    found = parse(line)
    assert found.shared_numbers == 1
    assert found.loads == Counter()
    assert found.issued() == 0


@together(
    "line",
    [
        "RED.E.ADD.STRONG.GPU [R2.64], R5",
        "@P0 RED.E.MAX.S32.STRONG.GPU [R2], R5",
        "REDG.E.ADD.STRONG.GPU desc[UR4][R2.64], R5",
        "ATOMG.E.ADD.STRONG.GPU PT, RZ, desc[UR4][R2.64], R5",
        "ATOM.E.ADD.STRONG.GPU PT, RZ, [R2.64], R5",
    ],
)
def test_atomic_operations(line: str) -> None:
    found = parse(line)
    assert found.atomics == 1
    assert found.loads == found.stores == Counter()


@together(
    "line",
    [
        "LDS.128 R8, [R3]",
        "@P0 STS.64 [R3], R8",
        "LDC.64 R4, c[0x0][0x380]",
        "LDCU.64 UR4, c[0x0][0x358]",
        "ULDC.64 UR4, c[0x0][0x358]",
        "LDGDEPBAR",
        "LDSM.16.M88.4 R8, [R3]",
        "ATOMS.ADD RZ, [R3], R5",
        "REDUX.SUM UR4, R5",
        "CREDUX.MAX.S32 UR6, R5",
        "BAR.SYNC.DEFER_BLOCKING 0x0",
        "SHFL.BFLY PT, R5, R4, 0x10, 0x1f",
        "EXIT",
    ],
)
def test_what_does_not_reach_device_memory(line: str) -> None:
    from mrs.kernels.aot.machine_code import MachineCode

    assert parse(line) == MachineCode(40, 0, Counter(), Counter(), 0, 0)


def test_all_accesses_of_a_kernel_are_added_up() -> None:
    found = parse(
        "LDG.E.EL R4, [R2.64]", "LDG.E.128 R8, [R2.64]", "@P0 LDG.E.128 R12, [R2.64]", "LDG.E.U16 R5, [R2.64]",
        "STG.E.64 [R2.64], R8", "RED.E.ADD.STRONG.GPU [R2.64], R5", "STG.E.64 [R2.64], R10", "EXIT",
    )  # fmt: skip
    assert (found.loads, found.stores) == (Counter({16: 2, 2: 1}), Counter({8: 2}))
    assert (found.registers, found.shared_numbers, found.atomics) == (40, 1, 1)
    assert found.narrowest == 2
    assert found.issued() == 2 * 16 + 2 + 2 * 8


def test_a_kernel_without_accesses_has_no_narrowest() -> None:
    assert parse("EXIT").narrowest == 0


# What the tools print of a whole file

USAGE = """
Resource usage:
 Common:
  GLOBAL:0
 Function copy:
  REG:30 STACK:8 SHARED:512 LOCAL:16 CONSTANT[0]:640 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
CODE = "/*0000*/ STL [R1], R2 ;\n/*0010*/ LDG.E.128 R8, [R2.64] ;\n/*0020*/ EXIT ;"
BINARY = SimpleNamespace(symbol="copy", cubin=b"")


@pytest.fixture
def printing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Let the two tools print what is given."""

    def set_to(usage: str, code: str) -> None:
        from mrs.kernels.aot import machine_code

        prints = {"cuobjdump": usage, "nvdisasm": code}
        monkeypatch.setattr(machine_code, "_run", lambda tool, *_: prints[tool])

    return set_to


def test_registers_and_local_memory_come_from_the_usage(printing: Callable[[str, str], None]) -> None:
    from mrs.kernels.aot.machine_code import MachineCode, read

    printing(USAGE, CODE)
    # 8 of the stack, 16 of local memory, 4 of the access.
    assert read(BINARY) == MachineCode(30, 28, Counter({16: 1}), Counter(), 0, 0)


@together(
    ("usage", "code", "said"),
    [
        ("", CODE, "no resource usage of copy"),
        (USAGE.replace("STACK", "DEPTH"), CODE, "no resource usage of copy: Resource usage"),
        (USAGE, "", "no code of copy"),
        (USAGE, "\t.target\tsm_90\n", "no code of copy: .target"),
    ],
    ids=["no usage", "other usage", "no code", "no instructions"],
)
def test_what_is_not_understood_is_refused(
    printing: Callable[[str, str], None], usage: str, code: str, said: str
) -> None:
    from mrs.kernels.aot.machine_code import read

    printing(usage, code)
    with pytest.raises(RuntimeError, match=said):
        read(BINARY)


def test_a_file_that_is_no_machine_code_is_refused() -> None:
    from mrs.kernels.aot.machine_code import read

    with pytest.raises(RuntimeError, match=r"cuobjdump failed: .+"):
        read(SimpleNamespace(symbol="copy", cubin=b"no machine code"))
