"""Whole processes: the cost of an import, of the first restore, and the memory of a very large picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

import mrs
from mrs.building.source import WEIGHTS
from mrs.numerics.solver import RECOMMENDED

IMPORT = "import time; begin = time.perf_counter(); import mrs; print(time.perf_counter() - begin)"
# Peak memory is the child's own, told by the system when it ends.
PEAK = """
import json, resource, subprocess, sys
begin = __import__("time").perf_counter()
subprocess.run(sys.argv[1:], check=True)
seconds = __import__("time").perf_counter() - begin
print(json.dumps({"seconds": seconds, "kib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}))
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "rain.mrsplan"
    mrs.build(WEIGHTS / "rain.safetensors", path)
    return path


def test_import(benchmark: BenchmarkFixture, record: Callable[..., None]) -> None:
    seconds: list[float] = []
    benchmark.pedantic(lambda: seconds.append(float(_python("-c", IMPORT))), rounds=11, warmup_rounds=1)
    seconds = sorted(seconds[1:])
    record("import mrs", {"rounds": 11}, {"median_s": seconds[5], "min_s": seconds[0], "max_s": seconds[-1]})


def test_first_restore(benchmark: BenchmarkFixture, record: Callable[..., None], plan: Path, tmp_path: Path) -> None:
    """From process start to a written 256x256 picture, with a plan whose engine was compiled before."""
    Image.fromarray(np.full((256, 256, 3), 128, np.uint8)).save(tmp_path / "small.png")
    arguments = ("-m", "mrs.cli", "restore", str(plan), str(tmp_path / "small.png"), "-o", str(tmp_path / "out.png"))
    benchmark.pedantic(lambda: _python(*arguments, "--overwrite", "--quiet"), rounds=9, warmup_rounds=1)
    stats = benchmark.stats.stats
    record(
        "first restore of a process, 256x256",
        {"rounds": 9, "evaluations": RECOMMENDED.steps},
        {"median_s": stats.median, "min_s": stats.min, "max_s": stats.max},
    )


def test_large_picture(benchmark: BenchmarkFixture, record: Callable[..., None], plan: Path, tmp_path: Path) -> None:
    """4096x4096 through the command line, which cuts it into tiles by itself."""
    side = np.linspace(0, 255, 4096, dtype=np.float32)
    picture = np.stack([np.add.outer(side, side) / 2] * 3, axis=2).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "large.png", compress_level=1)
    restore = (sys.executable, "-m", "mrs.cli", "restore", str(plan), str(tmp_path / "large.png"))
    measured = {}

    def run() -> None:
        measured.update(json.loads(_python("-c", PEAK, *restore, "-o", str(tmp_path / "out.png"), "-q")))

    benchmark.pedantic(run, rounds=1)
    record("restore of 4096x4096", {"rounds": 1}, {"seconds": measured["seconds"], "peak_gib": measured["kib"] / 2**20})


def _python(*arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, env=environment)
    return done.stdout
