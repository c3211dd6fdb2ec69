"""What a machine must have, and what is said where it has not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import rows
from benchmarks.gpu import device
from benchmarks.gpu.__main__ import main
from mrs.runtime.errors import InputError

pytestmark = pytest.mark.slow(4)

torch = pytest.importorskip("torch")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _not_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    # tests/kernels/gpu sets it for the whole session.
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.mark.parametrize("name", device.PACKAGES)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(device, "find_spec", lambda asked: None if asked == name else object())
    with pytest.raises(InputError, match=f"^{name} is not installed for {sys.executable} .*GPU_PYTHON="):
        device.need()


def test_an_interpreted_kernel_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "find_spec", lambda _: object())
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(InputError, match="TRITON_INTERPRET"):
        device.need()


@pytest.mark.parametrize(
    ("built", "found", "said"),
    [(None, False, "built without CUDA"), ("13.0", False, "no NVIDIA GPU"), ("13.0", True, None)],
)
def test_a_gpu_is_needed(monkeypatch: pytest.MonkeyPatch, built: str | None, found: bool, said: str | None) -> None:
    monkeypatch.setattr(device, "find_spec", lambda _: object())
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    if said is None:
        device.need()
    else:
        with pytest.raises(InputError, match=said):
            device.need()


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_there_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "; hint: " in err
    assert err.count("\n") == 1


def test_without_any_package_there_is_one_line_too() -> None:
    # -S leaves out site-packages, and with them everything that is not Python's own.
    command = [sys.executable, "-S", "-m", "benchmarks.gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={"PYTHONPATH": "."})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: numpy is not installed for ")
    assert done.stderr.count("\n") == 1


def test_a_row_names_device_driver_versions_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(
        name="A GPU", major=9, minor=0, multi_processor_count=132, total_memory=80 << 30, L2_cache_size=50 << 20
    )
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(device, "driver", lambda: "580.95.05")
    monkeypatch.setattr(rows, "commit", lambda: "abc+")
    about = device.about()
    assert {key: about[key] for key in ("commit", "device", "capability", "driver", "memory_mib", "cache_mib")} == {
        "commit": "abc+", "device": "A GPU", "capability": "9.0", "driver": "580.95.05",
        "memory_mib": 81920, "cache_mib": 50,
    }  # fmt: skip
    assert about["versions"]["cuda"] == "13.0"
    assert about["versions"]["torch"] == torch.__version__
    assert {"mrs-trt", "numpy", "triton"} <= set(about["versions"])
    assert device.about("given")["commit"] == "given"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12\nGCC version: 12.3.0", "535.183.01"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build", "580.95.05"),
        ("something else", ""),
        (None, ""),
    ],
)  # fmt: skip
def test_without_its_tool_the_driver_tells_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, version: str
) -> None:
    monkeypatch.setenv("PATH", "")
    if text is not None:
        (tmp_path / "version").write_text(text)
    assert device.driver(tmp_path / "version") == version


def test_the_tool_tells_the_drivers_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 580.95.05\necho 580.95.05\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device.driver(tmp_path / "none") == "580.95.05"
