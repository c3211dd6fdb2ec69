"""While a session captures, no other is destroyed, no garbage is collected, and whoever is interrupted is told so."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from mrs.kernels import threads
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError
from tests.runtime.backends.onnxruntime_gpu.outputs import SHAPE

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_network_that_is_dropped_lets_go_of_its_session_and_thread(engine, tiny) -> None:
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    # The thread ends with the second: see tests/kernels/test_threads.py.
    known = weakref.ref(network._session._session), weakref.ref(network._session._thread)
    del network
    gc.collect()
    end = time.monotonic() + 120
    while any(each() is not None for each in known):
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("where", ["another thread", "the thread that captures"])
def test_a_network_that_is_dropped_while_another_captures_waits_for_that(engine, runtime, tiny, where: str) -> None:
    kept = [engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))]
    session = weakref.ref(kept[0]._session._session)

    def drop() -> None:
        if where == "another thread":
            thread = threading.Thread(target=kept.clear)
            thread.start()
            thread.join(60)
        else:
            kept.clear()
        assert session() is not None

    runtime.during = drop
    other = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    assert runtime.died == []
    end = time.monotonic() + 60
    while session() is not None and time.monotonic() < end:
        time.sleep(0.01)
    assert session() is None
    assert runtime.died == []
    # Without a capture it is gone at once, and its memory with it.
    session = weakref.ref(other._session._session)
    del other
    assert session() is None


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_while_a_session_captures(engine, runtime, tiny, enabled: bool) -> None:
    """It may hold graphs of whoever."""
    seen: list[bool] = []
    runtime.during = lambda: seen.append(gc.isenabled())
    (gc.enable if enabled else gc.disable)()
    try:
        network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        assert seen == [False]
        assert gc.isenabled() == enabled
        runtime.failing = RuntimeError("lost")
        with pytest.raises(BackendError, match="lost"):
            network.evaluate(0)
        with pytest.raises(BackendError, match="lost"):
            engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_who_is_interrupted_gets_that_very_error_when_the_session_has_ended(
    engine, tiny, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Such as a handler of a signal raises; an `Exception` among them is no failure of the engine."""
    network = engine.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    running, leave, done, raised = threading.Event(), threading.Event(), [], []

    def run(*_: object) -> None:
        running.set()
        assert leave.wait(120)
        done.append(1)

    real_wait = threads.wait

    def wait(*arguments: Any) -> None:
        assert running.wait(120)
        if raised:
            leave.set()
            return real_wait(*arguments)
        raised.append(error())
        raise raised[0]

    monkeypatch.setattr(network._session, "_session", SimpleNamespace(run_with_iobinding=run))
    monkeypatch.setattr(threads, "wait", wait)
    with pytest.raises(error) as caught:
        network.evaluate(0)
    assert caught.value is raised[0]
    # Its buffers are nobody else's as long as it runs.
    assert done == [1]
