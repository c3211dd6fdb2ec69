"""`mrs-trt tune`: a search whose file `mrs-trt build` takes, from a checkpoint or a plan; wrong input is one line."""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mrs import Schedule, Solver
from mrs.commands.tune import table
from mrs.export.checkpoint import read_checkpoint
from mrs.numerics.solver_file import read_solver, write_solver
from mrs.runtime import backends
from mrs.runtime.plan import read_plan
from mrs.tuning import search as tuning
from mrs.tuning.search import Attempt, Tuned

pytestmark = pytest.mark.slow(15)

CANDIDATES = (Solver("dpm++", 2, last_step="lower-order"), Solver("deis", 2, "noise", last_step="full"))
SEARCHED = ["--evaluations", 3, "--crop", 8, "--pictures", 2, "--threads", 1]


@pytest.fixture(autouse=True)
def small(quick, monkeypatch) -> None:
    """A search of two solvers, on the backend of the plan."""
    monkeypatch.setattr(tuning, "REFERENCE_STEPS", 10)
    monkeypatch.setitem(tuning.tune.__kwdefaults__, "candidates", CANDIDATES)
    monkeypatch.setattr(backends.OpenVino, "missing", lambda self: "openvino is switched off")


@pytest.fixture
def tune(run, golden, tmp_path):
    """Tune nafnet_tiny with further arguments; what the file holds, and what the command said."""

    def call(*arguments: object, network: object = golden.weights, fit: bool = False) -> tuple[dict[str, Any], Any]:
        path = tmp_path / "tuned.json"
        flags = [] if fit else ["--no-fit"]
        result = run("tune", network, "-o", path, "--overwrite", *SEARCHED, *flags, *arguments)
        assert result.code == 0, result.err
        return json.loads(path.read_text()), result

    return call


# What is found


def test_a_checkpoint_and_a_plan_of_it_find_the_same(tune, plan, tmp_path) -> None:
    found, _ = tune("-q")
    of_plan, _ = tune("-q", network=plan)
    for name in ("solver", "schedule", "checkpoint", "evaluations", "pictures"):
        assert of_plan[name] == found[name]
    assert of_plan["to_reference_db"] == pytest.approx(found["to_reference_db"], abs=0.02)
    assert of_plan["published_ode_2_db"] == pytest.approx(found["published_ode_2_db"], abs=0.02)
    solver, schedule = read_solver(tmp_path / "tuned.json")
    assert schedule == Schedule()
    assert (solver.method, solver.steps, solver.spacing) in (("dpm++", 3, "custom"), ("deis", 3, "custom"))
    assert (solver.times[0], solver.times[-1], len(solver.times)) == (100, 0, 4)


def test_the_file_says_how_it_was_found(tune, golden) -> None:
    found, _ = tune()
    assert found["checkpoint"]["name"] == golden.weights.name
    assert found["checkpoint"]["sha256"] == read_checkpoint(golden.weights).sha256
    assert (found["evaluations"], found["pictures"]) == (3, [2, 8, 8, 3])
    assert len(found["table"]) == len(CANDIDATES)
    assert found["table"][0] == {"to_reference_db": found["to_reference_db"], "solver": found["solver"]}
    assert found["to_reference_db"] >= found["published_ode_2_db"]
    assert found["solvers_tried"] >= 1 + len(CANDIDATES) * len(tuning.POWERS)


def test_progress_is_apart_from_the_table(tune) -> None:
    found, loud = tune()
    assert loud.err.startswith("reference: ode-2 at 10 evaluations, 2 pictures\ndpm++-2 data lower-order: ")
    header, *lines, published, last = loud.out.splitlines()
    assert header.split() == ["solver", "prediction", "last", "step", "to", "100", "steps", "times"]
    for line, entry in zip(lines, found["table"], strict=True):
        solver = Solver(**entry["solver"])
        times = [f"{time:g}" for time in solver.times]
        distance = f"{entry['to_reference_db']:.2f}"
        assert line.split() == [solver.name, solver.prediction, solver.last_step, distance, "dB", *times]
    assert published.split()[:3] == ["ode-2", "data", "published"]
    # Thirds of 100 are no whole times.
    assert published.endswith(" 100 67 33 0  (as published)")
    gain = found["to_reference_db"] - found["published_ode_2_db"]
    assert last == f"{found['solvers_tried']} solvers tried; nearer than the published one by {gain:.1f} dB"
    quiet = tune("-q")[1]
    assert (quiet.out, quiet.err) == (loud.out, "")


