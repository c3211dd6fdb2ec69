"""Kernels compiled in processes of their own: this one may run Triton's interpreter, whose kernels cannot be compiled.

So no module here loads triton while tests are collected; the interpreter would be chosen too late.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
# With --wide, seven kernels of half precision: both kinds of step, start in both layouts, finish, a count, an audit.
HALF = (
    "step_planes_bf16",
    "step_pixels_bf16",
    "start_pixels_u8_bf16",
    "finish_pixels_u8_bf16_last",
    "planes_coarse_bf16",
    "audit_values_bf16",
)
# All that the two other reports leave out is represented, and what works on counts alone.
REST = (
    "find",
    "choose",
    "step_planes_bf16_last",
    "start_planes_u8_bf16_last",
    "finish_planes_u8_fp32",
    "audit_values_fp16_any",
    "mirror_planes_bf16_last",
    "scale_columns_u8_levels",
    "scale_rows_levels",
)
# Processes that compile at a time, where as many others run tests.
JOBS = max(2, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
# Bytes of compiled kernels kept between runs; a run leaves a hundred million.
MOST_KEPT = 500_000_000
HEAD = ["kernel", "registers", "spilled", "shared", "loads x bytes", "stores x bytes", "bytes/element", "minimum"]


@dataclass(frozen=True)
class Report:
    """What the command printed.

    Attributes:
        code, out, err: of the process.
        folder: where it was told to write.
    """

    code: int
    out: str
    err: str
    folder: Path

    @property
    def tables(self) -> dict[str, dict[str, dict[str, str]]]:
        """Cells by target, kernel and column."""
        found: dict[str, dict[str, dict[str, str]]] = {}
        target = ""
        for line in self.out.splitlines():
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            if line in (*TARGETS, "all"):
                target = line
            elif cells and target != "all" and cells != HEAD and cells[0].strip("-"):
                found.setdefault(target, {})[cells[0]] = dict(zip(HEAD, cells, strict=True))
        return found


@pytest.fixture(scope="session", autouse=True)
def _triton() -> None:
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed")


@pytest.fixture(scope="session")
def environment(_triton: None, pytestconfig: pytest.Config) -> dict[str, str]:
    """Of a process that compiles. Triton names what it compiles by source, target and version: kept for later runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    cache = _pruned(Path(pytestconfig.cache.mkdir("triton")))
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "PYTHONWARNINGS": "error", "TRITON_CACHE_DIR": str(cache)}


def _pruned(folder: Path) -> Path:
    """The folder, emptied where what earlier kernels left in it has become too much."""
    if sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) > MOST_KEPT:
        shutil.rmtree(folder)
        folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def python(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python in that environment, with changes to it; returns when it has ended."""

    def run(*arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, cwd=ROOT, env={**environment, **changes}, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="session")
def facts(python: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., Any]:
    """Run a file beside this one; returns what it prints as JSON."""

    def run(name: str, *arguments: object) -> Any:
        ended = python(Path(__file__).with_name(name), *arguments)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return run


@pytest.fixture(scope="session")
def report(
    python: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Report]:
    """Run the command with --write; returns what it printed."""

    def run(*arguments: str) -> Report:
        folder = tmp_path_factory.mktemp("written") / "new" / "folder"
        ended = python("-m", "mrs.kernels.aot", "--write", folder, *arguments)
        return Report(ended.returncode, ended.stdout, ended.stderr, folder)

    return run


@pytest.fixture(scope="session")
def wide(report: Callable[..., Report]) -> Report:
    """Every kernel with nothing but wide accesses, for one target."""
    return report("--wide", "--target", "sm_90", f"--jobs={JOBS}")


@pytest.fixture(scope="session")
def half(report: Callable[..., Report]) -> Report:
    """Kernels of half precision, for the other targets."""
    others = [f"--target={target}" for target in TARGETS if target != "sm_90"]
    return report("--wide", *others, f"--jobs={JOBS}", *(f"--kernel={part}" for part in HALF))


@pytest.fixture(scope="session")
def rest(report: Callable[..., Report]) -> Report:
    """Some of the other kernels, for one target."""
    return report("--target", "sm_90", "--jobs=2", *(f"--kernel={part}" for part in REST))
