"""Networks are compiled once for each structure and shape, as many as a process needs, and what fails is one line."""

from __future__ import annotations

import gc
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

pytest.importorskip("torch")
import torch

from mrs.runtime.backends import torch_compiler
from mrs.runtime.backends.torch_compiler import Compiled, compiled
from mrs.runtime.errors import BackendError
from mrs.runtime.system import toolchain

pytestmark = pytest.mark.slow(4)

# torch refuses one more.
LIMIT = 8


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What was compiled: torch traces and guards as always, and then runs what it traced as it is."""
    made: list[Any] = []

    def backend(graph: Any, examples: Any) -> Callable[..., Any]:
        made.append(graph)
        forward: Callable[..., Any] = graph.forward
        return forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    monkeypatch.setattr(torch_compiler, "_KEPT", type(torch_compiler._KEPT)())
    yield made
    torch.compiler.reset()


def doubled() -> Callable[..., None]:
    """A new function every time, of one code object, as a network's is."""

    def into(given: Any, out: Any, weights: Any) -> None:
        out.copy_(given * weights[0])

    return into


def run(function: Callable[..., Any], size: int, weight: float = 2.0) -> float:
    out = torch.zeros(size)
    function(torch.ones(size), out, [torch.full((size,), weight)])
    return float(out[0])


def test_torch_refuses_the_ninth_shape_of_a_code_object(graphs: list[Any]) -> None:
    """So that the test below tests something."""
    into = torch.compile(doubled(), fullgraph=True, dynamic=False)
    for size in range(2, LIMIT + 2):
        run(into, size)
    with pytest.raises(Exception, match="Hard failure") as caught:
        run(into, LIMIT + 2)
    assert not isinstance(caught.value, RuntimeError)


def test_as_many_shapes_as_a_process_meets(graphs: list[Any]) -> None:
    sizes = range(2, LIMIT + 4)
    assert [run(compiled(size, doubled), size) for size in sizes] == [2.0] * len(sizes)
    assert len(graphs) == len(sizes)


def test_networks_of_one_key_share_what_was_compiled_and_not_their_weights(graphs: list[Any]) -> None:
    assert [run(compiled("key", doubled), 4, weight) for weight in (2.0, 3.0, 5.0)] == [2.0, 3.0, 5.0]
    assert len(graphs) == 1
    assert compiled("key", doubled) is compiled("key", doubled)
    run(compiled("other", doubled), 4)
    assert len(graphs) == 2


def test_what_is_kept_holds_no_weights(graphs: list[Any]) -> None:
    weights = [torch.ones(4)]
    gone = weakref.ref(weights[0])
    compiled("key", doubled)(torch.ones(4), torch.zeros(4), weights)
    weights.clear()
    gc.collect()
    assert gone() is None


def test_only_so_many_are_kept(graphs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_compiler, "MOST", 2)
    one = compiled(1, doubled)
    two = compiled(2, doubled)
    assert compiled(1, doubled) is one
    compiled(3, doubled)
    assert compiled(1, doubled) is one
    assert compiled(2, doubled) is not two


def test_two_threads_compile_once(graphs: list[Any]) -> None:
    gate = threading.Barrier(2)
    made: list[float] = []

    def work() -> None:
        gate.wait(30)
        made.append(run(compiled("key", doubled), 4))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (made, len(graphs)) == ([2.0, 2.0], 1)


# What fails


class Nested(Exception):
    """As torch's: what it came from is an attribute."""

    def __init__(self, inner: BaseException) -> None:
        super().__init__("backend='inductor' raised:\nmany lines")
        self.inner_exception = inner


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Compiled:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch, "compile", lambda function, **options: fail)
    return Compiled(doubled())


class CompilationError(Exception):
    """As Triton's: derived from nothing that is caught elsewhere."""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (CompilationError("at 3:4:\nx = y"), "CompilationError: x = y"),
        (Nested(CompilationError("no such type")), "CompilationError: no such type"),
        (AssertionError(), "AssertionError"),
        (Nested(Nested(OSError(28, "No space left on device"))), "OSError: [Errno 28] No space left on device"),
        (RuntimeError("cannot trace"), "RuntimeError: cannot trace"),
    ],
    ids=["Triton's", "nested", "without a word", "nested twice", "torch's"],
)
def test_what_fails_while_compiling_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, says: str) -> None:
    monkeypatch.setattr(torch_compiler, "missing_tool", lambda: None)
    with pytest.raises(BackendError) as caught:
        run(failing(error, monkeypatch), 4)
    assert caught.value.message == f"torch.compile failed: {says}"
    assert "torch-eager" in caught.value.hint
    assert caught.value.__cause__ is error


def test_a_compiler_that_is_missing_is_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(toolchain, "COMPILERS", ("no-such-compiler",))
    error = Nested(RuntimeError("Failed to find C compiler. Please specify via CC environment variable"))
    with pytest.raises(BackendError, match="install gcc") as caught:
        run(failing(error, monkeypatch), 4)
    assert caught.value.message.startswith("torch.compile failed: RuntimeError: Failed to find C compiler")


def test_a_lack_of_memory_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory"), Nested(torch.OutOfMemoryError("CUDA out of memory"))):
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            run(failing(error, monkeypatch), 4)


def test_an_interruption_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(failing(KeyboardInterrupt(), monkeypatch), 4)


def test_the_device_fails_as_itself_once_it_has_run(graphs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller finds out where."""
    function = compiled("key", doubled)
    run(function, 4)

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(function, "_function", fail)
    with pytest.raises(RuntimeError, match="illegal memory access") as caught:
        run(function, 4)
    assert not isinstance(caught.value, BackendError)


def test_torchs_advice_to_round_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object) -> None:
        warnings.warn("TensorFloat32 tensor cores for float32 matrix multiplication available", stacklevel=1)

    monkeypatch.setattr(torch, "compile", lambda function, **options: warn)
    run(Compiled(doubled()), 4)


class HandlerError(RuntimeError):
    """Of a signal's handler."""


@pytest.mark.signals
@pytest.mark.parametrize("when", ["compiled", "run"])
def test_what_a_signals_handler_raises_is_its_own(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    def handler(*_: object) -> None:
        raise HandlerError("too late")

    def press() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    def backend(graph: Any, examples: Any) -> Callable[..., Any]:
        if when == "compiled":
            press()
        return lambda *given: press()

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(HandlerError, match="too late"):
            run(Compiled(doubled()), 4)
    finally:
        signal.signal(signal.SIGUSR1, before)
        torch.compiler.reset()
