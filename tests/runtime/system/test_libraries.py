"""What a library says of its failure becomes one telling line, whatever it is made of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrs.runtime.errors import BackendError, CancelledError
from mrs.runtime.system.libraries import LONGEST, first_line, telling

ROOT = Path(__file__).resolve().parents[3]

# As OpenVINO 2026.4 and ONNX Runtime 1.31 write them.
PLACES = "Exception from src/inference/src/cpp/core.cpp:117:\nException from src/inference/src/dev/plugin.cpp:54:\n"
MESSAGES = {
    f"{PLACES}Exception from src/plugins/intel_cpu/src/config.cpp:266:\nWrong value f8 for key A. Use: bf16, f16\n\n\n":
        "Wrong value f8 for key A. Use: bf16, f16",
    f"{PLACES}Check 'is_compatible(requirements)' failed at src/plugins/intel_cpu/src/plugin.cpp:811:\n"
    "[CPU] Cannot import compiled blob: it was built for a different ISA.\n  blob:    isa=Intel AVX512\n":
        "[CPU] Cannot import compiled blob: it was built for a different ISA.",
    "Check 'data_shape[1].compatible(filters_shape[1])' failed at src/core/include/util.hpp:307:\n"
    "While validating node 'opset1::Convolution Conv_1 (opset1::Parameter packed[0]:f32[1,5,16,24])' with name 'C':\n"
    "Data batch channel count (5) does not match filter input channel count (6).\n":
        "Data batch channel count (5) does not match filter input channel count (6).",
    f"{PLACES}Check 'false' failed at src/unconverted_ops_report.cpp:151:\nFrontEnd API failed with Failure:\n"
    "Model wasn't fully converted. Failed operations detailed log:\n-- Conv-18 with a message:\n"
    "The input data tensor's rank has to be known (static)\n":
        "The input data tensor's rank has to be known (static)",
    "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Failed to load model because protobuf parsing failed.":
        "Failed to load model because protobuf parsing failed.",
    "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/graph/model.cc:245 onnxruntime::Model::Model("
    "onnx::ModelProto&&, const onnxruntime::PathString&) Missing opset in the model. All have one.\n":
        "Missing opset in the model. All have one.",
    "[ONNXRuntimeError] : 1 : FAIL : Node (R) Op (R) /onnxruntime_src/core/graph/graph.cc:2810 virtual const "
    "onnx::TensorProto* onnxruntime::InferenceContextImpl::getInputData(size_t) const [ONNXRuntimeError] : 1 : FAIL : "
    "tensorprotoutils.cc:1534 Validate Initializer 'a': raw_data size (8 bytes) does not match":
        "Node (R) Op (R) Validate Initializer 'a': raw_data size (8 bytes) does not match",
    "\n  no rule for this\nand a long text": "no rule for this",
    "only a place:\n\n": "only a place:",
    "": "RuntimeError",
    " \n\t\n": "RuntimeError",
    "\x1b[31mred\x07 and\tblank": "\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER} and blank",
    "x" * 5000: "x" * LONGEST + "...",
}  # fmt: skip


@pytest.mark.parametrize(("said", "line"), list(MESSAGES.items()), ids=range(len(MESSAGES)))
def test_the_line_that_tells(said: str, line: str) -> None:
    assert first_line(RuntimeError(said)) == line


def undecodable() -> UnicodeDecodeError:
    """What becomes of a message that quotes a file."""
    said = b"Exception from src/inference/src/cpp/core.cpp:217:\nCannot find \xff\xfe\x00 in 'a'\n"
    with pytest.raises(UnicodeDecodeError) as caught:
        said.decode()
    return caught.value


def test_a_message_that_is_no_text() -> None:
    replaced = "\N{REPLACEMENT CHARACTER}"
    assert first_line(undecodable()) == f"Cannot find {3 * replaced} in 'a'"


@pytest.mark.parametrize(
    "error", [RuntimeError("lost"), ValueError("lost"), MemoryError("lost"), IndexError("lost"), OverflowError("lost")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_a_library_raises_is_told_with_its_cause(error: Exception) -> None:
    with pytest.raises(BackendError) as caught, telling("engine failed", hint="use another"):
        raise error
    assert (caught.value.message, caught.value.hint) == ("engine failed: lost", "use another")
    assert caught.value.__cause__ is error


def test_a_message_that_is_no_text_is_told() -> None:
    with pytest.raises(BackendError, match="engine failed: Cannot find"), telling("engine failed"):
        raise undecodable()


class Stop(RuntimeError):
    """Of a program that uses this one."""


@pytest.mark.parametrize("error", [Stop("now"), CancelledError("now"), KeyboardInterrupt(), TimeoutError(), KeyError()])
def test_what_a_signals_handler_raises_is_not_the_librarys(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, telling("engine failed"):
        raise error
    assert caught.value is error


def test_kinds_of_a_librarys_own() -> None:
    with pytest.raises(BackendError, match="engine failed: now"), telling("engine failed", kinds=(Stop,)):
        raise Stop("now")
    with pytest.raises(RuntimeError, match=r"^now$"), telling("engine failed", kinds=(Stop,)):
        raise RuntimeError("now")


@pytest.mark.parametrize("asked", [None, "0"], ids=["nobody decided", "the user did"])
def test_onnx_runtime_sends_and_keeps_nothing_of_a_user(tmp_path: Path, asked: str | None) -> None:
    """From 1.29 on it makes a number for the device in the cache folder as soon as it is imported."""
    program = (
        "import os; from mrs.runtime import backends; backends.get('onnxruntime').missing();"
        "import onnxruntime; onnxruntime.SessionOptions(); print(os.environ.get('ORT_DISABLE_TELEMETRY'))"
    )
    # A machine for continuous integration is not counted anyway.
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), **({} if asked is None else {"ORT_DISABLE_TELEMETRY": asked})}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    # The environment is as it was.
    assert ended.stdout.strip() == str(asked)
    assert asked is not None or not list(tmp_path.iterdir())
