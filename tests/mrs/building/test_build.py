"""A checkpoint becomes a plan that restores as the torch network does; whatever cannot be built leaves no file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import mrs
from mrs import _version
from mrs.building import loops, source
from mrs.building.assemble import timetable
from mrs.building.build import build
from mrs.commands import inspect
from mrs.export.architectures import load_checkpoint, nafnet
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.autotune import variants as forms
from mrs.export.checkpoint import save
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import RECOMMENDED, Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.errors import BackendError, CheckpointError, InputError
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.system import machine

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow(43)]

ARCH = NAFNet(4, (1, 1), 1, (1, 1))
SCHEDULE = Schedule(max_sigma=30.0, T=50)
SOLVER = Solver(steps=3)
FORMS = ["moments-weights", "length-weights"]
METADATA = {"schedule": SCHEDULE.to_dict(), "output": "data", "recipe": {"degradation": "rain"}}


def state(arch: NAFNet = ARCH) -> dict[str, torch.Tensor]:
    """Weights that all matter, and give pictures that are neither black nor white."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        net = ConditionalNAFNet(arch)
        for name, parameter in net.named_parameters():
            scale = 1.0 if name.endswith(("beta", "gamma", ".g")) else 0.25
            parameter.copy_(scale * torch.randn_like(parameter))
        net.ending.bias.fill_(0.5)
        net.ending.weight.mul_(0.1)
    return net.state_dict()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(path, state(), METADATA)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a plan may be written, and nothing else is."""
    return tmp_path / "a.mrsplan"


def quickly(weights: Path | str, path: Path, **options: Any) -> Plan:
    """Build for the backend that compiles fastest."""
    return build(weights, path, **{"size": (8, 8), "solver": SOLVER, "backend": "onnxruntime", "threads": 1, **options})


def by_torch(
    weights: Path, picture: NDArray[np.uint8], schedule: Schedule, output: str, solver: Solver = SOLVER
) -> NDArray[np.float32]:
    net = load_checkpoint(weights)

    def denoise(x: NDArray[Any], mu: NDArray[Any], t: float) -> NDArray[Any]:
        with torch.no_grad():
            return net(torch.from_numpy(x), torch.from_numpy(mu), t).numpy()

    mu = np.ascontiguousarray((picture[None] / np.float32(255)).transpose(0, 3, 1, 2))
    return mrs.sample(denoise, mu, tableau(schedule, solver, output), seed=4)[0].transpose(1, 2, 0)


# What is built


@pytest.mark.parametrize("backend", [name for name, each in backends.BACKENDS.items() if each.device == "cpu"])
def test_a_plan_restores_as_torch_does(weights: Path, path: Path, backend: str) -> None:
    quickly(weights, path, backend=backend, precision="fp32")
    picture = np.random.default_rng(0).integers(0, 256, (17, 22, 3), np.uint8)
    expected = by_torch(weights, picture, SCHEDULE, "data")
    with mrs.load(path, threads=1) as restorer:
        assert (restorer.backend, restorer.precision) == (backend, "fp32")
        assert np.abs(restorer.restore(picture / np.float32(255), seed=4) - expected).max() < 1e-4
        assert np.abs(restorer.restore(picture, seed=4) / 255 - expected).max() < 1 / 255
    assert expected.std() > 0.1


@pytest.mark.parametrize(
    "solver",
    [
        Solver("ghvb", 4, "noise", 5, momentum=0.2),
        Solver("unipc-b2", 3, steps=4, clamp="threshold"),
        Solver("sa", 2, steps=3, stochasticity=0.7, clamp="unit", start_time=31.5),
        Solver("heun", 2, steps=3, spacing="custom", times=(44.0, 20.0, 0.0)),
    ],
    ids=lambda solver: solver.name,
)
def test_a_plan_of_any_solver_restores_as_torch_does(weights: Path, path: Path, solver: Solver) -> None:
    quickly(weights, path, solver=solver)
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    with mrs.load(path, threads=1) as restorer:
        restored = restorer.restore(picture / np.float32(255), seed=4)
    assert np.abs(restored - by_torch(weights, picture, SCHEDULE, "data", solver)).max() < 1e-4


def test_a_published_checkpoint_says_nothing_of_its_process(golden, path: Path) -> None:
    plan = quickly(golden.weights, path)
    assert plan.manifest["schedule"] == Schedule().to_dict()
    assert plan.manifest["output"] == "noise"
    picture = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
    with mrs.load(path, threads=1) as restorer:
        restored = restorer.restore(picture / np.float32(255), seed=4)
    assert np.abs(restored - by_torch(golden.weights, picture, Schedule(), "noise")).max() < 1 / 255


def test_what_the_manifest_says(weights: Path, path: Path) -> None:
    manifest = quickly(weights, path, size=(10, 13), batch=2).manifest
    table = tableau(SCHEDULE, SOLVER, "data")
    assert manifest["made_by"] == f"mrs-trt {_version.__version__}"
    assert manifest["checkpoint"] == {
        "name": "tiny.safetensors",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    assert {**asdict(ARCH), "architecture": "ConditionalNAFNet", "multiple": 4}.items() <= manifest["network"].items()
    assert manifest["schedule"] == SCHEDULE.to_dict()
    assert manifest["solver"] == SOLVER.to_dict()
    assert manifest["output"] == "data"
    assert manifest["table"] == {
        "times": list(table.times),
        "rows": [list(row) for row in table.rows],
        "start": table.start,
        "clamp": "none",
    }
    assert manifest["shape"] == [2, 12, 16]
    assert (manifest["backend"], manifest["precision"], manifest["threads"]) == ("onnxruntime", "fp32", 1)
    version = backends.get("onnxruntime").version()
    assert manifest["fingerprint"] == machine.fingerprint("onnxruntime", version)
    (candidate,) = manifest["selection"]["candidates"]
    assert candidate["passed"]
    assert candidate["latency_ms"] > 0
    assert candidate["truth_db"] == pytest.approx(0, abs=1e-4)
    assert [entry["variant"] for entry in manifest["selection"]["variants"]] == FORMS
    assert all(entry["latency_ms"] > 0 for entry in manifest["selection"]["variants"])
    assert manifest["selection"]["calibration_pictures"] == 3
    assert 0 < manifest["selection"]["discretisation_db"] < 200


def test_an_equal_build_measures_nothing_again(weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = quickly(weights, path)
    lines: list[str] = []
    monkeypatch.setattr("mrs.building.build.autotune", lambda *_, **__: pytest.fail("measured again"))
    again = quickly(weights, path, report=lines.append)
    assert f"measured here before, at {first.manifest['selection']['measured_at']}" in lines
    assert again.manifest["selection"] == first.manifest["selection"]
    assert again.graph == first.graph


def test_measuring_again_can_be_asked_for(weights: Path, path: Path) -> None:
    quickly(weights, path)
    lines: list[str] = []
    quickly(weights, path, report=lines.append, measure_again=True)
    assert any(line.startswith("parity of") for line in lines)


def test_a_limit_of_time_is_measured_once_too(weights: Path, path: Path) -> None:
    first = quickly(weights, path, max_latency=1e6)
    lines: list[str] = []
    again = quickly(weights, path, max_latency=1e6, report=lines.append)
    assert not any(line.startswith("parity of") for line in lines)
    assert again.manifest["latency"] == first.manifest["latency"]
    assert again.manifest["solver"] == first.manifest["solver"]
    assert again.manifest["table"] == first.manifest["table"]


@pytest.mark.parametrize("fastest", FORMS)
def test_the_plan_holds_the_fastest_form(
    weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch, fastest: str
) -> None:
    monkeypatch.setattr(
        forms,
        "time_interleaved",
        lambda chains, **_: {form: [1.0 if str(form) == fastest else 2.0] for form in chains},
    )
    made = quickly(weights, path)
    assert made.manifest["selection"]["candidates"][0]["variant"] == fastest
    nodes = {node.op_type for node in onnx.load_from_string(made.graph).graph.node}
    assert ("ReduceL2" in nodes) == fastest.startswith("length")


def test_the_plan_returned_is_the_plan_written(weights: Path, path: Path) -> None:
    path.write_text("an old plan")
    made = quickly(weights, path)
    read = read_plan(path)
    assert json.loads(json.dumps(made.manifest)).items() <= read.manifest.items()
    assert (made.graph, made.engine) == (read.graph, read.engine)
    np.testing.assert_array_equal(made.modulation, read.modulation)
    np.testing.assert_array_equal(made.timetable, read.timetable)
    assert list(path.parent.iterdir()) == [path]


def test_a_plan_holds_its_network_at_every_whole_time(weights: Path, path: Path) -> None:
    plan = quickly(weights, path, solver=Solver(steps=5))
    assert plan.manifest["table"]["times"] == [50.0, 40.0, 30.0, 20.0, 10.0, 0.0]
    assert plan.timetable is not None
    assert len(plan.timetable) == SCHEDULE.T + 1
    np.testing.assert_allclose(plan.timetable[[50, 40, 30, 20, 10]], plan.modulation, rtol=1e-5, atol=1e-6)
    # Each time has its own.
    assert len(np.unique(plan.timetable, axis=0)) == SCHEDULE.T + 1


@pytest.mark.parametrize(("T", "rows"), [(200, 201), (201, None)])
def test_a_long_timetable_is_left_out(weights: Path, T: int, rows: int | None) -> None:
    read = source.read_source(weights, replace(SCHEDULE, T=T), override=True)
    table = timetable(read)
    assert (None if table is None else len(table)) == rows


def test_schedule_and_output_that_are_given_win(weights: Path, path: Path) -> None:
    given = Schedule(kind="linear")
    manifest = quickly(weights, path, schedule=given, output="velocity", override_checkpoint=True).manifest
    assert manifest["schedule"] == given.to_dict()
    assert manifest["output"] == "velocity"
    assert manifest["table"]["rows"] == [list(row) for row in tableau(given, SOLVER, "velocity").rows]


def test_the_solver_by_default(weights: Path, path: Path) -> None:
    assert quickly(weights, path, solver=None).manifest["solver"] == RECOMMENDED.to_dict()


def test_an_engine_is_compiled_ahead(weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = quickly(weights, path, backend="openvino", precision="fp32")
    assert plan.engine
    monkeypatch.setattr(type(backends.get("openvino")), "compile", lambda *_: pytest.fail("compiled"))
    with mrs.load(path, threads=1) as restorer:
        restorer.restore(np.zeros((8, 7, 3), np.uint8))


def test_auto_takes_the_fastest_that_passes(weights: Path, path: Path) -> None:
    lines: list[str] = []
    manifest = quickly(weights, path, backend="auto", report=lines.append).manifest
    candidates = manifest["selection"]["candidates"]
    assert {entry["backend"] for entry in candidates} == {backend.name for backend in backends.available()}
    passed = [entry for entry in candidates if entry["passed"]]
    fastest = min(passed, key=lambda entry: entry["latency_ms"])
    assert (manifest["backend"], manifest["precision"]) == (fastest["backend"], fastest["precision"])
    assert any("tiny.safetensors" in line for line in lines)
    assert lines[-1] == f"wrote {path}"


def test_a_calibration_folder(weights: Path, path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("calibration")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)).save(folder / "a.png")
    selected = quickly(weights, path, calibration=folder).manifest["selection"]
    assert selected["calibration_pictures"] == 1
    # Nobody knows what a user's pictures looked like.
    assert selected["candidates"][0]["truth_db"] is None


@pytest.mark.parametrize(
    "recipe", [None, {}, {"degradation": "unheard of"}, "rain", {"degradation": ["rain"]}], ids=repr
)
def test_an_unknown_recipe_is_no_ground_truth(tmp_path: Path, path: Path, recipe: Any) -> None:
    save(tmp_path / "a.safetensors", state(), {**METADATA, "recipe": recipe})
    selected = quickly(tmp_path / "a.safetensors", path).manifest["selection"]
    assert selected["candidates"][0]["truth_db"] is None


@pytest.mark.parametrize("spacing", ["leading", "trailing", "karras-n", "karras-t", "linear-lambda"])
def test_every_time_grid_has_a_reference(monkeypatch: pytest.MonkeyPatch, spacing: str) -> None:
    solver = replace(SOLVER, spacing=spacing)
    monkeypatch.setattr(loops, "REFERENCE_STEPS", 100)
    table = loops.reference_table(Schedule(), solver, "noise")
    assert len(table.rows) == 100


def test_the_reference_of_times_of_its_own_is_the_same_method_in_equal_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "REFERENCE_STEPS", 30)
    solver = Solver("deis", 3, steps=2, spacing="custom", times=(90.0, 33.0, 0.0), last_step="full")
    table = loops.reference_table(Schedule(), solver, "noise")
    assert table == tableau(Schedule(), Solver("deis", 3, steps=30, last_step="full"))


def test_the_reference_of_a_later_start_starts_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "REFERENCE_STEPS", 100)
    table = loops.reference_table(Schedule(), replace(SOLVER, start_time=40.0), "noise")
    assert (table.times[0], len(table.rows)) == (40.0, 100)
    assert table.start == float(Schedule().sigma(40))


def test_a_grid_without_that_many_times_is_built(weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "REFERENCE_STEPS", 60)
    assert quickly(weights, path, solver=replace(SOLVER, spacing="leading")).manifest["solver"]["spacing"] == "leading"


# What holds for a checkpoint


def process(*given: Any, **more: Any) -> tuple[Schedule, str]:
    read = source.read_source(*given, **more)
    return read.schedule, read.output


def test_what_is_given_goes_before_what_the_checkpoint_says(weights: Path, golden) -> None:
    read = source.read_source(weights)
    assert (read.arch, read.path, read.schedule, read.output) == (ARCH, weights, SCHEDULE, "data")
    assert process(weights, Schedule(), "velocity", override=True) == (Schedule(), "velocity")
    # A published checkpoint says nothing.
    assert process(golden.weights) == (Schedule(), "noise")


@pytest.mark.parametrize(
    ("schedule", "output", "says"),
    [
        ({"max_sigma": 50.0}, None, "max_sigma 30.0; given is 50.0"),
        ({"T": 1000, "kind": "linear"}, None, "kind cosine, T 50; given are linear, 1000"),
        ({"eps": 0.01}, "noise", "eps 0.005, network output data; given are 0.01, noise"),
    ],
)
def test_a_checkpoint_is_contradicted_only_when_said_twice(
    weights: Path, path: Path, schedule: dict[str, Any], output: str | None, says: str
) -> None:
    given = replace(SCHEDULE, **schedule)
    with pytest.raises(CheckpointError) as caught:
        build(weights, path, schedule=given, output=output)
    assert caught.value.message == f"{weights} says {says}"
    assert "--override-checkpoint" in caught.value.hint
    assert not path.exists()
    assert process(weights, given, output, override=True) == (given, output or "data")


def test_what_is_no_part_of_the_training_is_free(weights: Path) -> None:
    given = replace(SCHEDULE, interpolation="exact", convention="ir-sde")
    assert process(weights, given, "data") == (given, "data")


def test_a_plan_that_does_not_restore_says_so(weights: Path, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Random weights do not; what the build says is in the plan, and is said again where it is loaded."""
    lines: list[str] = []
    plan = quickly(weights, path, report=lines.append)
    (line,) = plan.facts.warnings
    assert line.startswith("this plan does not restore: its result is ")
    assert line.endswith("likely cause: weights that do not restore")
    assert f"warning: {line}" in lines
    assert f"warning: {line}" in inspect.summary(plan.manifest)
    assert plan.manifest["verdict"]["of_truth"]
    with mrs.load(path):
        assert [record.getMessage() for record in caplog.records] == [f"its build says: {line}"]
    # What was measured before says the same.
    lines.clear()
    assert quickly(weights, path, report=lines.append).facts.warnings == (line,)
    assert any(text.startswith("measured here before") for text in lines)


