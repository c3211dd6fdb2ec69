"""`mrs-trt doctor` reports whatever is broken, and never breaks itself."""

from __future__ import annotations

import builtins
import importlib
import platform
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from mrs._version import __version__
from mrs.commands import doctor
from mrs.runtime import backends
from mrs.runtime.errors import BackendError
from mrs.runtime.system import machine, toolchain
from mrs.runtime.system.nvidia_driver import Driver, Gpu


def broken(*arguments: object, **options: object) -> str:
    raise RuntimeError("it\nfell off")


def line_of(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.split()[:1] == [label])


def test_a_sound_machine(run) -> None:
    result = run("doctor")
    assert (result.code, result.err) == (0, "")
    assert line_of(result.out, "mrs-trt").split()[1] == f"{__version__},"
    assert str(machine.threads()) in line_of(result.out, "processor")
    assert "GiB free" in line_of(result.out, "memory")
    assert line_of(result.out, "kernels").split(maxsplit=1)[1].startswith(("compiled", "NumPy"))
    assert line_of(result.out, "cache").endswith("mrs-trt/networks: 0 compiled networks, 0.0 MiB of at most 1024")
    assert len([line for line in result.out.splitlines() if line.startswith("  onnxruntime ")]) == 2
    assert "runs fp32" in result.out


def test_the_cache_of_compiled_networks(run, monkeypatch) -> None:
    from mrs.runtime.network_cache import NetworkCache, key_of
    from mrs.runtime.system.user_cache import user_cache

    NetworkCache().write(key_of(number=1), bytes(3 << 19))
    assert line_of(run("doctor").out, "cache").endswith("networks: 1 compiled network, 1.5 MiB of at most 1024")
    with monkeypatch.context() as patched:
        patched.setattr("mrs.runtime.network_cache.NetworkCache.most", 1 << 20)
        assert line_of(run("doctor").out, "cache").endswith(" 1.5 MiB of at most 1, the largest aside")
    (user_cache() / "networks").chmod(0o777)
    line = line_of(run("doctor").out, "cache")
    assert "not used: " in line
    assert line.endswith("mrs-trt/networks may be written by others: chmod 700 it")
    monkeypatch.setattr("mrs.runtime.network_cache.user_cache", lambda: None)
    line = line_of(run("doctor").out, "cache")
    assert line.endswith("not used: this user has no home folder, and XDG_CACHE_HOME is not set")


def test_every_library_and_backend_is_listed(run) -> None:
    _, libraries, engines = run("doctor").out.split("\n\n")
    assert [line.split()[0] for line in libraries.splitlines()[1:]] == [name for name, _ in doctor.LIBRARIES]
    assert [line.split()[0] for line in engines.splitlines()[1:]] == list(backends.BACKENDS)


@pytest.mark.parametrize("method", ["missing", "precisions", "version"])
def test_a_backend_that_breaks(run, monkeypatch, method) -> None:
    monkeypatch.setattr(backends.OnnxRuntime, method, broken)
    result = run("doctor")
    assert result.code == 0
    line = [line for line in result.out.splitlines() if line.startswith("  onnxruntime ")][-1]
    assert ("RuntimeError: it fell off" in line) is True
    assert "  openvino " in result.out


def test_no_backend(run, monkeypatch) -> None:
    for backend in backends.BACKENDS.values():
        monkeypatch.setattr(type(backend), "missing", lambda self: f"{self.name} was left at home")
    result = run("doctor")
    assert (result.code, result.err) == (1, "")
    assert "openvino was left at home" in result.out
    assert result.out.endswith("no backend can run here: pip install openvino\n")


def test_only_broken_backends(run, monkeypatch) -> None:
    for backend in backends.BACKENDS.values():
        monkeypatch.setattr(type(backend), "missing", broken)
    assert run("doctor").code == 1


def test_a_backend_without_native_precisions_does_not_count_twice(run, monkeypatch) -> None:
    """One that says that it can run, and then cannot tell what, is not usable."""
    for backend in backends.BACKENDS.values():
        monkeypatch.setattr(type(backend), "missing", lambda self: None)
        monkeypatch.setattr(type(backend), "precisions", broken)
    assert run("doctor").code == 1


