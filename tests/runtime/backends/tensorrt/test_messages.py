"""TensorRT's lines as ours."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from mrs.runtime.backends.tensorrt.messages import KEPT, LONGEST, collected, logger, plain, told
from mrs.runtime.errors import BackendError, DeviceMemoryError

# As users report them, by what they mean.
LINES = [
    (
        "[TensorRT] ERROR: INVALID_CONFIG: The engine plan file is generated on an incompatible device, expecting "
        "compute 6.1 got compute 7.5, please rebuild.", "another GPU",
    ),
    (
        "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is generated on an "
        "incompatible device, expecting compute 8.9 got compute 8.6, please rebuild.)", "another GPU",
    ),
    (
        "6: The engine plan file is not compatible with this version of TensorRT, expecting library version 10.0.1.6 "
        "got 8.6.1.6, please rebuild.", "another version",
    ),
    (
        "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion stdVersionRead == "
        "kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 239, Serialized Engine "
        "Version: 236)", "another version",
    ),
    ("[defaultAllocator.cpp::allocate::61] Error Code 1: Cuda Runtime (out of memory)", "memory does not suffice"),
    ("Requested amount of GPU memory (8589934 bytes) could not be allocated. OutOfMemory", "memory does not suffice"),
    ("CUDA initialization failure with error: 35. Please check your CUDA installation", "CUDA does not start"),
    ("No importer registered for op: Frobnicate", "not supported"),
    ("Unable to load library: libnvinfer_builder_resource_sm90.so.11.4.0: cannot open", "a library is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "means"), LINES)
def test_what_a_line_means(line: str, means: str) -> None:
    error = told("tensorrt cannot load its engine", ["something harmless", line])
    assert error.message.startswith("tensorrt cannot load its engine: ")
    assert means in error.message
    assert error.hint
    assert isinstance(error, DeviceMemoryError) == ("memory" in means)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("[weights.cpp::f::1] Error Code 2: Internal Error (odd (and even))", "odd (and even)"),
        ("IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (illegal access)", "illegal access"),
        ("4: [network.cpp::validate::12] Error Code 4: Internal Error (no output)", "no output"),
        ("plain\n words ", "plain words"),
        ("a" * 1000, "a" * LONGEST + "..."),
        ("", ""),
    ],
    ids=range(6),
)
def test_a_line_without_places(line: str, text: str) -> None:
    assert plain(line) == text


def test_the_first_line_counts_where_none_is_known() -> None:
    assert told("x", ["one", "two"]).message == "x: one"
    assert told("x", []).message == "x: it gives no reason"


def test_a_line_goes_to_the_call_of_its_thread(world) -> None:
    import tensorrt as trt

    made, said, barrier = logger(), [], threading.Barrier(3, timeout=60)

    def call(name: str) -> None:
        with collected() as messages:
            barrier.wait()
            made.log(trt.ILogger.ERROR, name)
            barrier.wait()
            said.append(messages.error(name).message)

    threads = [threading.Thread(target=call, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    with collected() as outer:
        barrier.wait()
        barrier.wait()
        with collected() as inner:
            made.log(trt.ILogger.ERROR, "c")
        assert inner.error("c").message == "c: c"
        assert outer.error("c").message == "c: it gives no reason"
    for thread in threads:
        thread.join(60)
    assert sorted(said) == ["a: a", "b: b"]


def test_a_line_of_a_thread_of_tensorrts_own_goes_to_all_calls(world) -> None:
    import tensorrt as trt

    made = logger()

    def work() -> None:
        for number in range(KEPT + 10):
            made.log(trt.ILogger.ERROR, f"line {number}")
        made.log(trt.ILogger.ERROR, "out of memory")

    with collected() as messages:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)
        assert messages.error("x").message == "x: line 0"
        # Lines beyond those that are kept change nothing.
        assert type(messages.error("x")) is BackendError
        messages.clear()
        assert messages.error("x").message == "x: it gives no reason"
    # Outside of a call nobody is told.
    made.log(trt.ILogger.ERROR, "late")
    with collected() as messages:
        assert messages.error("x").message == "x: it gives no reason"


def test_a_process_has_one_logger(world) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(logger())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({id(each) for each in (*found, logger())}) == 1


def test_only_errors_are_kept_and_all_is_in_the_log_for_debugging(world, caplog) -> None:
    import tensorrt as trt

    made = logger()
    with caplog.at_level(logging.DEBUG, "mrs.tensorrt"), collected() as messages:
        for severity in ("WARNING", "INTERNAL_ERROR", "ERROR", "INFO", "VERBOSE"):
            made.log(getattr(trt.ILogger, severity), f"{severity} 100%s")
        assert messages.error("x").message == "x: INTERNAL_ERROR 100%s"
        messages.clear()
        for severity in ("WARNING", "INFO", "VERBOSE"):
            made.log(getattr(trt.ILogger, severity), severity)
        assert messages.error("x").message == "x: it gives no reason"
    assert len(caplog.records) == 8
