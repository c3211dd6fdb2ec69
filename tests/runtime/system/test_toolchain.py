"""What Triton builds with is looked for where Triton looks."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from mrs.runtime.system import toolchain
from mrs.runtime.system.toolchain import missing_tool


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, `bin`, and one of headers, `include`; both empty."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(toolchain, "_headers", lambda: tmp_path / "include")
    for name in ("bin", "include"):
        (tmp_path / name).mkdir()
    return tmp_path


def put(path: Path) -> None:
    path.touch()
    path.chmod(0o755)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_nothing_is_missing(machine: Path, compiler: str) -> None:
    put(machine / "bin" / compiler)
    put(machine / "include" / "Python.h")
    assert missing_tool() is None


def test_a_compiler_of_another_name(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine / "bin" / "mine")
    put(machine / "include" / "Python.h")
    assert str(missing_tool()).startswith("there is no C compiler, which Triton needs: install gcc")
    monkeypatch.setenv("CC", "mine")
    assert missing_tool() is None
    monkeypatch.setenv("CC", "other")
    assert str(missing_tool()).startswith("CC names other, which is no program: unset CC")


def test_no_headers(machine: Path) -> None:
    put(machine / "bin" / "gcc")
    said = str(missing_tool())
    assert said.startswith(f"Python's headers, which Triton needs, are not there ({machine / 'include' / 'Python.h'})")
    assert said.partition("apt install ")[2].startswith("python3.")


def test_the_folder_of_headers_is_this_pythons() -> None:
    assert toolchain._headers() == Path(sysconfig.get_paths()["include"])