def test_pictures_of_a_folder(tune, tmp_path, photo) -> None:
    folder = tmp_path / "clean"
    folder.mkdir()
    for index in range(5):
        Image.fromarray(photo(20 + index, 24)).save(folder / f"{index}.png")
    plain, _ = tune("-q", "--data", folder, "--pictures", 3, "--crop", 14)
    # Rounded down to the network's multiple of 4.
    assert plain["pictures"] == [3, 12, 12, 3]
    rainy, _ = tune("-q", "--data", folder, "--pictures", 3, "--crop", 14, "--degradation", "rain")
    assert rainy["to_reference_db"] != plain["to_reference_db"]


def test_options_of_the_process(tune) -> None:
    found, _ = tune("-q", "--max-sigma", 30, "--T", 40, "--convention", "ir-sde", "--interpolation", "exact")
    assert found["schedule"] == Schedule(max_sigma=30.0, T=40, convention="ir-sde", interpolation="exact").to_dict()
    assert found["solver"]["times"][0] == 40
    other, _ = tune("-q", "--network-output", "data")
    assert other["published_ode_2_db"] != tune("-q")[0]["published_ode_2_db"]


def test_the_time_of_a_search_reaches_it(tune, monkeypatch) -> None:
    given: dict[str, Any] = {}
    real = tuning.tune

    def spy(*arguments: Any, **options: Any) -> Tuned:
        given.update(options)
        return real(*arguments, **options)

    monkeypatch.setattr(tuning, "tune", spy)
    tune("-q")
    assert given["seconds"] == 300
    tune("-q", "--seconds", 7)
    assert given["seconds"] == 7


def test_pictures_that_are_not_finite_are_told_without_a_number(tune, monkeypatch) -> None:
    bad = Attempt(Solver("dpm++", 1, steps=3), -math.inf)
    found = Tuned(Attempt(Solver(steps=3), 31.5), bad, (Attempt(Solver(steps=3), 31.5), bad), 9)
    monkeypatch.setattr(tuning, "tune", lambda *arguments, **options: found)
    content, result = tune("-q")
    assert content["published_ode_2_db"] is None
    assert [entry["to_reference_db"] for entry in content["table"]] == [31.5, None]
    assert "     -inf dB" in result.out


def test_the_table_stands_straight() -> None:
    attempts = tuple(
        Attempt(Solver(method, 3, last_step="lower-order", steps=2, spacing="custom", times=(9.0, 5.0, 0.0)), distance)
        for method, distance in (("unipc-b2", 123.456), ("dpm++", 9.0))
    )
    lines = table(Tuned(attempts[0], Attempt(Solver(), 8.5), attempts, 7)).splitlines()
    assert {line.index(" dB ") for line in lines[1:-1]} == {lines[0].index("  times") - 3}
    assert lines[-1] == "7 solvers tried; nearer than the published one by 115.0 dB"


# What a build makes of it


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """A file as the search writes it, for the published schedule."""
    path = tmp_path / "tuned.json"
    write_solver(path, Solver("deis", 2, "noise", 3, "custom", times=(100.0, 31.0, 8.0, 0.0)), Schedule(), {})
    return path


@pytest.fixture
def built(run, golden, tmp_path):
    def call(*arguments: object) -> Path:
        path = tmp_path / "made.mrsplan"
        result = run(
            "build", golden.weights, "-o", path, "-q", "--overwrite", "--size", "16x16", "--threads", 1, *arguments
        )
        assert result.code == 0, result.err
        return path

    return call


