"""What machine code says of itself: registers, local memory, and the width of every access to device memory."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import triton

from mrs.kernels.aot.binary import Binary

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)")
# An access with its suffixes, such as LDG.E.EL.128.SYS. LD and ST find out at run time which memory they mean, LDGSTS
# copies to shared memory, ATOMG and RED are atomic.
ACCESS = re.compile(r"\b(LDGSTS|LDG?|STG?|LDL|STL|ATOMG?|REDG?)((?:\.[A-Z0-9_]+)*)\b")
END = re.compile(r"\bEXIT\b")
WIDTHS = {"256": 32, "128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
# Loads that every program makes of a few shared numbers carry Triton's hint evict_last; pixels never do.
SHARED_NUMBER = "EL"


@dataclass(frozen=True)
class MachineCode:
    """Figures of one kernel.

    Attributes:
        registers: of a thread.
        spilled: bytes of local memory of a thread, and accesses to it.
        loads, stores: accesses to device memory in the code by their width in bytes, without `shared_numbers`.
        shared_numbers: loads of records, key and bounds.
        atomics: atomic operations.
    """

    registers: int
    spilled: int
    loads: Counter[int]
    stores: Counter[int]
    shared_numbers: int
    atomics: int

    @property
    def narrowest(self) -> int:
        """Bytes of the narrowest access to pixels; 0 without any."""
        return min([*self.loads, *self.stores], default=0)

    def issued(self) -> int:
        """Bytes that a thread loads and stores when every access of the code is carried out once."""
        return sum(width * times for counts in (self.loads, self.stores) for width, times in counts.items())


def read(binary: Binary) -> MachineCode:
    """Disassemble.

    Raises:
        RuntimeError: where the disassembler fails or prints what is not understood.
    """
    with _file(binary.cubin) as path:
        usage = _run("cuobjdump", "--dump-resource-usage", path)
        code = _run("nvdisasm", "--print-code", "--no-dataflow", path)
    found = RESOURCES.search(usage)
    if found is None:
        raise RuntimeError(f"no resource usage of {binary.symbol}: {usage.strip()[:200]}")
    if END.search(code) is None:
        raise RuntimeError(f"no code of {binary.symbol}: {code.strip()[:200]}")
    registers, stack, local = map(int, found.groups())
    return parse(code, registers, stack + local)


def parse(code: str, registers: int, local: int) -> MachineCode:
    """Count the accesses of a disassembly; `local` are the bytes of local memory that the assembler reports."""
    loads: Counter[int] = Counter()
    stores: Counter[int] = Counter()
    shared = atomics = 0
    for name, suffixes in ACCESS.findall(code):
        parts = suffixes.split(".")
        width = next((WIDTHS[part] for part in parts if part in WIDTHS), 4)
        if name in ("LDL", "STL"):
            local += width
        elif name in ("LDG", "LD") and SHARED_NUMBER in parts:
            shared += 1
        elif name in ("LDG", "LD", "LDGSTS"):
            loads[width] += 1
        elif name in ("STG", "ST"):
            stores[width] += 1
        else:
            atomics += 1
    return MachineCode(registers, local, loads, stores, shared, atomics)


def _run(tool: str, *arguments: str) -> str:
    done = subprocess.run([TOOLS / tool, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{tool} failed: {done.stderr.strip()[:200]}")
    return done.stdout


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    # The disassemblers read files only.
    with NamedTemporaryFile(suffix=".cubin", delete=False) as file:
        file.write(content)
    try:
        yield file.name
    finally:
        os.unlink(file.name)
