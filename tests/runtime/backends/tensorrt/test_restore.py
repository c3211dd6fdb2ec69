"""Whole restores, plans and builds with TensorRT's double in the chain's one graph: as on a CPU, and when it fails."""

from __future__ import annotations

import errno
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mrs.cli import main
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings, EngineOptions
from mrs.runtime.errors import BackendError, DeviceMemoryError, InputError
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.session import Restorer
from mrs.runtime.system import machine
from tests.runtime.backends.tensorrt import calls, facts
from tests.runtime.backends.tensorrt.test_bindings import SOURCES
from tests.runtime.conftest import manifest_of

pytestmark = pytest.mark.slow(33)

SHAPE = (1, 16, 24)
PACKED = (1, 6, 16, 24)


@pytest.fixture(autouse=True)
def registered(backend: Any, world: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The backend on the double, as `tensorrt`; a build makes its chains there too."""
    monkeypatch.setitem(backends.BACKENDS, "tensorrt", backend)
    monkeypatch.setattr("mrs.runtime.backends.tensorrt.backend.installed_version", lambda *names: world.version)
    monkeypatch.setattr(
        "mrs.export.autotune.timing.device_of", lambda engine: world.device if engine is backend else None
    )
    return backend


@pytest.fixture
def plan_of(backend: Any, tiny: Any) -> Callable[..., Plan]:
    """A plan for the double, with its engine."""

    def make(precision: str = "fp32", engine: bool = True, **more: Any) -> Plan:
        fingerprint = machine.fingerprint("tensorrt", backend.version(), "cuda")
        manifest = manifest_of(tiny.table, "tensorrt", fingerprint, precision)
        content = None
        if engine:
            content = backend.compile(tiny.graph, tiny.modulation, PACKED, precision, CompileSettings(1)).export()
            backend._engines.clear()
        return Plan({**manifest, **more}, tiny.graph, tiny.modulation, content)

    return make


@pytest.fixture
def load(world: Any) -> Callable[..., Restorer]:
    return lambda plan, **more: Restorer(plan, device=world.device, **more)


def on_cpu(tiny: Any, picture: Any) -> Any:
    with Restorer(tiny.plan("onnxruntime"), threads=1) as restorer:
        return restorer.restore(picture, 3)


# Restores


@pytest.mark.parametrize(("precision", "levels"), [("fp32", 1), ("fp16", 2), ("bf16", 8)])
def test_a_restore_is_that_of_the_cpu(world, plan_of, load, tiny, picture, precision: str, levels: int) -> None:
    with load(plan_of(precision)) as restorer:
        world.device.taken_log()
        restored = restorer.restore(picture, 3)
        # The key up, and one launch.
        assert [line for line in world.device.taken_log() if line.endswith("replay")]
    difference = np.abs(restored.astype(int) - on_cpu(tiny, picture).astype(int))
    assert difference.max() <= levels
    assert difference.mean() < levels / 4


def test_without_graphs_the_same(plan_of, load, picture) -> None:
    with load(plan_of()) as one, load(plan_of(), graphs=False) as other:
        np.testing.assert_array_equal(one.restore(picture, 3), other.restore(picture, 3))


def test_the_graph_holds_every_evaluation_at_its_own_address(world, plan_of, load) -> None:
    with load(plan_of()):
        names = [graph.names for graph in world.device.graphs]
    assert [each.count("network") for each in names] == [3]


def test_workers_share_no_context(world, plan_of, load, picture) -> None:
    with load(plan_of(), workers=2) as restorer:
        networks = [next(iter(worker._chains.values())).network for worker in restorer._workers]
        assert networks[0]._engine._context is not networks[1]._engine._context
        assert len(world.builds) == 1
        restorer.restore(picture, 3)


def test_other_sizes_are_built_when_they_are_met(world, plan_of, load, caplog) -> None:
    with load(plan_of()) as restorer:
        restorer.restore(np.zeros((20, 20, 3), np.uint8))
    assert [built["shape"] for built in world.builds] == [list(PACKED), [1, 6, 20, 20]]
    assert "building a TensorRT engine for fp32, 20x20" in caplog.text


def test_memory_that_does_not_suffice_means_tiles(world, plan_of, load, caplog) -> None:
    with load(plan_of()) as restorer:
        world.says["build"] = ["Error Code 2: OutOfMemory (Requested size was 1 bytes.)"]
        with pytest.raises(DeviceMemoryError, match="the GPU's memory does not suffice"):
            restorer.restore(np.zeros((32, 32, 3), np.uint8), tile=0)
        world.says.clear()
        restorer.restore(np.zeros((32, 32, 3), np.uint8))


def test_an_evaluation_that_fails_is_told_at_load(world, plan_of, load) -> None:
    plan = plan_of()
    world.says["execute"] = ["IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (invalid argument)"]
    with pytest.raises(BackendError, match="tensorrt failed at step 0: invalid argument"):
        load(plan)


# Plans from elsewhere


def test_the_plans_engine_is_used_where_it_was_made_for(world, plan_of, load, caplog) -> None:
    plan = plan_of()
    with load(plan):
        assert len(world.builds) == 1
    assert caplog.text.count("building a TensorRT engine") == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("processor", "NVIDIA Other 9.0"), ("processor", "NVIDIA Double 8.9"), ("backend", "tensorrt 10.0.1"),
     ("system", "Plan9")],
)  # fmt: skip
def test_another_gpu_or_version_is_seen_before_the_engine_is_touched(
    world, plan_of, load, picture, caplog, field: str, value: str
) -> None:
    plan = plan_of()
    plan.manifest["fingerprint"][field] = value
    # Whoever hands this to TensorRT fails.
    plan = replace(plan, engine=b"native code of another machine")
    with load(plan) as restorer:
        restorer.restore(picture, 3)
    said = [record.getMessage() for record in caplog.records if "compiling from its graph" in record.getMessage()]
    assert said == ["plan was built on another machine or version: compiling from its graph"]
    assert len(world.builds) == 2


@pytest.mark.parametrize(
    ("compatible", "made_on", "builds"),
    [
        ("capability", "NVIDIA Other 9.0", 1), ("capability", "NVIDIA Other 8.9", 2), ("ampere", "NVIDIA Other 8.0", 1),
        ("ampere", "NVIDIA Other 12.0", 1), ("", "NVIDIA Other 9.0", 2), ("unheard of", "NVIDIA Double 9.0", 2),
    ],
)  # fmt: skip
def test_an_engine_for_more_than_one_gpu(world, plan_of, load, compatible: str, made_on: str, builds: int) -> None:
    plan = plan_of()
    plan.manifest["fingerprint"]["processor"] = made_on
    if compatible:
        plan.manifest["fingerprint"]["compatible"] = compatible
    with load(plan):
        assert len(world.builds) == builds


def test_an_engine_that_tensorrt_refuses_is_built_anew(world, plan_of, load, caplog) -> None:
    with load(replace(plan_of(), engine=plan_of("fp16").engine)):
        pass
    assert "the plan's engine does not load, compiling from its graph: tensorrt cannot load its engine" in caplog.text
    assert len(world.builds) == 3


def test_a_tampered_engine_never_reaches_tensorrt(plan_of, tmp_path, capsys) -> None:
    path = tmp_path / "a.mrsplan"
    plan_of().save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    # By somebody who knows about zip files, but not about digests.
    members["engine.bin"] = members["engine.bin"].replace(b'"gpu"', b'"gnu"')
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "a.png")
    assert main(["restore", str(path), str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")]) == 2
    error = capsys.readouterr().err
    assert "engine.bin does not have the digest in its manifest" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "b.png").exists()


SIZES = {"size_range": [[1, 8, 8], [1, 16, 24], [1, 32, 32]]}


def test_one_engine_serves_the_plans_range(world, backend, plan_of, load, tiny) -> None:
    settings = CompileSettings(1, EngineOptions.from_dict(SIZES))
    engine = backend.compile(tiny.graph, tiny.modulation, PACKED, "fp32", settings).export()
    backend._engines.clear()
    plan = replace(plan_of(engine=False, engine_options=SIZES), engine=engine)
    with load(plan) as restorer:
        for size in ((9, 30), (32, 32), (16, 24)):
            given = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
            difference = np.abs(restorer.restore(given, 3).astype(int) - on_cpu(tiny, given).astype(int))
            assert difference.max() <= 1
        assert len(world.builds) == 1
        restorer.restore(np.zeros((40, 8, 3), np.uint8))
        assert len(world.builds) == 2


def test_a_rebuild_has_the_plans_options(world, plan_of, load) -> None:
    options = {"optimization_level": 5, **SIZES}
    with load(plan_of(engine=False, engine_options=options)):
        pass
    (built,) = world.builds
    assert (built["builder_optimization_level"], built["shape"]) == (5, [-1, 6, -1, -1])


def test_options_that_no_plan_has(plan_of, load) -> None:
    with pytest.raises(InputError, match="the options of the engine are not understood"):
        load(plan_of(engine=False, engine_options={"speed": 3}))


# Builds


@pytest.fixture
def build(world: Any, golden: Any, tmp_path: Any, complete_outputs: None) -> Callable[..., int]:
    """`mrs-trt build` of the golden network with tiny pictures to measure on."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(picture).save(folder / "a.png")

    def call(*more: str) -> int:
        arguments = [
            "build", str(golden.weights), "-o", str(tmp_path / "made.mrsplan"), "--backend", "tensorrt", "--size",
            "16x24", "--steps", "3", "--threads", "1", "--calibration", str(folder), "--overwrite", *more,
        ]  # fmt: skip
        return main(arguments)

    return call


def test_a_build(world, build, load, tmp_path, capsys) -> None:
    assert build("--precision", "fp16") == 0
    assert "building a TensorRT engine for fp16, 16x24; this may take minutes" in capsys.readouterr().err
    # float32 to compare with, in one form, and two forms in half precision.
    assert len(world.builds) <= 4
    plan = read_plan(tmp_path / "made.mrsplan")
    assert (plan.manifest["backend"], plan.manifest["precision"]) == ("tensorrt", "fp16")
    assert plan.manifest["fingerprint"]["processor"] == "NVIDIA Double 9.0"
    assert plan.manifest["fingerprint"]["backend"] == f"tensorrt {world.version}"
    assert plan.manifest["engine_options"] == {}
    count = len(world.builds)
    with load(plan) as restorer:
        restorer.restore(np.zeros((16, 24, 3), np.uint8))
    assert len(world.builds) == count


def test_a_build_with_options_and_a_range(world, build, tmp_path) -> None:
    options = ["--engine-option", "hardware=ampere", "--engine-option", "optimization-level=1"]
    assert build("-q", "--precision", "fp32", "--size-range", "8x8", "32x32", *options) == 0
    manifest = read_plan(tmp_path / "made.mrsplan").manifest
    assert manifest["fingerprint"]["compatible"] == "ampere"
    assert manifest["engine_options"]["size_range"][1] == [1, 16, 24]
    # One engine for the pictures to measure on and for the plan, in each form.
    assert {tuple(built["shape"]) for built in world.builds} == {(-1, 6, -1, -1)}
    assert {built["builder_optimization_level"] for built in world.builds} == {1}


def left(tmp_path: Any) -> list[str]:
    return [path.name for path in tmp_path.iterdir() if path.name not in ("pictures", "cache")]


@facts.newest
def test_a_full_disk(world, build, tmp_path, cache, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert build("-q", "--precision", "fp32") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    where = f"cannot write {tmp_path / 'made.mrsplan'}: No space left on device"
    assert errors == [f"error: {where}; hint: make room, or name a file on another disk"]
    assert left(tmp_path) == []
    assert [path for path in cache.rglob("*") if path.suffix != ".lock"] == []


@pytest.mark.parametrize("number", [0, 1, 2])
@facts.newest
def test_a_build_that_is_interrupted(world, build, interrupted, tmp_path, cache, capsys, number: int) -> None:
    world.during = interrupted(KeyboardInterrupt, lambda step: len(world.builds) == number and step == 1)
    assert build("-q", "--precision", "fp16") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"
    assert left(tmp_path) == []
    assert not list(cache.rglob("*.part"))
    # Whoever builds again is not disturbed by what is left.
    world.during = lambda step: None
    assert build("-q", "--precision", "fp32") == 0


def test_a_build_that_tensorrt_refuses(world, build, tmp_path, capsys) -> None:
    world.says["build"] = ["Error Code 10: Internal Error (Could not find any implementation for node Conv_3.)"]
    assert build("-q") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: tensorrt cannot build the engine: an operation is not supported: Could not find")
    assert "; hint: use another precision, or the backend torch" in error
    assert error.count("\n") == 1
    assert left(tmp_path) == []


# All that happened above was found by reading, too


def test_what_was_called_was_found_in_the_sources(world, build, load, tmp_path) -> None:
    world.refuse("UNSUPPORTED_NODE", "Conv", "no")
    assert build("-q", "--precision", "fp32") == 2
    world.refused.clear()
    options = ["--engine-option", "workspace-mib=64", "--engine-option", "hardware=capability"]
    assert build("-q", "--precision", "bf16", "--size-range", "8x8", "32x32", *options) == 0
    with load(read_plan(tmp_path / "made.mrsplan")) as restorer:
        restorer.restore(np.zeros((16, 24, 3), np.uint8))
    found = set(calls.pairs(calls.uses(SOURCES, facts.read(world.version))))
    assert world.used <= found
    # And the other way: every method that is read of was called.
    methods = {
        (use.kind, use.member) for use in calls.uses(SOURCES, facts.read(world.version)) if use.count is not None
    }
    ours = {"ILogger", "IProgressMonitor"}
    assert {pair for pair in methods - world.used if pair[0] not in ours} <= {("ITimingCache", "combine")}