@pytest.mark.parametrize("module", ["mrs.runtime.backends", "mrs.runtime.system", "mrs.kernels"])
def test_an_installation_that_does_not_load(run, monkeypatch, module) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: object, **options: object) -> object:
        if name == module:
            raise ImportError(f"{name} does not load")
        return real(name, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "__import__", refuse)
        result = run("doctor")
    assert f"ImportError: {module} does not load" in result.out
    assert result.code == (1 if module == "mrs.runtime.backends" else 0)


def test_without_numpy(run, monkeypatch) -> None:
    """What restores cannot even be imported."""
    for name in [name for name in sys.modules if name.startswith(("mrs.runtime.backends", "mrs.kernels"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(importlib.import_module("mrs.runtime"), "backends")
    monkeypatch.setitem(sys.modules, "numpy", None)
    result = run("doctor")
    assert result.code == 1
    assert "not loadable: ModuleNotFoundError" in result.out


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (PackageNotFoundError("torch"), "not installed"),
        (None, "unknown"),
        (RuntimeError("no\nmetadata"), "unknown (RuntimeError: no metadata)"),
    ],
    ids=["missing", "without version", "damaged"],
)
def test_versions_that_cannot_be_told(run, monkeypatch, answer, shown) -> None:
    def version(name: str) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(doctor, "version", version)
    result = run("doctor")
    assert result.code == 0
    assert line_of(result.out, "torch").startswith(f"  torch           {shown} ")


@pytest.mark.parametrize(
    ("needs", "end"),
    [
        (
            ["numpy>=2", 'torch>=2.10; extra == "build"', 'torch>=2.10; extra == "gpu"'],
            ": pip install 'mrs-trt[build]'",
        ),
        (["torch>=2.10", 'torchvision; extra == "build"'], "training"),
        (["Torch>=2 ; sys_platform == \"linux\" and extra == 'all'"], ": pip install 'mrs-trt[all]'"),
        (None, "training"),
        (PackageNotFoundError("mrs-trt"), "training"),
    ],
    ids=["first extra", "no extra", "marker", "no metadata", "not installed"],
)
def test_what_is_missing_comes_with_the_extra_that_brings_it(run, monkeypatch, needs, end) -> None:
    def requires(name: str) -> object:
        if isinstance(needs, Exception):
            raise needs
        return needs

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", requires)
    monkeypatch.setattr(doctor, "version", absent)
    result = run("doctor")
    assert result.code == 0
    assert line_of(result.out, "torch").endswith(end)


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        (
            Driver("580.95.05", "13.0", (Gpu("NVIDIA X", "9.0", 80 << 30), Gpu("NVIDIA Y", "8.6", 3 << 29))),
            "NVIDIA X, compute capability 9.0, 80.0 GiB; NVIDIA Y, compute capability 8.6, 1.5 GiB; "
            "driver 580.95.05 for CUDA up to 13.0",
        ),
        (Driver("", "12.4", (Gpu("X", "8.0", 1 << 30),)), "1.0 GiB; driver of unknown version for CUDA up to 12.4"),
        (BackendError("no NVIDIA driver is found", "install it"), "none: no NVIDIA driver is found: install it"),
        (RuntimeError("it fell\noff"), "unknown (RuntimeError: it fell off)"),
    ],
    ids=["two", "no version", "none", "broken"],
)
def test_the_gpu_without_torch(run, monkeypatch, driver, says) -> None:
    def read() -> Driver:
        if isinstance(driver, Exception):
            raise driver
        return driver

    monkeypatch.setattr("mrs.runtime.system.nvidia_driver.read_driver", read)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = run("doctor")
    assert result.code == 0
    assert line_of(result.out, "gpu").endswith(says)


CPU_BUILD = "this torch is a build for CPUs: pip uninstall torch, then pip install 'mrs-trt[gpu]'"
NO_COMPILER = "there is no C compiler, which Triton needs: install gcc (apt install gcc), or let CC name one"
NO_HEADERS = "Python's headers, which Triton needs, are not there"