def test_from_a_plan_over_its_tuned_solver_to_a_restored_picture(tune, built, run, plan, picture, tmp_path) -> None:
    found, _ = tune("-q", network=plan)
    path = built("--solver", tmp_path / "tuned.json")
    made = read_plan(path)
    assert made.manifest["solver"] == found["solver"]
    assert made.manifest["table"]["times"] == found["solver"]["times"]
    shown = run("inspect", path).out
    assert f"{found['solver']['steps']} evaluations, custom, " in shown
    rows = [line.split() for line in shown.splitlines()[-3:]]
    assert [float(row[0]) for row in rows] == found["solver"]["times"][:-1]
    assert run("restore", path, picture, "-o", tmp_path / "out.png", "-q", "--threads", 1).code == 0
    with Image.open(tmp_path / "out.png") as restored, Image.open(picture) as given:
        assert restored.size == given.size
        assert not np.array_equal(np.asarray(restored), np.asarray(given))
    # It can be tuned again.
    assert tune("-q", network=path)[0]["table"] == found["table"]


def test_fitted_weights_reach_the_plan(tune, built, run, plan, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(tuning.tune.__kwdefaults__, "candidates", CANDIDATES[1:])
    found, result = tune(fit=True)
    assert "fitting the weights of " in result.err
    weights = found["solver"]["weights"]
    assert [len(row) for row in weights] == [2, 3, 4]
    assert " fitted " in result.out.splitlines()[1]
    assert found["to_reference_db"] > tune("-q")[0]["to_reference_db"]
    # Rounding in the times' vectors moves the weights a little.
    of_plan, _ = tune("-q", network=plan, fit=True)
    assert of_plan["solver"]["times"] == found["solver"]["times"]
    assert of_plan["to_reference_db"] == pytest.approx(found["to_reference_db"], abs=0.2)
    tune("-q", fit=True)
    path = built("--solver", tmp_path / "tuned.json")
    manifest = read_plan(path).manifest
    assert manifest["solver"] == found["solver"]
    # ax, then b0 to b2, in columns of eleven.
    assert [[row[3], *row[5 : 4 + len(own)]] for row, own in zip(manifest["table"]["rows"], weights, strict=True)] == (
        weights
    )
    assert ", fitted weights\n" in run("inspect", path).out


def test_the_schedules_options_must_be_those_of_the_search(tune, built, refuse, golden, tmp_path) -> None:
    file = tmp_path / "tuned.json"
    tune("-q", "--max-sigma", 30)
    assert read_plan(built("--solver", file, "--max-sigma", 30)).manifest["schedule"]["max_sigma"] == 30
    for flags in ([], ["--max-sigma", 10], ["--max-sigma", 30, "--interpolation", "exact"]):
        refuse(
            "build", golden.weights, "-o", tmp_path / "new.mrsplan", "--solver", file, *flags,
            says=("tuned.json was found for another schedule than", "or give the schedule's options"),
        )  # fmt: skip


@pytest.mark.parametrize(
    "flags",
    [
        ["--steps", 5], ["--published"], ["--prediction", "noise"], ["--spacing", "linspace"], ["--lambda-min", -5],
        ["--last-step", "full"], ["--clamp", "none"], ["--stochasticity", 0], ["--momentum", 0],
        ["--start-time", 50], ["--denoise-last"], ["--noise-scale", 1], ["--start-noise", 1],
    ],
    ids=lambda flags: flags[0],
)  # fmt: skip
def test_a_solver_file_takes_no_other_option_of_the_solver(refuse, golden, tuned, tmp_path, flags) -> None:
    refuse(
        "build", golden.weights, "-o", tmp_path / "new.mrsplan", "--solver", tuned, *flags,
        says=("tuned.json settles the whole solver", "leave the other options of the solver out"),
    )  # fmt: skip


@pytest.mark.parametrize("content", [None, "", "[1, 2]", '{"format": "mrs-trt solver", "format_version": 7}'])
def test_a_build_refuses_what_is_no_solver_file(refuse, golden, tmp_path, content) -> None:
    path = tmp_path / "odd.json"
    if content is not None:
        path.write_text(content)
    refuse("build", golden.weights, "-o", tmp_path / "new.mrsplan", "--solver", path, says=(str(path), "; hint: "))


# What is refused


@pytest.fixture
def refuse_tune(refuse, golden, tmp_path):
    """`tune` that must fail; the last one given of an option counts."""

    def call(*arguments: object, says: object, network: object = golden.weights, output: str = "new.json") -> str:
        return refuse("tune", network, "-o", tmp_path / output, *SEARCHED, *arguments, says=says)

    return call


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--evaluations", "0"], "argument --evaluations: '0' is not a whole number of at least 1"),
        (["--evaluations", "1"], ("1 evaluations are outside 2 to 2000", "give few, such as 5")),
        (["--evaluations", "60"], ("60 evaluations are outside 2 to 50", "more need no search")),
        (["--evaluations", "9", "--T", "16"], "9 evaluations are outside 2 to 8"),
        (
            ["--evaluations", "60", "--data", "not/there"],
            ("folder not/there does not exist", "give a folder of pictures"),
        ),
        (["--evaluations", "5000"], "5000 evaluations are outside 2 to 2000"),
        (["--crop", "3"], ("crops of 3 pixels are too small", "this network needs at least 4")),
        (["--crop", "0"], "argument --crop: '0' is not a whole number of at least 1"),
        (["--pictures", "0"], "argument --pictures: '0' is not a whole number of at least 1"),
        (["--seconds", "soon"], "argument --seconds: 'soon' is not a whole number of at least 1"),
        (["--threads", "0"], "argument --threads: '0' is not a whole number"),
        (["--degradation", "rain"], ("the bundled pictures are degraded already", "give a folder")),
        (["--data", "no/such/folder"], ("folder no/such/folder does not exist", "give a folder of pictures")),
        (["--network-output", "score"], ("network output 'score' is unknown", "noise, data, velocity")),
        (["--max-sigma", "0"], "max_sigma 0.0 is outside [1, 255]"),
        (["--schedule", "sigmoid"], "invalid choice: 'sigmoid'"),
        (["--steps", "5"], "unrecognized arguments: --steps"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags(refuse_tune, flags, says) -> None:
    refuse_tune(*flags, says=says)


@pytest.mark.parametrize(
    "flags", [["--data", "no/such/folder"], ["--evaluations", "5000"], ["--degradation", "rain"]], ids=str
)
def test_what_needs_no_network_is_refused_before_torch_is_loaded(refuse_tune, monkeypatch, flags) -> None:
    monkeypatch.setattr("mrs.commands.arguments.require", lambda *_: pytest.fail("libraries were asked for"))
    refuse_tune(*flags, says="")


def test_a_plan_or_a_picture_is_not_replaced_by_a_solver(refuse, plan, pictures) -> None:
    alias = pictures / "alias.json"
    for read in (plan, pictures / "a.png"):
        alias.unlink(missing_ok=True)
        alias.symlink_to(read)
        refuse("tune", plan, "-o", alias, *SEARCHED, "--data", pictures, "--overwrite", says="it would be lost")


def test_folders_without_what_is_needed(refuse_tune, pictures, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    refuse_tune("--data", tmp_path / "empty", says=("empty holds no picture of at least 8x8", "use a smaller crop"))
    refuse_tune("--data", pictures, "--crop", 40, says="pictures holds no picture of at least 40x40 pixels")
    refuse_tune("--data", pictures, "--degradation", "fog", says=("degradation 'fog' is unknown", "use one of haze"))
    (pictures / "a.png").write_bytes(b"no picture")
    refuse_tune("--data", pictures, says="a.png")


def test_outputs_that_cannot_be(refuse_tune, tmp_path) -> None:
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "folder.json").mkdir()
    refuse_tune(output="old.json", says=("old.json exists", "pass --overwrite to replace it"))
    refuse_tune("--overwrite", output="folder.json", says="it is a folder")
    refuse_tune(output="missing/new.json", says="its folder does not exist")
    # `build --solver` would take it for the name of a solver.
    refuse_tune(output="tuned", says=("tuned does not end with .json", "use tuned.json"))


def test_the_output_is_checked_before_anything_is_read(refuse, tmp_path) -> None:
    (tmp_path / "old.json").write_text("old")
    refuse("tune", "missing.pth", "-o", tmp_path / "old.json", "--evaluations", 5, says="old.json exists")


@pytest.mark.parametrize(
    "flags", [["--max-sigma", 50], ["--T", 100], ["--convention", "ir-sde"], ["--network-output", "noise"]], ids=str
)
def test_a_plan_has_its_own_process(refuse_tune, plan, flags) -> None:
    refuse_tune(*flags, network=plan, says=("a plan has its own schedule and network output", "leave these"))


def stripped(plan: Path, path: Path, **changes: Any) -> Path:
    """A plan that is sound, with other contents."""
    made = read_plan(plan)
    manifest = {key: value for key, value in made.manifest.items() if not key.startswith(("format", "members"))}
    manifest |= changes.pop("manifest", {})
    replace(made, manifest={key: value for key, value in manifest.items() if value is not None}, **changes).save(path)
    return path


def test_plans_that_lack_what_a_search_needs(refuse_tune, plan, tmp_path) -> None:
    path = tmp_path / "other.mrsplan"
    stripped(plan, path, timetable=None)
    refuse_tune(network=path, says=("does not hold its network at other times", "give the checkpoint instead"))
    stripped(plan, path, manifest={"schedule": None})
    refuse_tune(network=path, says=("other.mrsplan does not say its schedule: 'schedule'", "build it again"))
    stripped(plan, path, manifest={"schedule": {"beta": 1}})
    refuse_tune(network=path, says=("other.mrsplan does not say its schedule: ", "beta"))
    stripped(plan, path, manifest={"schedule": {"kind": "square"}})
    refuse_tune(network=path, says="schedule kind 'square' is unknown")
    stripped(plan, path, manifest={"output": "score"})
    refuse_tune(network=path, says="network output 'score' is unknown")
    stripped(plan, path, manifest={"backend": "abacus"})
    refuse_tune(network=path, says="backend 'abacus' is unknown")
    stripped(plan, path, manifest={"backend": "openvino"})
    refuse_tune(network=path, says="the plan's backend cannot run here: openvino is switched off")


def test_a_damaged_plan(refuse_tune, plan, tmp_path) -> None:
    content = bytearray(plan.read_bytes())
    with zipfile.ZipFile(plan) as archive:
        member = archive.getinfo("timetable.npy")
    content[member.header_offset + 30 + len(member.filename) + member.file_size // 2] ^= 1
    (tmp_path / "bad.mrsplan").write_bytes(content)
    refuse_tune(network=tmp_path / "bad.mrsplan", says=("bad.mrsplan is damaged: timetable.npy", "build it again"))
    (tmp_path / "bad.mrsplan").write_bytes(content[:1000])
    refuse_tune(network=tmp_path / "bad.mrsplan", says="bad.mrsplan is not a readable checkpoint")


def test_networks_that_are_none(refuse_tune, picture, tmp_path) -> None:
    refuse_tune(network=tmp_path / "missing.pth", says=("missing.pth does not exist", "give a .pth"))
    refuse_tune(network="sunshine", says="checkpoint sunshine does not exist")
    refuse_tune(network=tmp_path, says="is a folder")
    refuse_tune(network=picture, says="picture.png is not a checkpoint")


@pytest.mark.usefixtures("no_space")
def test_a_full_disk(run, golden, tmp_path) -> None:
    result = run("tune", golden.weights, "-o", tmp_path / "new.json", "-q", *SEARCHED)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"error: cannot write {tmp_path / 'new.json'}: No space left on device; hint: " + (
        "make room, or name a file on another disk\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_without_libraries_or_backends(refuse_tune, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("mrs.commands.arguments.find_spec", lambda name: None if name == "torch" else SimpleNamespace())
        refuse_tune(says=("torch not installed", 'hint: pip install "mrs-trt[build]"'))
    for backend in backends.BACKENDS.values():
        monkeypatch.setattr(type(backend), "missing", lambda self: f"{self.name} is not installed")
    refuse_tune(says=("no backend can run here", "pip install openvino"))


def test_help_shows_examples_that_are_understood(run) -> None:
    text = run("tune", "--help").out
    examples = [line.split()[1:] for line in text.splitlines() if line.startswith("  mrs-trt ")]
    assert [words[0] for words in examples] == ["tune", "tune", "tune", "tune", "build"]
    from mrs import cli

    for words in examples:
        options = cli.parser().parse_args(words)
        assert str(options.output).endswith((".json", ".mrsplan"))
