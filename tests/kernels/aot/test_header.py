"""The C header says of every written file what a C compiler accepts and the file itself confirms."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

# Compiling takes a minute or two, and several times that where other programs keep the cores busy.
pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow(5)]

PRINT = """
#include <stdio.h>
#include "mrs_kernels.h"
int main(void) {
    for (size_t i = 0; i < sizeof mrs_kernels / sizeof *mrs_kernels; i++) {
        const mrs_kernel *k = &mrs_kernels[i];
        printf("%s;%s;%d;%u;%u;%u;%u;%d;%s\\n", k->name, k->symbol, k->capability, k->threads, k->shared,
               k->groups, k->group, k->planes, k->parameters);
    }
    return 0;
}
"""
PARAMETER = re.compile(r"Ordinal : 0x([0-9a-f]+)\s+Offset\s+: 0x[0-9a-f]+\s+Size\s+: 0x([0-9a-f]+)")
THREADS = re.compile(r"EIATTR_REQNTID\s+Format:\s+EIFMT_SVAL\s+Value:\s+0x([0-9a-f]+)")


@pytest.fixture(scope="session", params=["wide", "half", "rest"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    """The folder and what a C program finds in its header."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    folder: Path = request.getfixturevalue(request.param).folder
    work = tmp_path_factory.mktemp("c")
    (work / "print.c").write_text(PRINT)
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *strict, "-I", folder, "print.c", "-o", "print"], cwd=work, check=True)
    out = subprocess.run([work / "print"], capture_output=True, text=True, check=True).stdout
    return folder, [line.split(";") for line in out.splitlines()]


def elf(path: Path) -> str:
    """What NVIDIA's tool tells of a file."""
    spec = find_spec("triton")
    assert spec is not None
    assert spec.origin is not None
    tool = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([tool, "--dump-elf", path], capture_output=True, text=True, check=True).stdout


def test_every_file_is_listed_once(written: tuple[Path, list[list[str]]]) -> None:
    folder, entries = written
    listed = [f"sm_{entry[2]}/{entry[0]}.cubin" for entry in entries]
    assert sorted(listed) == sorted(str(path.relative_to(folder)) for path in folder.rglob("*.cubin"))


def test_the_files_hold_what_is_listed(written: tuple[Path, list[list[str]]]) -> None:
    folder, entries = written
    for name, symbol, capability, threads, *_, parameters in entries:
        text = elf(folder / f"sm_{capability}" / f"{name}.cubin")
        assert f".nv.info.{symbol}\n" in text, name
        sizes = {int(ordinal, 16): int(size, 16) for ordinal, size in PARAMETER.findall(text)}
        # Pointers have 8 bytes, integers 4.
        listed = [8 if "*" in parameter else 4 for parameter in parameters.split(", ")]
        assert listed == [sizes[ordinal] for ordinal in range(len(sizes))], name
        (required,) = {int(found, 16) for found in THREADS.findall(text)}
        assert required == int(threads), name


def test_names_tell_the_kernel_and_how_it_is_launched(written: tuple[Path, list[list[str]]]) -> None:
    for name, symbol, _, threads, _, groups, group, planes, _ in written[1]:
        assert name.startswith(symbol), name
        assert int(planes) == ("planes" in symbol), name
        if symbol == "audit_values":
            # A run for each thread, of 16 bytes or of a value.
            assert int(groups) == int(threads), name
            assert (int(group) == 1) == name.endswith("_any"), name
            continue
        if symbol.startswith("scale_"):
            # What a place is a sum of lies together; two places for each thread.
            assert (int(groups), int(group)) == (2 * int(threads), 1), name
            continue
        # find and choose work on a picture's counts, all others on tiles of several pixels for each thread.
        tiled = int(groups) * int(group) >= 4 * int(threads)
        assert tiled == (symbol not in ("find", "choose")), name


def test_the_header_has_short_lines_and_no_tabs(written: tuple[Path, list[list[str]]]) -> None:
    for line in (written[0] / "mrs_kernels.h").read_text(encoding="ascii").splitlines():
        assert "\t" not in line
        assert len(line) <= 120 or line.lstrip().startswith('"'), line
