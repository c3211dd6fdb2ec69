"""What the machine says of itself, from /proc as written and where there is none."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrs.runtime.system import machine

CPUINFO = """processor\t: 0
model name\t: Example CPU @ 2.00GHz
flags\t\t: fpu avx2 avx512f amx_bf16 made_up

processor\t: 1
model name\t: Another
"""


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands for /proc; empty at first."""
    caches = (machine._cpuinfo, machine.processor, machine.instructions)
    monkeypatch.setattr(machine, "Path", lambda name: tmp_path / Path(name).name)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path
    for cached in caches:
        cached.cache_clear()


def test_the_first_processor_counts(proc: Path) -> None:
    (proc / "cpuinfo").write_text(CPUINFO)
    assert machine.processor() == "Example CPU @ 2.00GHz"
    assert machine.instructions() == ("avx2", "avx512f", "amx_bf16")


def test_arm_lists_features(proc: Path) -> None:
    (proc / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert machine.instructions() == ("asimd", "bf16")


def test_without_proc_there_is_still_a_name(proc: Path) -> None:
    assert machine.processor()
    assert machine.instructions() == ()
    assert machine.free_memory() is None


@pytest.mark.parametrize(
    ("text", "free"),
    [("MemTotal: 9 kB\nMemAvailable:    2048 kB\n", 2048 * 1024), ("MemTotal: 9 kB\n", None), ("", None)],
)
def test_free_memory(proc: Path, text: str, free: int | None) -> None:
    (proc / "meminfo").write_text(text)
    assert machine.free_memory() == free


def test_threads_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert machine.threads() == 3


@pytest.mark.parametrize(("count", "threads"), [(4, 4), (None, 1)])
def test_threads_where_there_is_no_affinity(monkeypatch: pytest.MonkeyPatch, count: int | None, threads: int) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert machine.threads() == threads


def test_a_fingerprint_tells_what_an_engine_depends_on(proc: Path) -> None:
    (proc / "cpuinfo").write_text(CPUINFO)
    here = machine.fingerprint("openvino", "2026.4")
    assert here == {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": "Example CPU @ 2.00GHz",
        "instructions": "avx2 avx512f amx_bf16",
        "backend": "openvino 2026.4",
    }
    assert machine.fingerprint("openvino", "2026.5") != here


def test_each_gpu_has_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    names, current = ["NVIDIA H200", "NVIDIA A10"], [0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: names[index])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9 - index, 6 * index))
    machine._gpu.cache_clear()
    assert machine.gpu() == "NVIDIA H200 9.0"
    current[0] = 1
    assert machine.gpu() == "NVIDIA A10 8.6"
    machine._gpu.cache_clear()
