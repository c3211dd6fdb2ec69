"""TensorRT's double in the place of the library, in each version, with a GPU's double below it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mrs.kernels import threads
from mrs.runtime.backends.tensorrt import messages
from mrs.runtime.system import machine
from tests.haste import measure_little
from tests.runtime.backends.tensorrt.facts import VERSIONS
from tests.runtime.left_out import lacking, left_out

MISSING = lacking("torch", "triton", "onnx")
if not MISSING:
    from tests import interpreter

    interpreter.choose()
    from tests.runtime.backends.tensorrt.double import TensorRtDouble
    from tests.runtime.backends.tensorrt.gpu import Gpu

GPU = "NVIDIA Double 9.0"


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module | None:
    return left_out(MISSING, module_path, parent)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """The arrays are tiny."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mrs-trt" / "tensorrt"


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choosing measures as little as it can, and the solution to compare with has few steps: the double is slow."""
    measure_little(monkeypatch, reference_steps=10)


@pytest.fixture(params=VERSIONS)
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TensorRtDouble:
    """TensorRT of both majors, installed."""
    made = TensorRtDouble(request.param, Gpu(), GPU)
    monkeypatch.setitem(sys.modules, "tensorrt", made.module)
    # Another library has another logger.
    monkeypatch.setattr(messages, "_LOGGER", [])
    monkeypatch.setattr(machine, "gpu", lambda: GPU)
    return made


@pytest.fixture
def precisions() -> tuple[str, ...]:
    """What the GPU computes."""
    return ("fp32", "bf16", "fp16")


@pytest.fixture
def make_backend(world: TensorRtDouble, precisions: tuple[str, ...]) -> Callable[[], Any]:
    """A new backend that remembers no engine."""
    from mrs.runtime.backends.tensorrt import TensorRt

    def make() -> Any:
        torch: Any = SimpleNamespace(missing=lambda: None, precisions=lambda: precisions)
        return TensorRt(torch, world.device)

    return make


@pytest.fixture
def backend(make_backend: Callable[[], Any]) -> Any:
    return make_backend()


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[int], None]]:
    """(error, when) -> a `during` that raises the error where the build is waited for, as a signal's handler does.

    At the step for which `when` is true; the builder goes on when it was told to end. Real signals have a process of
    their own, in tests/runtime/test_signals.py.
    """
    real = threads.wait

    def make(error: type[BaseException], when: Callable[[int], bool]) -> Callable[[int], None]:
        pressed, raised, told = threading.Event(), [], threading.Event()

        def wait(*arguments: Any) -> None:
            if pressed.is_set() and not raised:
                raised.append(error)
                raise error
            if raised:
                told.set()
            real(*arguments)

        def during(step: int) -> None:
            if when(step) and not raised:
                pressed.set()
                assert told.wait(60)

        monkeypatch.setattr(threads, "wait", wait)
        return during

    return make


@pytest.fixture
def complete_outputs(world: TensorRtDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's tensor is copied to the host when it is complete; the double's lies there already."""
    from mrs.building import graph_check

    once = graph_check._evaluated

    def waited(*given: Any) -> Any:
        output = once(*given)
        world.device.wait(world.device.default)
        return output

    monkeypatch.setattr(graph_check, "_evaluated", waited)