def test_a_plan_that_restores_says_nothing(weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrs.export.autotune.verdict.Verdict.warnings", lambda *arguments: [])
    plan = quickly(weights, path)
    assert plan.facts.warnings == ()
    assert "warning" not in inspect.summary(plan.manifest)


def test_a_plan_that_appears_meanwhile_is_not_replaced(weights: Path, path: Path) -> None:
    def appear(line: str) -> None:
        if line.startswith("compiling"):
            path.write_bytes(b"another's")

    with pytest.raises(InputError, match="exists"):
        quickly(weights, path, overwrite=False, report=appear)
    assert path.read_bytes() == b"another's"
    assert list(path.parent.iterdir()) == [path]


# Weights by name


def test_weights_that_ship_are_known_by_name(
    weights: Path, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "drizzle.safetensors").write_bytes(weights.read_bytes())
    monkeypatch.setattr(source, "WEIGHTS", shipped)
    monkeypatch.chdir(tmp_path)
    assert quickly("drizzle", path).manifest["checkpoint"]["name"] == "drizzle.safetensors"
    for other in ("none", "./drizzle", "shipped/../drizzle"):
        with pytest.raises(CheckpointError, match="does not exist"):
            quickly(other, path)
    # A file of one's own goes first.
    (tmp_path / "drizzle").write_text("no weights")
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        quickly("drizzle", path)


# What cannot be built


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"precision": "int4"}, "precision 'int4' is unknown"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
        ({"device": "cuda", "backend": "onnxruntime"}, "backend onnxruntime runs on cpu, not on cuda"),
        ({"device": "cpu", "backend": "torch"}, "backend torch runs on cuda, not on cpu"),
        ({"backend": "cuda"}, "backend 'cuda' is unknown"),
        ({"output": "score"}, "network output 'score' is unknown"),
        ({"size": (0, 8)}, "is not positive"),
        ({"size": (8, -8)}, "is not positive"),
        ({"size": (8,)}, "is not positive"),
        ({"batch": 0}, "is not positive"),
        ({"calibration": "/none/such"}, "calibration folder .* does not exist"),
        ({"solver": Solver(steps=1000, spacing="leading")}, "use fewer steps"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_that_are_wrong(weights: Path, path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        quickly(weights, path, **options)
    assert list(path.parent.iterdir()) == []


def test_a_precision_that_the_backend_lacks(weights: Path, path: Path) -> None:
    with pytest.raises(BackendError, match="nothing can run bf16 here"):
        quickly(weights, path, precision="bf16")
    assert not path.exists()


def test_a_folder_that_does_not_exist_is_told_before_the_work(weights: Path, path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(source, "read_checkpoint", lambda path: pytest.fail("read"))
    with pytest.raises(InputError, match=r"folder .* of the plan does not exist"):
        quickly(weights, path.parent / "none" / "a.mrsplan")


def test_a_size_that_memory_does_not_hold(weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: 1000)
    with pytest.raises(InputError, match="of memory"):
        quickly(weights, path)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("none.pth", None, "does not exist"),
        ("text.pth", b"hello, this is no checkpoint", "is not a checkpoint"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{", "not a readable checkpoint"),
    ],
)
def test_a_checkpoint_that_cannot_be_read(
    tmp_path_factory: pytest.TempPathFactory, path: Path, name: str, content: bytes | None, match: str
) -> None:
    given = tmp_path_factory.mktemp("bad") / name
    if content is not None:
        given.write_bytes(content)
    with pytest.raises(CheckpointError, match=match):
        quickly(given, path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "schedule", [{"kind": "square"}, {"T": "fifty"}, {"T": None}, {"length": 3}, "cosine", [1, 2], 5], ids=repr
)
def test_a_schedule_in_a_checkpoint_that_nobody_understands(
    tmp_path_factory: pytest.TempPathFactory, path: Path, schedule: Any
) -> None:
    given = tmp_path_factory.mktemp("bad") / "a.safetensors"
    save(given, state(), {**METADATA, "schedule": schedule})
    with pytest.raises(CheckpointError, match=r"a\.safetensors carries a schedule that is not understood"):
        quickly(given, path)
    assert list(path.parent.iterdir()) == []


def test_pictures_of_one_channel_are_not_supported(tmp_path: Path, path: Path) -> None:
    save(tmp_path / "grey.safetensors", state(replace(ARCH, channels=1)), METADATA)
    with pytest.raises(CheckpointError, match="pictures of 1 channels"):
        quickly(tmp_path / "grey.safetensors", path)


def test_a_network_that_overflows(tmp_path: Path, path: Path) -> None:
    large = state()
    for key in ("ending.weight", "ending.bias"):
        large[key] = torch.full_like(large[key], 3e38)
    save(tmp_path / "large.safetensors", large, METADATA)
    with pytest.raises(CheckpointError, match="infinities or NaN in float32"):
        quickly(tmp_path / "large.safetensors", path)


@pytest.mark.parametrize("key", ["intro.bias", "encoders.1.0.conv2.weight", "middle_blks.0.beta", "ups.1.0.weight"])
@pytest.mark.parametrize("backend", ["onnxruntime", "auto"])
def test_a_graph_that_is_another_function(
    weights: Path, path: Path, monkeypatch: pytest.MonkeyPatch, key: str, backend: str
) -> None:
    right: Callable[..., Any] = nafnet.build_graph

    def wrong(weights: dict[str, NDArray[np.float32]], *rest: Any, **options: Any) -> Any:
        return right({**weights, key: weights[key] + np.float32(0.3)}, *rest, **options)

    monkeypatch.setattr(nafnet, "build_graph", wrong)
    with pytest.raises(BackendError, match=r"differs from torch by .* of the largest output"):
        quickly(weights, path, backend=backend)
    assert not path.exists()


# As many evaluations as fit


def test_a_time_chooses_the_evaluations(weights: Path, path: Path) -> None:
    made = build(weights, path, size=(8, 8), solver=SOLVER, backend="onnxruntime", max_latency=1e4, threads=1)
    latency = read_plan(path).manifest["latency"]
    assert latency["max_ms"] == 1e4
    fits = latency["evaluations"]
    assert {fit["steps"] for fit in fits} == set(loops.LADDER)
    best = max(fits, key=lambda fit: (fit["quality_db"], -fit["steps"]))
    assert made.manifest["solver"]["steps"] == len(made.table.rows) == best["steps"]
    assert made.modulation.shape[0] == best["steps"]
    # All else is as it was asked for.
    assert made.manifest["solver"] == replace(SOLVER, steps=best["steps"]).to_dict()
    assert restored_in_steps(path) == best["steps"]


def restored_in_steps(path: Path) -> int:
    with mrs.load(path, threads=1) as restorer, restorer.chain((1, 8, 8)) as chain:
        return len(chain.table.rows)


def test_without_a_time_there_is_nothing_about_it(weights: Path, path: Path) -> None:
    assert "latency" not in build(weights, path, size=(8, 8), solver=SOLVER, backend="onnxruntime").manifest


@pytest.mark.parametrize("milliseconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none(weights: Path, path: Path, milliseconds: float) -> None:
    with pytest.raises(InputError, match="is not a positive number of milliseconds"):
        build(weights, path, max_latency=milliseconds)
    assert not path.exists()


def test_a_time_that_is_too_short(weights: Path, path: Path) -> None:
    with pytest.raises(BackendError, match=r"in 1 evaluation takes .* ms here, more than 0\.0001 ms"):
        build(weights, path, size=(8, 8), backend="onnxruntime", solver=SOLVER, max_latency=1e-4, threads=1)
    assert not path.exists()


def test_a_solver_whose_evaluations_are_settled(weights: Path, path: Path) -> None:
    settled = Solver("dpm++", 2, steps=2, spacing="custom", times=(50.0, 20.0, 0.0))
    with pytest.raises(InputError, match="fixed number of evaluations"):
        build(weights, path, size=(8, 8), backend="onnxruntime", solver=settled, max_latency=100.0, threads=1)