@pytest.fixture
def gpu_machine(run, monkeypatch, tmp_path):
    """What doctor says to do on a machine: with a driver or none, a build of torch, and with or without tools."""

    def advice(
        cuda: str | None = "13.0", driver: bool = True, compiler: bool = True, headers: bool = True
    ) -> list[str]:
        def read() -> Driver:
            if not driver:
                raise BackendError("no NVIDIA driver is found", "install it")
            return Driver("580.95.05", "13.0", (Gpu("NVIDIA X", "9.0", 80 << 30),))

        monkeypatch.setattr("mrs.runtime.system.nvidia_driver.read_driver", read)
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(version=SimpleNamespace(cuda=cuda, hip=None)))
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setattr(toolchain, "COMPILERS", (sys.executable,) if compiler else ("no-such-compiler",))
        (tmp_path / "Python.h").touch()
        monkeypatch.setattr(toolchain, "_headers", lambda: tmp_path if headers else tmp_path / "nothing")
        _, found, lines = run("doctor").out.partition("\nto do\n")
        return [line.strip() for line in lines.splitlines()] if found else []

    return advice


def test_a_sound_machine_with_a_gpu_has_nothing_to_do(gpu_machine) -> None:
    assert gpu_machine() == []
    assert gpu_machine(driver=False, cuda=None, compiler=False) == []


@pytest.mark.parametrize(
    ("machine_", "says"),
    [
        ({"cuda": None}, CPU_BUILD),
        ({"compiler": False}, NO_COMPILER),
        ({"headers": False}, NO_HEADERS),
    ],
    ids=["torch for CPUs", "no compiler", "no headers"],
)
def test_a_machine_with_a_gpu_that_lacks_something(gpu_machine, machine_, says) -> None:
    (line,) = gpu_machine(**machine_)
    assert line.startswith(says)


def test_all_that_is_missing_is_said_at_once(gpu_machine) -> None:
    assert gpu_machine(cuda=None, compiler=False) == [CPU_BUILD, NO_COMPILER]


@pytest.mark.parametrize("absent", [None, "onnxruntime", "onnxruntime-gpu"])
def test_two_builds_of_onnxruntime(gpu_machine, monkeypatch, absent) -> None:
    def version(name: str) -> str:
        if name == absent:
            raise PackageNotFoundError(name)
        return "1.31.0"

    monkeypatch.setattr(doctor, "version", version)
    found = gpu_machine(driver=False)
    assert len(found) == (absent is None)
    if found:
        assert found[0].startswith("onnxruntime and onnxruntime-gpu are installed over each other: pip uninstall -y ")
        assert "pip install 'mrs-trt[onnxruntime-gpu]'" in found[0]


def test_a_system_that_tells_nothing(run, monkeypatch) -> None:
    """/proc cannot be read, and the platform module breaks."""
    real = Path.read_text

    def read_text(self: Path, *arguments: object, **options: object) -> str:
        if str(self).startswith("/proc"):
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(platform, "platform", broken)
    for cached in (machine.processor, machine.instructions, machine._cpuinfo):
        cached.cache_clear()
    try:
        result = run("doctor")
    finally:
        for cached in (machine.processor, machine.instructions, machine._cpuinfo):
            cached.cache_clear()
    assert (result.code, result.err) == (0, "")
    assert line_of(result.out, "system") == "system       unknown (RuntimeError: it fell off)"
    assert line_of(result.out, "memory") == "memory       unknown"
    assert "no instruction set of interest" in line_of(result.out, "processor")


@pytest.mark.parametrize("probe", ["processor", "instructions", "threads", "free_memory"])
def test_a_probe_that_breaks(run, monkeypatch, probe) -> None:
    monkeypatch.setattr(machine, probe, broken)
    label = "memory" if probe == "free_memory" else "processor"
    assert line_of(run("doctor").out, label) == f"{label:<12} unknown (RuntimeError: it fell off)"
