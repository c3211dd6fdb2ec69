"""What Triton raises where it compiles or launches our kernels is one line with a way out; what others raise is not."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from triton.compiler.errors import CompilationError
from triton.runtime import build
from triton.runtime.errors import OutOfResources

from mrs.runtime.errors import BackendError, DeviceMemoryError
from mrs.runtime.system import toolchain


def in_triton(error: BaseException) -> Callable[[], None]:
    """A function of Triton's that raises an error."""

    def raise_it() -> None:
        raise error

    return types.FunctionType(raise_it.__code__, {"__name__": "triton.compiler.compiler"}, closure=raise_it.__closure__)


def launcher(folder: Path) -> None:
    """As Triton builds one."""
    (folder / "main.c").write_text("#error no")
    build._build("launcher", str(folder / "main.c"), str(folder), [], [], [], [])


@pytest.fixture
def failing(gpu, monkeypatch) -> Callable[[Callable[[], object]], Any]:
    """Load a plan whose first kernel fails so."""

    def load(fail: Callable[[], object]) -> Any:
        plainly = gpu.device.launch

        def launch(launch: Any) -> None:
            fail()
            plainly(launch)

        monkeypatch.setattr(gpu.device, "launch", launch)
        return gpu.load()

    return load


@pytest.fixture
def tools(monkeypatch) -> None:
    """All that Triton needs is there."""
    monkeypatch.setattr("mrs.runtime.cuda.failures.missing_tool", lambda: None)


SOURCE = "def kernel(\n    x,\n):\n    return x\n"
NODE = ast.parse(SOURCE).body[0].body[0]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CompilationError(SOURCE, NODE, "NameError('y is not defined')\nmore"),
         "CompilationError: NameError('y is not defined')"),
        (OutOfResources(300_000, 232_448, "shared memory"), "OutOfResources: out of resource: shared memory, Requir"),
        (AssertionError(), "AssertionError"),
        (AssertionError("strides"), "AssertionError: strides"),
        (ImportError("launcher.so: undefined symbol: cuLaunchKernelEx"), "ImportError: launcher.so: undefined symbol"),
        (PermissionError(13, "Permission denied", "/home/a/.triton"), "PermissionError: [Errno 13] Permission denied"),
        (RuntimeError("0 active drivers ([]). There should only be one."), "0 active drivers ([]). There should"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)  # fmt: skip
def test_errors_of_triton_are_one_line(failing, error: Exception, said: str) -> None:
    with pytest.raises(
        BackendError, match=f"^Triton cannot compile a kernel during its first run: {re.escape(said)}"
    ) as caught:
        failing(in_triton(error))
    assert "mrs-trt doctor" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_an_error_in_a_function_that_a_kernel_calls_is_its_first_cause(failing) -> None:
    error = CompilationError(SOURCE, NODE, None)
    error.__cause__ = CompilationError(SOURCE, NODE, "x is wrong")
    with pytest.raises(BackendError, match="during its first run: CompilationError: x is wrong"):
        failing(in_triton(error))


def test_code_that_triton_makes_as_it_runs_is_tritons(failing) -> None:
    def nameless() -> None:
        raise AssertionError("strides")

    def call() -> None:
        made()

    made = types.FunctionType(nameless.__code__, {"__builtins__": __builtins__})
    with pytest.raises(BackendError, match="during its first run: AssertionError: strides"):
        failing(types.FunctionType(call.__code__, {"__name__": "triton.runtime.jit"}, closure=call.__closure__))


def test_a_compiler_that_is_not_there(failing, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CC", "no-such-cc")
    with pytest.raises(BackendError, match=r"first run: FileNotFoundError: .*no-such-cc") as caught:
        failing(lambda: launcher(tmp_path))
    assert caught.value.hint == toolchain.missing_tool()
    assert "unset CC" in caught.value.hint


def test_no_compiler_at_all(failing, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="first run: Failed to find C compiler") as caught:
        failing(lambda: launcher(tmp_path))
    assert "install gcc" in caught.value.hint


@pytest.mark.usefixtures("tools")
def test_a_compiler_that_fails(failing, tmp_path: Path, monkeypatch) -> None:
    compiler = tmp_path / "my-cc"
    compiler.write_text("#!/bin/sh\nexit 3\n")
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(BackendError, match="first run: my-cc ended with 3 ") as caught:
        failing(lambda: launcher(tmp_path))
    assert isinstance(caught.value.__cause__, subprocess.CalledProcessError)


def test_what_cuda_says_through_triton_is_the_gpus(failing) -> None:
    with pytest.raises(BackendError, match=r"^the GPU failed during its first run: Triton Error \[CUDA\]: an illegal"):
        failing(in_triton(RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered")))
    with pytest.raises(DeviceMemoryError, match="memory does not suffice for"):
        failing(in_triton(RuntimeError("Triton Error [CUDA]: out of memory")))


@pytest.mark.parametrize(
    "error", [AssertionError("ours"), OSError(5, "ours"), TimeoutError("too late"), ImportError("a")]
)
def test_what_is_not_tritons_stays_what_it_is(failing, error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        failing(fail)
    assert caught.value is error


@pytest.mark.parametrize("error", [ValueError("a bug"), TypeError("a bug"), KeyboardInterrupt()])
def test_what_triton_raises_where_it_is_called_wrongly_is_a_bug(failing, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        failing(in_triton(error))
    assert caught.value is error


@pytest.mark.signals
@pytest.mark.parametrize("kind", [TimeoutError, AssertionError, KeyboardInterrupt])
def test_what_a_signals_handler_raises_within_triton_is_its_own(failing, kind: type[BaseException]) -> None:
    def handler(*_: object) -> None:
        raise kind("of the handler")

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    inside = types.FunctionType(interrupted.__code__, {"__name__": "triton.runtime.jit", "os": os, "signal": signal})
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(kind, match="of the handler"):
            failing(inside)
    finally:
        signal.signal(signal.SIGUSR1, before)
