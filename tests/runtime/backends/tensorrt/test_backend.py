"""The backend: where it runs, and what is said where it does not."""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mrs.cli import main
from mrs.runtime import backends
from mrs.runtime.backends.tensorrt import TensorRt
from mrs.runtime.system import machine

INSTALL = "pip install 'mrs-trt[tensorrt]'"


def with_torch(reason: str | None = None) -> TensorRt:
    torch: Any = SimpleNamespace(missing=lambda: reason, precisions=lambda: ("fp32",))
    return TensorRt(torch)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_it_is_registered() -> None:
    backend = backends.get("tensorrt")
    assert (backend.name, backend.device) == ("tensorrt", "cuda")
    names = list(backends.BACKENDS)
    assert names.index("onnxruntime") < names.index("tensorrt") < names.index("torch")


def test_where_it_runs(world, backend) -> None:
    assert backend.missing() is None
    assert backend.precisions() == ("fp32", "bf16", "fp16", "int8", "fp8")


@pytest.mark.parametrize(
    ("gpu", "own", "more"),
    [
        ("NVIDIA H200 9.0", ("fp32", "bf16", "fp16"), ("int8", "fp8")),
        ("NVIDIA L4 8.9", ("fp32", "bf16", "fp16"), ("int8", "fp8")),
        ("NVIDIA B200 10.0", ("fp32", "bf16", "fp16"), ("int8", "fp8")),
        ("NVIDIA A100 8.0", ("fp32", "bf16", "fp16"), ("int8",)),
        ("Tesla T4 7.5", ("fp32", "fp16"), ("int8",)),
        ("Tesla V100 7.0", ("fp32", "fp16"), ()),
        ("", ("fp32",), ()),
    ],
)
def test_quantised_types_that_a_gpu_computes(monkeypatch: pytest.MonkeyPatch, gpu: str, own: Any, more: Any) -> None:
    monkeypatch.setattr(machine, "gpu", lambda: gpu)
    torch: Any = SimpleNamespace(missing=lambda: None, precisions=lambda: own)
    assert TensorRt(torch).precisions() == (*own, *more)


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    # torch is not loaded for this.
    torch: Any = SimpleNamespace(missing=lambda: pytest.fail("torch was asked"))
    assert TensorRt(torch).missing() == f"tensorrt is not installed: {INSTALL}"


def test_no_gpu(found: None) -> None:
    assert (
        with_torch("no NVIDIA GPU is found: check its driver").missing() == "no NVIDIA GPU is found: check its driver"
    )


@pytest.mark.parametrize(
    "error",
    [ImportError("libnvinfer.so.11: cannot open shared object file\nmore"), OSError("libcudart.so.13: not found")],
    ids=repr,
)
def test_a_library_that_is_missing(found: None, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise error

    class Finder:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if name == "tensorrt":
                raise error

    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    reason = with_torch().missing()
    assert reason == f"tensorrt does not load, a library is missing: {str(error).splitlines()[0]}: {INSTALL}"


@pytest.mark.parametrize("version", ["8.6.1", "9.0.0", "12.0.0", "unknown"])
def test_a_version_that_is_not_supported(found: None, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=version))  # type: ignore[arg-type]
    assert with_torch().missing() == f"tensorrt {version} is not supported: {INSTALL}"


@pytest.mark.parametrize(
    ("installed", "version"),
    [({"tensorrt": "11.4"}, "11.4"), ({"tensorrt-cu12": "10.16"}, "10.16"), ({}, "")],
    ids=str,
)
def test_the_version(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], version: str) -> None:
    def of(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr("mrs.runtime.system.libraries.version", of)
    assert backends.get("tensorrt").version() == version


# On the command line: one line, exit code 2, and nothing was written


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "tensorrt" else real(name))


def refused(capsys: Any, tmp_path: Any, *arguments: str) -> str:
    plan = tmp_path / "made.mrsplan"
    assert main(["build", "rain", "-o", str(plan), "-q", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    return str(error)


@pytest.mark.usefixtures("absent")
def test_a_build_without_the_library(capsys, tmp_path) -> None:
    line = refused(capsys, tmp_path, "--backend", "tensorrt")
    assert f"backend tensorrt cannot run here: tensorrt is not installed: {INSTALL}" in line


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--engine-option", "speed=5"], "engine option 'speed=5' is unknown"),
        (["--engine-option", "optimization-level=6"], "optimization-level is 6"),
        (["--engine-option", "optimization-level=fast"], "optimization-level is fast"),
        (["--engine-option", "hardware=any"], "hardware is any; hint: use one of same, capability, ampere"),
        (["--engine-option", "workspace-mib=1", "--backend", "openvino"], "backend openvino has no options"),
        (["--size-range", "64x64", "128x128", "--backend", "onnxruntime"], "and no range of sizes"),
        (["--size-range", "64x64", "128x128"], "does not hold the size to compile for: 64x64, 256x256, 128x128"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_are_wrong(capsys, tmp_path, given: list[str], says: str) -> None:
    assert says in refused(capsys, tmp_path, *given)
