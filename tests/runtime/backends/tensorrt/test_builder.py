"""Builds: what the builder is asked for, what it refuses, and how they end before their time."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from typing import Any

import onnx
import pytest

from mrs.runtime.backends.settings import CompileSettings, EngineOptions
from mrs.runtime.errors import BackendError, DeviceMemoryError
from mrs.runtime.system import machine
from tests.runtime.backends.tensorrt import facts

pytestmark = pytest.mark.slow(17)

SHAPE = (1, 6, 16, 24)


@pytest.fixture
def compile_it(backend, tiny) -> Callable[..., Any]:
    """(precision, options, shape) -> network."""

    def call(precision: str = "fp16", shape: Any = SHAPE, report: Any = lambda line: None, **options: Any) -> Any:
        settings = CompileSettings(1, EngineOptions(**options), report)
        return backend.compile(tiny.graph, tiny.modulation, shape, precision, settings)

    return call


# What is asked for


def test_the_defaults(world, compile_it) -> None:
    compile_it()
    (built,) = world.builds
    assert built == {
        "builder_optimization_level": 3, "max_aux_streams": 0, "cleared": {"TF32"}, "pools": {}, "shape": list(SHAPE),
    }  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_no_precision_rounds_what_is_float32_to_tf32(world, compile_it, precision: str) -> None:
    compile_it(precision)
    assert world.builds[0]["cleared"] == {"TF32"}


def test_options_reach_the_builder(world, compile_it) -> None:
    compile_it(optimization_level=5, workspace_mib=512, auxiliary_streams=2, hardware="ampere")
    (built,) = world.builds
    assert (built["builder_optimization_level"], built["max_aux_streams"]) == (5, 2)
    assert built["pools"] == {"WORKSPACE": 512 << 20}
    assert built["hardware_compatibility_level"].name == "AMPERE_PLUS"


def test_any_gpu_of_one_compute_capability(world, compile_it) -> None:
    compile_it(hardware="capability")
    assert world.builds[0]["hardware_compatibility_level"].name == "SAME_COMPUTE_CAPABILITY"


def test_one_engine_for_a_range(world, compile_it) -> None:
    sizes = ((1, 8, 8), (1, 16, 24), (1, 32, 32))
    networks = [compile_it(shape=(1, 6, *size), size_range=sizes) for size in ((16, 24), (8, 32), (32, 8))]
    (built,) = world.builds
    assert built["shape"] == [-1, 6, -1, -1]
    assert len({network.export() for network in networks}) == 1
    # What lies outside has an engine of its own.
    compile_it(shape=(1, 6, 40, 8), size_range=sizes)
    assert world.builds[1]["shape"] == [1, 6, 40, 8]


def test_what_was_built_is_not_built_again(world, backend, tiny, compile_it) -> None:
    first, again = compile_it(), compile_it()
    assert len(world.builds) == 1
    assert first.export() == again.export()
    for other in ({"precision": "fp32"}, {"shape": (2, 6, 16, 24)}, {"optimization_level": 1}):
        compile_it(**other)
    changed = onnx.load_from_string(tiny.graph)
    changed.doc_string = "another"
    backend.compile(changed.SerializeToString(), tiny.modulation, SHAPE, "fp16", CompileSettings(1))
    assert len(world.builds) == 5


def test_engines_are_kept_as_far_as_there_is_room(world, compile_it, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrs.runtime.backends.tensorrt.backend.KEPT", 1)
    for precision in ("fp16", "bf16", "bf16", "fp16"):
        compile_it(precision)
    assert len(world.builds) == 3


# Progress


def test_a_long_build_tells_how_far_it_is(world, compile_it, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 1000, 3))
    monkeypatch.setattr("mrs.runtime.backends.tensorrt.progress.time.monotonic", lambda: next(seconds))
    lines: list[str] = []
    world.steps = 5
    compile_it(report=lines.append)
    # Every six seconds, for five were asked for.
    assert lines[1:] == ["tensorrt: Building, 2 of 5", "tensorrt: Building, 4 of 5"]
    assert lines[0].startswith("building a TensorRT engine for fp16, 16x24")


def test_a_report_that_fails_ends_the_build(world, compile_it, cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrs.runtime.backends.tensorrt.progress.QUIET", 0.0)

    def report(line: str) -> None:
        if line.startswith("tensorrt:"):
            raise BrokenPipeError("the reader is gone")

    with pytest.raises(BrokenPipeError, match="the reader is gone"):
        compile_it(report=report)
    assert world.builds == []
    assert not cache.exists()


def test_outside_of_a_build_progress_goes_to_the_log(backend, tiny, caplog) -> None:
    backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp16", CompileSettings(1))
    assert "building a TensorRT engine for fp16, 16x24; this may take minutes" in caplog.text


# Ctrl-C


def contents(cache: Any) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.iterdir()} if cache.exists() else {}


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_ctrl_c_ends_a_build_and_leaves_the_caches_as_they_were(
    world, compile_it, cache, interrupted, step: int, error: type[BaseException]
) -> None:
    """Or another error that the handler of a signal raises, such as that of a time limit."""
    compile_it("fp32")
    before = contents(cache)
    world.during = interrupted(error, lambda done: done == step)
    with pytest.raises(error):
        compile_it("fp16")
    assert contents(cache) == before
    # Nothing is left behind that keeps the next from building.
    world.during = lambda done: None
    compile_it("fp16")
    assert len(world.builds) == 2


def test_a_lock_that_another_process_keeps_costs_the_timings_alone(
    world, compile_it, cache, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mrs.runtime.backends.tensorrt.timing_cache.PATIENCE", 0.0)
    compile_it("fp32")
    (lock,) = cache.rglob("*.lock")
    before = contents(cache)
    with lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        compile_it("fp16")
    assert f"{lock} is locked by another process" in caplog.text
    assert contents(cache) == before
    assert len(world.builds) == 2


# Refusals: one line each, that says what to do

OUT_OF_MEMORY = "[engineBuilder.cpp::allocate::85] Error Code 2: OutOfMemory (Requested size was 17179869184 bytes.)"
NO_KERNEL = (
    "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any implementation for node "
    "{ForeignNode[Cast_12...Conv_20]}.)"
)


@pytest.mark.parametrize(
    ("what", "lines", "error", "says", "hint"),
    [
        ("build", [NO_KERNEL], BackendError, "an operation is not supported: Could not find any implem", "torch"),
        ("build", [NO_KERNEL, OUT_OF_MEMORY], DeviceMemoryError, "Requested size was 17179869184 bytes", "workspace"),
        ("build", [], BackendError, "it gives no reason", ""),
        ("build", ["2: [weights.cpp::f::1] Error Code 2: Internal Error (odd)"], BackendError, "engine: odd$", ""),
        (
            "builder", ["CUDA initialization failure with error: 35"], BackendError,
            "CUDA does not start: CUDA initialization failure with error: 35", "nvidia-smi",
        ),
        (
            "builder", ["Unable to load library: libnvinfer_builder_resource.so.10.16.1"], BackendError,
            "a library is missing: Unable to load library: libnvinfer_builder", "pip install",
        ),
        ("parse", ["ModelImporter: out of memory"], DeviceMemoryError, "the GPU's memory does not suffice", "smaller"),
    ],
)  # fmt: skip
def test_what_a_builder_refuses(
    world, compile_it, cache, what: str, lines: list[str], error: type, says: str, hint: str
) -> None:
    world.says[what] = lines
    with pytest.raises(BackendError) as caught:
        compile_it()
    assert type(caught.value) is error
    assert caught.match(says.removesuffix("$"))
    assert not says.endswith("$") or caught.value.message.endswith(says[:-1])
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)
    assert contents(cache) == {}
    # A builder that refused once is asked again.
    world.says.clear()
    compile_it()


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        ("UNSUPPORTED_NODE", BackendError, "does not support the operation LayerNormalization: no such thing"),
        ("UNSUPPORTED_NODE_DATATYPE", BackendError, "does not support the operation LayerNormalization"),
        ("MEM_ALLOC_FAILED", DeviceMemoryError, "the GPU's memory does not suffice"),
        ("INVALID_GRAPH", BackendError, "tensorrt cannot read the graph: no such thing"),
    ],
)
def test_what_a_parser_refuses(world, compile_it, code: str, error: type, says: str) -> None:
    world.refuse(code, "LayerNormalization", "[Importer.cpp::parse::12] no such\n thing")
    with pytest.raises(BackendError, match=says) as caught:
        compile_it()
    assert type(caught.value) is error
    assert caught.value.hint


def test_a_parser_names_its_version(world, compile_it) -> None:
    world.refuse("UNSUPPORTED_NODE", "Conv", "no")
    with pytest.raises(BackendError, match=f"tensorrt {world.version} does not support"):
        compile_it()


def test_endless_messages_become_a_short_line(world, compile_it) -> None:
    world.says["build"] = ["Error Code 9: Internal Error (" + "node " * 10000 + ")"] * 1000
    with pytest.raises(BackendError) as caught:
        compile_it()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("gpu", "lacks"), [("NVIDIA A100 8.0", "fp8"), ("NVIDIA Double 9.0", "int4")])
def test_a_precision_that_the_gpu_lacks(compile_it, monkeypatch: pytest.MonkeyPatch, gpu: str, lacks: str) -> None:
    monkeypatch.setattr(machine, "gpu", lambda: gpu)
    with pytest.raises(BackendError, match=f"tensorrt runs no {lacks} on this GPU"):
        compile_it(lacks)


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_a_graph_that_is_not_quantised(compile_it, precision: str) -> None:
    with pytest.raises(BackendError, match=f"the graph is not one for {precision}"):
        compile_it(precision)


def test_a_broken_graph_is_no_crash_of_the_thread(backend, tiny) -> None:
    with pytest.raises(BackendError, match="the graph cannot be read"):
        backend.compile(b"garbage" * 10, tiny.modulation, SHAPE, "fp16", CompileSettings(1))


def test_a_build_is_told_of_its_own_errors_whatever_was_loaded_before(world, compile_it) -> None:
    """TensorRT goes on with the logger that the first of them was given."""
    kept = compile_it("fp32")
    world.says["build"] = [OUT_OF_MEMORY]
    with pytest.raises(DeviceMemoryError, match="Requested size was 17179869184 bytes"):
        compile_it("fp16")
    world.says.clear()
    other = compile_it("fp16")
    # When the first one is gone, the others still speak to a logger that lives.
    del kept
    world.says["execute"] = ["Error Code 1: Cuda Runtime (out of memory)"]
    with pytest.raises(DeviceMemoryError, match="failed at step 0"):
        other.evaluate(0)


def test_a_build_and_a_load_at_once_are_told_of_their_own_errors(world, backend, tiny, compile_it) -> None:
    engine, found = compile_it("fp32").export(), []

    def load() -> None:
        try:
            backend.restore(engine, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
        except BackendError as error:
            found.append(error)

    def during(step: int) -> None:
        if step == 0:
            thread = threading.Thread(target=load)
            thread.start()
            thread.join(60)

    world.during = during
    world.says["deserialize"] = ["Error Code 1: Serialization (bad magic)"]
    world.says["build"] = ["Error Code 2: Internal Error (odd)"]
    with pytest.raises(BackendError, match="tensorrt cannot build the engine: odd"):
        compile_it("fp16")
    (error,) = found
    assert type(error) is BackendError
    assert error.message == "tensorrt cannot load its engine: bad magic"


# The double itself


def test_the_double_goes_on_with_the_first_logger(world) -> None:
    import tensorrt as trt

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines = []

        def log(self, severity: Any, msg: str) -> None:
            self.lines.append(msg)

    one, other = Logger(), Logger()
    first, second = trt.Builder(one), trt.Runtime(other)
    world.log("a")
    assert (one.lines, other.lines) == (["a"], [])
    # Also after the builder that brought it, as long as another one lives.
    del first
    world.log("b")
    assert one.lines == ["a", "b"]
    del one
    with pytest.raises(AssertionError, match="the logger that was given first is gone"):
        world.log("c")
    del second
    third = trt.Runtime(other)
    world.log("d")
    assert other.lines == ["d"]
    del third


def test_the_double_refuses_what_the_bindings_do(world) -> None:
    import tensorrt as trt

    from mrs.runtime.backends.tensorrt.messages import logger

    builder = trt.Builder(logger())
    with pytest.raises(AttributeError):
        builder.build_engine(None, None)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        builder.create_network("strongly typed")
    with pytest.raises(TypeError, match="incompatible function arguments"):
        trt.Builder(logger=None)
    config = builder.create_builder_config()
    with pytest.raises(AttributeError, match="has no optimization_level"):
        config.optimization_level = 3
    with pytest.raises(TypeError):
        config.progress_monitor = object()
    with pytest.raises(TypeError, match="incompatible"):
        config.clear_flag(trt.MemoryPoolType.WORKSPACE)
    assert hasattr(trt.BuilderFlag, "FP16") == world.version.startswith("10.")
    with pytest.raises(AssertionError, match="nothing was parsed"):
        builder.build_serialized_network(_network(trt, builder), config)


def _network(trt: Any, builder: Any) -> Any:
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return builder.create_network(strong if trt.__version__.startswith("10.") else 0)


def test_both_majors_have_facts() -> None:
    assert [version.split(".")[0] for version in facts.VERSIONS] == ["10", "11"]
